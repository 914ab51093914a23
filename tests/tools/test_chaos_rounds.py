"""The script of faults of `make chaos-ha`."""

from __future__ import annotations

from collections import Counter

from tools.chaos.several.rounds import KINDS, NAMES, Round, draw_rounds


def draw(seed: int, count: int = 50, **options: list[str]) -> list[Round]:
    return draw_rounds(seed, count=count, lease_seconds=2, timeout_seconds=6, **options)


def test_a_seed_draws_the_same_rounds_again_and_another_seed_others() -> None:
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_each_kind_comes_once_before_any_comes_again_and_fifty_rounds_have_all_often() -> None:
    for seed in range(5):
        names = [each.name for each in draw(seed)]
        assert {*names[: len(NAMES)]} == {*NAMES}
        assert min(Counter(names).values()) >= 3


def test_only_kinds_that_are_asked_for_come() -> None:
    assert {each.name for each in draw(1, 20, kinds=["fail-over", "step-down"])} == {
        "fail-over",
        "step-down",
    }


def test_two_faults_at_once_are_on_different_things_and_all_others_alone() -> None:
    on = {kind: what for what, kinds in KINDS.items() for kind in kinds}
    for seed in range(20):
        for each in draw(seed):
            assert len(each.faults) == (2 if each.name == "double" else 1)
            assert len({on[fault.kind] for fault in each.faults}) == len(each.faults)
            assert each.faults[0].at_seconds == 0


def test_a_leader_is_stopped_past_its_lease_more_often_than_not() -> None:
    seconds = [
        fault.seconds
        for seed in range(20)
        for each in draw(seed)
        for fault in each.faults
        if fault.kind == "stop-leader"
    ]
    assert sum(each > 3 for each in seconds) > len(seconds) / 2
    assert not [each for each in seconds if 1 < each < 3]
