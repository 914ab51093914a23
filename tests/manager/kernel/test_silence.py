"""Storms: many workers that fall silent at once are held back, few are not."""

from __future__ import annotations

import pytest

from tests.manager.builders import SECOND_US, TIMEOUT_US, FakeHost, Rig, new_job, only
from titan import events as ev
from titan.model import State, WorkerState

HELD = "fell silent together with 3 of 9 other workers"


def fleet(rig: Rig, count: int) -> list[FakeHost]:
    return [rig.worker() for _ in range(count)]


def beat(rig: Rig, hosts: list[FakeHost], seconds: int) -> list[ev.Event]:
    """So much time, in which only these are heard."""
    happened: list[ev.Event] = []
    for _ in range(seconds):
        for host in hosts:
            host.heartbeat()
        happened += rig.tick(SECOND_US)
    return happened


def lost(events: list[ev.Event]) -> list[int]:
    return [each.worker for each in only(events, ev.WorkerLost)]


TIMEOUT_SECONDS = TIMEOUT_US // SECOND_US


def test_a_silent_part_of_the_fleet_is_held_back_for_one_more_timeout() -> None:
    rig = Rig()
    hosts = fleet(rig, 10)
    (job_id,) = rig.submit(new_job())
    rig.start_here(hosts[0], job_id)
    happened = beat(rig, hosts[4:], TIMEOUT_SECONDS + 1)
    assert lost(happened) == []
    faults = {each.worker: each.reason for each in only(happened, ev.WorkerUnhealthy)}
    assert sorted(faults) == [1, 2, 3, 4]
    assert all(each.startswith(HELD) for each in faults.values())
    assert rig.task_state(job_id) is State.RUNNING
    assert rig.state.get_worker(1).fault == faults[1], "it is seen who is held back, and why"
    # Nothing new is said of it until the second timeout is over.
    happened = beat(rig, hosts[4:], TIMEOUT_SECONDS - 2)
    assert only(happened, ev.WorkerUnhealthy) == lost(happened) == []
    assert sorted(lost(beat(rig, hosts[4:], 2))) == [1, 2, 3, 4]
    assert rig.task_state(job_id) is State.PENDING


def test_who_is_heard_again_meanwhile_keeps_what_it_runs_and_is_healthy() -> None:
    rig = Rig()
    hosts = fleet(rig, 10)
    (job_id,) = rig.submit(new_job())
    rig.start_here(hosts[0], job_id)
    beat(rig, hosts[4:], TIMEOUT_SECONDS + 5)
    hosts[0].heartbeat()
    assert rig.state.get_worker(1).state is WorkerState.HEALTHY
    assert rig.task_state(job_id) is State.RUNNING
    # The next time it is one alone.
    assert lost(beat(rig, hosts[4:], TIMEOUT_SECONDS)) == [2, 3, 4, 1]


@pytest.mark.parametrize(
    ("workers", "silent"),
    [(3, 3), (10, 3), (12, 4), (13, 4)],
    ids=["all of three", "three of ten", "a third", "less than a third"],
)
def test_a_small_fleet_or_a_small_part_of_it_is_lost_at_once(workers: int, silent: int) -> None:
    rig = Rig()
    hosts = fleet(rig, workers)
    happened = beat(rig, hosts[silent:], TIMEOUT_SECONDS)
    assert sorted(lost(happened)) == list(range(1, silent + 1))


@pytest.mark.parametrize("workers", [4, 11], ids=["all", "more than a third"])
def test_four_of_a_fleet_are_enough(workers: int) -> None:
    rig = Rig()
    hosts = fleet(rig, workers)
    assert lost(beat(rig, hosts[4:], TIMEOUT_SECONDS + 1)) == []


def test_those_that_fall_silent_one_by_one_are_lost_in_time() -> None:
    rig = Rig()
    hosts = fleet(rig, 10)
    # Four seconds apart: no four of them within ten.
    happened: list[ev.Event] = []
    for number in range(1, 5):
        happened += beat(rig, hosts[number:], 4)
    happened += beat(rig, hosts[4:], TIMEOUT_SECONDS)
    assert lost(happened) == [1, 2, 3, 4]


def test_a_second_silence_during_the_first_is_judged_by_itself() -> None:
    rig = Rig()
    hosts = fleet(rig, 12)
    beat(rig, hosts[5:], 20)
    # One more, fifteen seconds before the five others are due.
    happened = beat(rig, hosts[6:], TIMEOUT_SECONDS + 1)
    assert lost(happened) == [6], "it was not one of many"
    assert rig.state.get_worker(1).state is WorkerState.UNHEALTHY


def test_without_room_they_are_held_back_as_well() -> None:
    rig = Rig()
    hosts = fleet(rig, 4)
    rig.kernel.room = False
    assert beat(rig, [], TIMEOUT_SECONDS + 1) == []
    assert lost(beat(rig, [], TIMEOUT_SECONDS)) == [host.number for host in hosts]


def test_after_a_restart_all_are_waited_for_and_many_that_stay_away_are_held_back() -> None:
    rig = Rig()
    hosts = fleet(rig, 6)
    rig.restart()
    happened: list[ev.Event] = []
    for _ in range(TIMEOUT_SECONDS):
        happened += rig.tick(SECOND_US)
    assert lost(happened) == []
    hosts[0].register()
    for _ in range(TIMEOUT_SECONDS):
        hosts[0].heartbeat()
        happened += rig.tick(SECOND_US)
    assert sorted(lost(happened)) == [2, 3, 4, 5, 6]
