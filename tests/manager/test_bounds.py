"""What is bounded so that no caller, and no worker, can break the manager."""

from __future__ import annotations

import asyncio

from tests.manager.harness import running_manager
from titan import events as ev
from titan.manager.kernel.commands import SetPolicy
from titan.manager.kernel.desk import EVENTS_PER_RECORD_MAX, Desk, Settings
from titan.model import IndexRange, State
from titan.state.attempts import AttemptLog
from titan.state.cluster import ClusterState

BEYOND = 1 << 40


def test_a_key_that_no_attempt_can_have_is_not_found_instead_of_an_error() -> None:
    log = AttemptLog()
    assert log.find(-1, 1) is None
    assert log.find(0, -1) is None
    assert log.find(BEYOND, 1) is None
    assert log.of_index(-1) == []
    assert log.of_index(BEYOND) == []


def test_more_cancels_than_a_record_takes_go_on_in_the_next_one() -> None:
    desk = Desk(ClusterState(), Settings())
    desk.emit(ev.ClusterCreated(b"c" * 16))
    desk.emit(ev.EnvironmentStored(b"e", (), ()))
    tasks = (IndexRange(0, EVENTS_PER_RECORD_MAX + 1),)
    desk.emit(ev.JobSubmitted(1, "u", "n", (b"true",), b"/", b"e", 1000, 0, (), 0, tasks))
    desk.take_record()

    for index in range(EVENTS_PER_RECORD_MAX + 1):
        desk.emit(ev.CancelRequested(1, (IndexRange(index, index + 1),), 0))

    records = []
    while (record := desk.take_record()) is not None:
        records.append(record)
    assert [len(events) for _, events in records] == [EVENTS_PER_RECORD_MAX, 1]
    assert desk.state.lsn == 1 + len(records)
    assert desk.state.get_job(1).state is State.CANCELLED


def test_each_change_of_the_policy_begins_a_record_of_its_own() -> None:
    async def play() -> None:
        async with running_manager() as manager:
            before = manager.shell.lsn
            for cpus_milli in (1, 2, 3):
                limits = tuple((str(user), cpus_milli) for user in range(1_000))
                manager.shell.execute(SetPolicy(user="root", user_limits=limits))
            assert manager.shell.lsn == before + 3

    asyncio.run(play())
