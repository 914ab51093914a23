"""Nothing leaves the manager before what it says is durable (invariant 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.manager.harness import (
    DEADLINE_SECONDS,
    Manager,
    fake_worker,
    running_manager,
    settle,
    submit_request,
    until,
)
from titan.manager.translate import submit_command
from titan.rpc.v1 import manager_pb2, worker_pb2

Selector = manager_pb2.JobSelector

# Every kind of answer to users: of a write, of a read, of a repeat, empty ones and refusals.
CALLS: dict[str, Callable[[Manager], Awaitable[Any]]] = {
    "submit": lambda m: m.submit(),
    "repeated submit": lambda m: m.submit(request_id=b"r" * 16),
    "refused submit": lambda m: m.submit(jobs=0),
    "status": lambda m: m.users.GetJobStatus(
        manager_pb2.GetJobStatusRequest(job=Selector(job_id=1)), metadata=m.metadata
    ),
    "status of no job": lambda m: m.users.GetJobStatus(
        manager_pb2.GetJobStatusRequest(job=Selector(job_id=9)), metadata=m.metadata
    ),
    "list": lambda m: m.users.ListJobs(manager_pb2.ListJobsRequest(), metadata=m.metadata),
    "cancel": lambda m: m.users.CancelJob(
        manager_pb2.CancelJobRequest(jobs=[Selector(job_id=1)]), metadata=m.metadata
    ),
    "cancel of no job": lambda m: m.users.CancelJob(
        manager_pb2.CancelJobRequest(jobs=[Selector(job_id=9)]), metadata=m.metadata
    ),
    "workers": lambda m: m.users.ListWorkers(manager_pb2.ListWorkersRequest(), metadata=m.metadata),
    "stats": lambda m: m.users.GetStats(manager_pb2.GetStatsRequest(), metadata=m.metadata),
    "watch": lambda m: anext(
        aiter(m.users.WatchJobs(manager_pb2.WatchJobsRequest(), metadata=m.metadata))
    ),
    "report of a stranger": lambda m: m.workers.ReportTaskStatus(
        worker_pb2.ReportTaskStatusRequest(session=b"x"), metadata=m.metadata
    ),
}
REFUSALS = {
    "refused submit": grpc.StatusCode.INVALID_ARGUMENT,
    "status of no job": grpc.StatusCode.NOT_FOUND,
    "cancel of no job": grpc.StatusCode.NOT_FOUND,
    "report of a stranger": grpc.StatusCode.FAILED_PRECONDITION,
}


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_waits_for_the_disk_even_if_it_decided_nothing_itself(name: str) -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(request_id=b"r" * 16)
            manager.disk.held = True
            records = len(manager.disk.records)
            # Somebody else's submit is decided and not durable yet.
            earlier = asyncio.ensure_future(manager.submit())
            await until(lambda: len(manager.disk.records) > records)
            called = asyncio.ensure_future(CALLS[name](manager))
            await settle()
            assert not earlier.done()
            assert not called.done(), "it may depend on what is not durable"
            manager.disk.release()
            await earlier
            answers: list[object] = await asyncio.gather(called, return_exceptions=True)
            answer = answers[0]
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.aio.AioRpcError)
                assert answer.code() is REFUSALS[name]
            else:
                assert name not in REFUSALS

    asyncio.run(scenario())


def test_a_heartbeat_is_answered_at_once_since_the_answer_says_nothing() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            session = (await manager.register(worker)).session
            manager.disk.held = True
            pending = asyncio.ensure_future(manager.submit())
            beat = worker_pb2.HeartbeatRequest(session=session)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await manager.workers.Heartbeat(beat, metadata=manager.metadata)
            assert not pending.done()
            manager.disk.release()
            await pending

    asyncio.run(scenario())


def test_a_worker_hears_of_a_task_only_when_its_assignment_is_durable() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            manager.disk.held = True
            submitted = asyncio.ensure_future(manager.submit())
            await until(lambda: manager.shell.kernel.state.task_counts[1] == 1)
            await settle()
            assert worker.starts == []
            assert not submitted.done()
            manager.disk.release()
            await until(lambda: worker.starts)
            await submitted
            (request,) = worker.starts
            assert [(each.index, each.attempt) for each in request.starts] == [(0, 1)]
            assert worker.tokens == ["its own"]

    asyncio.run(scenario())


def test_a_watch_tells_of_a_change_only_when_that_is_durable() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            watch = manager.watch()
            assert not (await anext(watch)).jobs
            manager.disk.held = True
            submitted = asyncio.ensure_future(manager.submit())
            await until(lambda: manager.shell.kernel.state.jobs)
            told = asyncio.ensure_future(anext(watch))
            await settle()
            assert not told.done()
            manager.disk.release()
            await submitted
            assert [job.job_id for job in (await told).jobs] == [1]

    asyncio.run(scenario())


def test_what_is_decided_in_one_turn_is_one_record_with_its_assignments() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            before = len(manager.disk.records)
            for _ in range(3):
                manager.shell.execute(submit_command(submit_request(1)))
            await until(lambda: worker.starts)
            assert len(manager.disk.records) == before + 1
            assert sum(len(request.starts) for request in worker.starts) == 3

    asyncio.run(scenario())
