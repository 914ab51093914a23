"""ListTasks and GetWorkflow of what is now, and a watch that is not told too often."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from tests.manager.harness import Manager, running_manager
from titan.model import State
from titan.rpc.v1 import manager_pb2, types_pb2


async def submit(manager: Manager, *jobs: manager_pb2.JobSpec) -> None:
    request = manager_pb2.SubmitJobRequest(
        user="u", jobs=jobs, environments=[types_pb2.Environment()]
    )
    await manager.users.SubmitJob(request, metadata=manager.metadata)


def spec(tasks: int = 1, *, after: int | None = None) -> manager_pb2.JobSpec:
    made = manager_pb2.JobSpec(name="n", command=[b"true"], cwd=b"/")
    made.resources.cpus_milli = 1000
    if tasks > 1:
        made.array.add(start=0, stop=tasks, step=1)
    if after is not None:
        made.scheduling.after.add(job=manager_pb2.JobReference(position=after))
    return made


def test_the_tasks_of_a_job_are_listed() -> None:
    async def scene() -> None:
        async with running_manager() as manager:
            await submit(manager, spec(5))
            cancel = manager_pb2.CancelJobRequest(user="u")
            cancel.jobs.add(job_id=1).indexes.add(start=1, stop=3, step=1)
            await manager.users.CancelJob(cancel, metadata=manager.metadata)
            request = manager_pb2.ListTasksRequest(job=manager_pb2.JobSelector(job_id=1), count=4)
            answer = await manager.users.ListTasks(request, metadata=manager.metadata)
            wanted = [State.PENDING, State.CANCELLED, State.CANCELLED, State.PENDING]
            assert list(answer.states) == wanted
            assert (answer.total, answer.at_us) == (5, 0)
            request.job.job_id = 9
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await manager.users.ListTasks(request, metadata=manager.metadata)
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(scene())


def test_the_jobs_of_a_workflow_are_told() -> None:
    async def scene() -> None:
        async with running_manager() as manager:
            await submit(manager, spec(), spec(after=0), spec(after=1), spec())
            request = manager_pb2.GetWorkflowRequest(job=manager_pb2.JobSelector(job_id=2))
            answer = await manager.users.GetWorkflow(request, metadata=manager.metadata)
            assert [each.job_id for each in answer.jobs] == [1, 2, 3]

    asyncio.run(scene())


def test_a_watch_with_an_interval_merges_what_changes_meanwhile() -> None:
    async def scene() -> None:
        async with running_manager() as manager:
            request = manager_pb2.WatchJobsRequest(interval_ms=200)
            watch = aiter(manager.users.WatchJobs(request, metadata=manager.metadata))
            assert not (await anext(watch)).jobs
            loop = asyncio.get_running_loop()
            began = loop.time()
            for _ in range(5):
                await manager.submit()
            answers: list[manager_pb2.WatchJobsResponse] = []
            while sum(len(each.jobs) for each in answers) < 5:
                answers.append(await anext(watch))
            assert len(answers) <= 1 + (loop.time() - began) / 0.2
            request.interval_ms = 60_001
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await anext(aiter(manager.users.WatchJobs(request, metadata=manager.metadata)))
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scene())
