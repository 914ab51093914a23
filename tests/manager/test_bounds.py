"""What is bounded so that no caller, and no worker, can break the manager."""

from __future__ import annotations

import asyncio
from itertools import islice, product

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
    # Of many jobs: what one has cancelled is looked through for each more.
    per_job = 200
    tasks = (IndexRange(0, per_job),)
    jobs = range(1, EVENTS_PER_RECORD_MAX // per_job + 2)
    for job_id in jobs:
        desk.emit(ev.JobSubmitted(job_id, "u", "n", (b"true",), b"/", b"e", 1000, 0, (), 0, tasks))
    desk.take_record()

    for job_id, index in islice(product(jobs, range(per_job)), EVENTS_PER_RECORD_MAX + 1):
        desk.emit(ev.CancelRequested(job_id, (IndexRange(index, index + 1),), 0))

    records = []
    while (record := desk.take_record()) is not None:
        records.append(record)
    assert [len(events) for _, events in records] == [EVENTS_PER_RECORD_MAX, 1]
    assert desk.state.lsn == 1 + len(records)
    states = [desk.state.get_job(job_id).state for job_id in jobs]
    assert states == [State.CANCELLED] * (len(jobs) - 1) + [State.PENDING]
    last = desk.state.get_job(jobs[-1]).cancelled
    assert last is not None
    assert last.count == 1


def test_each_change_of_the_policy_begins_a_record_of_its_own() -> None:
    async def play() -> None:
        async with running_manager() as manager:
            before = manager.shell.lsn
            for cpus_milli in (1, 2, 3):
                limits = tuple((str(user), cpus_milli) for user in range(1_000))
                manager.shell.execute(SetPolicy(user="root", user_limits=limits))
            assert manager.shell.lsn == before + 3

    asyncio.run(play())
