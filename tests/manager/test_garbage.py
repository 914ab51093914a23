"""When the collector is asked, and for what."""

from __future__ import annotations

import pytest

from titan.manager import garbage
from titan.manager.garbage import FREEZES_MAX, KEPT_MIN, STAYED_MAX, YOUNG_MAX, Collector

YOUNG_TIMES = STAYED_MAX // YOUNG_MAX


class FakeGc:
    """What was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.young = 0
        self.kept = 0

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: self.asked.append(" ".join([name, *map(str, arguments)]))

    def get_count(self) -> tuple[int, int, int]:
        return self.young, 0, 0

    def get_objects(self, generation: int) -> range:
        assert generation == 2
        return range(self.kept)

    def take_asked(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGc:
    fake = FakeGc()
    monkeypatch.setattr(garbage, "gc", fake)
    return fake


def test_few_young_objects_are_left_alone(fake: FakeGc) -> None:
    collector = Collector()
    assert fake.take_asked() == ["disable", "freeze"]
    fake.young = YOUNG_MAX - 1
    collector.collect_if_due()
    assert not fake.take_asked()


def test_many_are_searched_and_those_that_stayed_when_they_are_many(fake: FakeGc) -> None:
    collector = Collector()
    fake.take_asked()
    fake.young = YOUNG_MAX
    for _ in range(YOUNG_TIMES):
        collector.collect_if_due()
    assert fake.take_asked() == ["collect 1"] * YOUNG_TIMES + ["collect"]


def test_what_is_much_and_no_garbage_is_set_aside_and_after_a_hundred_times_looked_at(
    fake: FakeGc,
) -> None:
    collector = Collector()
    fake.take_asked()
    fake.young, fake.kept = YOUNG_MAX, KEPT_MIN
    for turn in range(FREEZES_MAX + 2):
        for _ in range(YOUNG_TIMES):
            collector.collect_if_due()
        asked = [each for each in fake.take_asked() if each != "collect 1"]
        is_whole = turn == FREEZES_MAX
        assert asked == [*(["unfreeze"] if is_whole else []), "collect", "freeze"]
