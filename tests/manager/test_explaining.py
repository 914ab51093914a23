"""ExplainJob and PlanJobs: what the manager says by itself, and that it changes nothing by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from tests.manager.harness import Manager, fake_worker, running_manager, until
from titan.manager import explain_service
from titan.manager.kernel.commands import HoldJobs, WhichJobs
from titan.queries.selection import JobSelector
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.state import digest


def spec(cpus: int = 1, **fields: Any) -> manager_pb2.JobSpec:
    resources = types_pb2.Resources(cpus_milli=cpus * 1000, memory_bytes=fields.pop("memory", 0))
    named: dict[str, Any] = {"name": "n", "command": [b"true"], "cwd": b"/"}
    return manager_pb2.JobSpec(resources=resources, **(named | fields))


async def explain(
    manager: Manager, job_id: int, index: int | None = None
) -> manager_pb2.ExplainJobResponse:
    selector = manager_pb2.JobSelector(job_id=job_id)
    if index is not None:
        selector.indexes.add(start=index, stop=index + 1, step=1)
    request = manager_pb2.ExplainJobRequest(job=selector)
    return await manager.users.ExplainJob(request, metadata=manager.metadata)


async def plan(manager: Manager, *jobs: manager_pb2.JobSpec) -> manager_pb2.PlanJobsResponse:
    request = manager_pb2.PlanJobsRequest(user="u", jobs=jobs)
    return await manager.users.PlanJobs(request, metadata=manager.metadata)


async def submit(manager: Manager, *jobs: manager_pb2.JobSpec) -> None:
    request = manager_pb2.SubmitJobRequest(
        user="u", jobs=jobs, environments=[types_pb2.Environment()]
    )
    await manager.users.SubmitJob(request, metadata=manager.metadata)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


def test_a_task_that_waits_is_told_who_was_turned_away_and_what_is_ahead() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            limited = spec(4, time_limit_ms=240_000, grace_ms=10_000)
            await submit(manager, limited, spec(4), spec(2), spec(9))
            await until(lambda: manager.shell.kernel.state.get_job(1).active)
            response = await explain(manager, 3)
            told = response.explanation
            assert (told.job_id, told.index, told.state) == (3, 0, types_pb2.PENDING)
            assert told.verdict == manager_pb2.VERDICT_LATER
            assert told.sentence == "0 of 1 worker can take it now"
            assert [(e.workers, e.why, e.never) for e in told.turned_away] == [
                (1, "lacks cpus (needs 2, largest free 0)", False)
            ]
            assert (told.workers, told.workers_with_room, told.tasks_ahead) == (1, 0, 1)
            assigned_us = manager.shell.kernel.state.get_job(1).active[0].since_us
            assert told.start_us == assigned_us + 250_000_000
            assert (told.worker, told.ends_job_id) == ("w1", 1)
            assert response.lsn == manager.shell.lsn
            assert response.at_us == 0
            never = (await explain(manager, 4)).explanation
            assert never.verdict == manager_pb2.VERDICT_NEVER
            assert never.sentence.endswith("it needs 9 cpus, the largest has 4")
            assert never.start_us == 0

    asyncio.run(scenario())


def test_of_an_array_the_first_that_waits_is_told_or_the_one_that_is_named() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            array = [types_pb2.IndexRange(start=2, stop=9, step=3)]
            await submit(manager, spec(array=array))
            assert (await explain(manager, 1)).explanation.index == 2
            assert (await explain(manager, 1, 8)).explanation.index == 8
            code, details = await refused(explain(manager, 1, 3))
            assert (code, details) == (grpc.StatusCode.NOT_FOUND, "job 1 has no task 1.3")

    asyncio.run(scenario())


def test_what_a_job_waits_for_stands_in_its_explanation_and_in_lists() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await submit(manager, spec())
            which = WhichJobs(selectors=(JobSelector(job_id=1),), user="u")
            manager.shell.execute(HoldJobs(which=which, releases=False))
            told = (await explain(manager, 1)).explanation
            assert list(told.waiting_for) == ["a release: it is held (`titan release 1`)"]
            request = manager_pb2.ListJobsRequest()
            listed = await manager.users.ListJobs(request, metadata=manager.metadata)
            assert listed.jobs[0].waiting_for == "held"

    asyncio.run(scenario())


def test_one_that_was_cancelled_before_it_came_to_a_worker_has_ended() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await submit(manager, spec())
            job = manager_pb2.JobSelector(job_id=1)
            await manager.users.CancelJob(
                manager_pb2.CancelJobRequest(jobs=[job]), metadata=manager.metadata
            )
            told = (await explain(manager, 1)).explanation
            assert told.verdict == manager_pb2.VERDICT_ENDED
            assert told.state == types_pb2.CANCELLED
            assert told.sentence == "cancelled before it started"

    asyncio.run(scenario())


def test_unknown_jobs_are_not_found() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            code, details = await refused(explain(manager, 7))
            assert code == grpc.StatusCode.NOT_FOUND
            assert "there is no job 7" in details
            nothing = manager_pb2.ExplainJobRequest()
            call = manager.users.ExplainJob(nothing, metadata=manager.metadata)
            assert (await refused(call))[0] == grpc.StatusCode.INVALID_ARGUMENT
            no_moment = manager_pb2.ExplainJobRequest(
                job=manager_pb2.JobSelector(job_id=1), at=manager_pb2.Moment()
            )
            call = manager.users.ExplainJob(no_moment, metadata=manager.metadata)
            assert (await refused(call))[0] == grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())


def test_a_plan_says_of_each_job_where_it_would_go_and_changes_nothing() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            await submit(manager, spec(1))
            state = manager.shell.kernel.state
            await until(lambda: state.get_job(1).active)
            before = (state.lsn, digest(state), len(manager.disk.records))
            response = await plan(manager, spec(3), spec(3), spec(4), spec(5))
            planned = response.explanations
            assert [each.verdict for each in planned] == [
                manager_pb2.VERDICT_NOW,
                manager_pb2.VERDICT_NOW,
                manager_pb2.VERDICT_LATER,
                manager_pb2.VERDICT_NEVER,
            ], "each as if it came alone"
            now = planned[0]
            assert (now.sentence, now.worker, now.policy, now.rule) == (
                "there is room for it", "w1", "round-robin-then-bin-packing", "round-robin",
            )  # fmt: skip
            assert [
                (e.worker, e.free.cpus_milli, e.had_room, e.chosen) for e in now.candidates
            ] == [("w1", 3000, True, True)]
            assert planned[2].turned_away[0].why == "lacks cpus (needs 4, largest free 3)"
            assert planned[3].turned_away[0].never
            assert (state.lsn, digest(state), len(manager.disk.records)) == before
            assert response.lsn == state.lsn

    asyncio.run(scenario())


def test_a_plan_is_refused_for_what_a_submit_would_be_refused_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explain_service, "PLANS_MAX", 3)

    async def scenario() -> None:
        async with running_manager() as manager:
            for jobs, told in (
                ([], "there is no job in the request"),
                ([spec(0)], "cpus"),
                ([spec(on="w9")], "there is no worker 'w9'"),
                ([spec(), spec(command=[])], "job 2 of 2"),
                ([spec()] * 4, "at most 3 jobs can be planned at once"),
            ):
                code, details = await refused(plan(manager, *jobs))
                assert code == grpc.StatusCode.INVALID_ARGUMENT
                assert told in details
            assert manager.shell.lsn == len(manager.disk.records) == 1, "no job came of it"

    asyncio.run(scenario())


def test_a_job_with_a_script_can_be_planned_without_it() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            sent = types_pb2.Execution(script_source=types_pb2.SCRIPT_SENT)
            (told,) = (
                await plan(manager, spec(command=[b"job.sh"], execution=sent, environment=5))
            ).explanations
            assert told.verdict == manager_pb2.VERDICT_NOW

    asyncio.run(scenario())
