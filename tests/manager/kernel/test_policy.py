"""The policy: flags until somebody sets it, then what was set; and limits of users."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.builders import Rig, check_refused, new_job
from titan import events as ev
from titan.errors import InvalidJob
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import SetPolicy
from titan.manager.kernel.policy import USER_LIMITS_MAX, policy_in_force
from titan.model import State
from titan.scheduling import ORDERS, PLACEMENTS, PREEMPTIONS


def in_force(rig: Rig) -> ev.PolicySet:
    return policy_in_force(rig.state, rig.settings)


def test_without_a_word_the_flags_count() -> None:
    rig = Rig(settings=Settings(order="fcfs", policy="spread", user_cpus_milli=1500))
    assert rig.state.policy is None
    policy = in_force(rig)
    assert ORDERS[policy.order - 1] == "fcfs"
    assert PLACEMENTS[policy.placement - 1] == "spread"
    assert policy.user_limits == (("", 1500),)


def test_what_is_set_wins_over_the_flags_after_a_restart() -> None:
    rig = Rig(settings=Settings(order="fcfs"))
    (event,) = rig.set_policy(order="skip", preempt="requeue")
    assert event == rig.state.policy
    rig.settings = Settings(order="easy", policy="bin-packing")
    for _ in range(2):
        rig.restart()
        assert ORDERS[in_force(rig).order - 1] == "skip"
        assert PLACEMENTS[in_force(rig).placement - 1] == PLACEMENTS[0], "as it was when it was set"


def test_what_is_not_named_stays() -> None:
    rig = Rig()
    rig.set_policy(
        placement="spread", order="skip", fair_share=True, preempt="suspend",
        reserve_after_ms=5, user_limits=(("ada", 2000), ("", 4000)),
    )  # fmt: skip
    before = in_force(rig)
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"order": "fcfs"}, {"order": 1 + ORDERS.index("fcfs")}),
        ({"placement": PLACEMENTS[1]}, {"placement": 2}),
        ({"fair_share": False}, {"fair_share": False}),
        ({"preempt": "off"}, {"preempt": 1 + PREEMPTIONS.index("off")}),
        ({"reserve_after_ms": 0}, {"reserve_after_ms": 0}),
        (
            {"user_limits": (("grace", 1000),)},
            {"user_limits": (("", 4000), ("ada", 2000), ("grace", 1000))},
        ),
        # One user may be free of what limits all others; without such a limit nothing is to say.
        (
            {"user_limits": (("ada", 0),)},
            {"user_limits": (("", 4000), ("ada", 0), ("grace", 1000))},
        ),
        ({"user_limits": (("grace", 0), ("", 0))}, {"user_limits": (("ada", 0), ("grace", 0))}),
    ]
    for changes, expected in cases:
        rig.set_policy(**changes)
        before = before._replace(**expected)
        assert in_force(rig) == before


def test_setting_what_is_set_writes_nothing_but_for_the_first_time() -> None:
    rig = Rig()
    assert len(rig.set_policy(order="easy")) == 1, "from now on it wins over the flags"
    assert rig.set_policy(order="easy") == []


@pytest.mark.parametrize(
    "command",
    [
        SetPolicy(user="root", order="random"),
        SetPolicy(user="root", placement="best"),
        SetPolicy(user="root", preempt="kill"),
        SetPolicy(user="root", reserve_after_ms=-1),
        SetPolicy(user="root", user_limits=(("ada", -1),)),
        SetPolicy(user="root", user_limits=(("a" * 9999, 1),)),
        SetPolicy(
            user="root", user_limits=tuple((f"u{each}", 1) for each in range(USER_LIMITS_MAX + 1))
        ),
    ],
    ids=[
        "an order", "a placement", "a way to preempt", "a negative time", "negative cpus",
        "a long name", "too many users",
    ],
)  # fmt: skip
def test_names_and_numbers_that_are_none_change_nothing(command: SetPolicy) -> None:
    check_refused(Rig(), command, InvalidJob)


def test_a_user_has_no_more_cpus_at_once_than_the_limit_and_others_go_past() -> None:
    rig = Rig()
    host = rig.worker(8)
    rig.set_policy(user_limits=(("ada", 2000),))
    rig.submit(new_job(array=[(0, 5)], priority=5))
    rig.submit(new_job(array=[(0, 3)]), user="grace")
    rig.start_here(host, 1, 0)
    assert list(rig.state.get_job(1).counts) == [3, 0, 2, 0, 0, 0]
    assert list(rig.state.get_job(2).counts) == [0, 0, 3, 0, 0, 0]
    # What stands still counts no more, and a restart forgets nothing of it.
    rig.suspend(1)
    assert rig.state.usage.user_cpus_milli == {"grace": 3000}
    rig.restart()
    host.register()
    assert rig.state.usage.user_cpus_milli == {"grace": 3000}
    rig.submit(new_job(array=[(0, 5)]))
    rig.schedule()
    assert list(rig.state.get_job(3).counts) == [3, 2, 0, 0, 0, 0]


def test_a_limit_for_whoever_is_not_named_is_of_each_of_them() -> None:
    rig = Rig()
    rig.worker(8)
    rig.set_policy(user_limits=(("", 1000), ("grace", 0)))
    for user in ("ada", "edsger", "grace"):
        rig.submit(new_job(array=[(0, 2)]), user=user)
    rig.schedule()
    assert [rig.state.get_job(each).counts[:2] for each in (1, 2, 3)] == [[1, 1], [1, 1], [0, 2]]


def test_another_policy_counts_for_the_next_pass() -> None:
    rig = Rig(settings=Settings(order="fcfs"))
    rig.worker(2)
    rig.worker(8)
    rig.submit(new_job(cpus=7), new_job(cpus=3))
    rig.submit(new_job(cpus=6), new_job())
    rig.schedule()
    assert rig.task_state(4) is State.PENDING
    rig.set_policy(order="skip")
    rig.schedule()
    assert rig.task_state(4) is State.SCHEDULED
