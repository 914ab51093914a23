"""What happens in the cluster as lines of the manager's log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.manager.harness import FakeWorker, Manager, fake_worker, running_manager, until
from titan.logs import LogLine
from titan.manager.event_log import EventLog
from titan.rpc.v1 import manager_pb2, types_pb2, worker_pb2


@asynccontextmanager
async def telling_manager() -> AsyncIterator[Manager]:
    async with running_manager() as manager:
        running = asyncio.create_task(EventLog(manager.shell).run())
        try:
            yield manager
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """The events, and their fields without the LSN, which rises.

    The manager tells other things too, as of a batch that its end cut off.
    """
    events = [each.msg for each in caplog.records if each.name == "titan.events"]
    lines = [line for line in events if isinstance(line, LogLine)]
    assert len(lines) == len(events)
    lsns = [int(str(line.fields["lsn"])) for line in lines]
    assert lsns == sorted(lsns)
    return [
        (line.message, {name: value for name, value in line.fields.items() if name != "lsn"})
        for line in lines
    ]


async def report(
    manager: Manager, session: bytes, worker: FakeWorker, *reports: worker_pb2.TaskReport
) -> None:
    """Of the attempt that the worker got first."""
    for seq, each in enumerate(reports, 1):
        each.seq = seq
        each.key.CopyFrom(key_of(worker))
    await manager.workers.ReportTaskStatus(
        worker_pb2.ReportTaskStatusRequest(
            session=session, first_seq=1, last_seq=len(reports), reports=reports
        ),
        metadata=manager.metadata,
    )


def key_of(worker: FakeWorker) -> types_pb2.AttemptKey:
    request = worker.starts[0]
    start, spec = request.starts[0], request.specs[0]
    return types_pb2.AttemptKey(
        epoch=spec.epoch, job_id=spec.job_id, index=start.index, attempt=start.attempt
    )


def test_each_step_of_a_job_is_a_line_with_job_task_attempt_worker_and_lsn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with telling_manager() as manager, fake_worker() as worker:
            session = (await manager.register(worker)).session
            await manager.submit()
            await until(lambda: bool(worker.starts))
            started = worker_pb2.TaskReport(kind=worker_pb2.REPORT_STARTED, start_us=1_000_000)
            ended = worker_pb2.TaskReport(
                kind=worker_pb2.REPORT_ENDED, state=types_pb2.FAILED, exit_code=3,
                reason=types_pb2.REASON_EXIT, start_us=1_000_000, end_us=2_500_000,
            )  # fmt: skip
            await report(manager, session, worker, started, ended)
            # No worker is there for it any more.
            await manager.workers.DeregisterWorker(
                worker_pb2.DeregisterWorkerRequest(session=session), metadata=manager.metadata
            )
            await manager.submit()
            cancel = manager_pb2.CancelJobRequest(
                user="u", jobs=[manager_pb2.JobSelector(job_id=2)]
            )
            await manager.users.CancelJob(cancel, metadata=manager.metadata)
            await until(lambda: len(told(caplog)) >= 8)
            address = worker.address
        attempt = {"job": 1, "task": 0, "attempt": 1, "worker": "w1"}
        submitted = {"name": "n", "user": "u", "tasks": 1}
        end = {"state": "FAILED", "reason": "EXIT", "exit_code": 3, "seconds": 1.5}
        assert told(caplog) == [
            ("worker registered", {"worker": "w1", "address": address}),
            ("job submitted", {"job": 1, **submitted}),
            ("task assigned", attempt),
            ("task started", attempt),
            ("task ended", attempt | end),
            ("worker deregistered", {"worker": "w1"}),
            ("job submitted", {"job": 2, **submitted}),
            ("cancel requested", {"job": 2, "user": "u"}),
        ]

    caplog.set_level(logging.DEBUG, "titan.events")
    asyncio.run(scenario())


def test_at_info_only_what_happens_to_workers_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with telling_manager() as manager, fake_worker() as worker:
            session = (await manager.register(worker)).session
            await manager.submit()
            await until(lambda: bool(worker.starts))
            await manager.workers.DeregisterWorker(
                worker_pb2.DeregisterWorkerRequest(session=session), metadata=manager.metadata
            )
            await until(lambda: len(told(caplog)) >= 2)
        assert [message for message, _ in told(caplog)] == [
            "worker registered",
            "worker deregistered",
        ]

    caplog.set_level(logging.INFO, "titan.events")
    asyncio.run(scenario())


def test_nothing_is_told_before_it_is_durable(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with telling_manager() as manager:
            manager.disk.held = True
            records = len(manager.disk.records)
            submitting = asyncio.create_task(manager.submit())
            await until(lambda: len(manager.disk.records) > records)
            for _ in range(5):
                await asyncio.sleep(0)
            assert told(caplog) == []
            manager.disk.release()
            await submitting
            await until(lambda: bool(told(caplog)))

    caplog.set_level(logging.DEBUG, "titan.events")
    asyncio.run(scenario())
    assert [message for message, _ in told(caplog)] == ["job submitted"]


def test_an_attempt_from_before_the_start_is_told_with_its_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            session = (await manager.register(worker)).session
            await manager.submit()
            await until(lambda: bool(worker.starts))
            running = asyncio.create_task(EventLog(manager.shell).run())
            recalled = worker_pb2.TaskReport(kind=worker_pb2.REPORT_RECALLED)
            await report(manager, session, worker, recalled)
            await until(lambda: bool(told(caplog)))
            running.cancel()

    caplog.set_level(logging.DEBUG, "titan.events")
    asyncio.run(scenario())
    named = {"job": 1, "task": 0, "attempt": 1, "worker": "w1"}
    assert told(caplog)[0] == ("task recalled", named)
