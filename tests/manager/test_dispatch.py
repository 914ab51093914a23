"""One call to a worker at a time; what gathers meanwhile goes in the next; none gets lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.manager.harness import (
    DEADLINE_SECONDS,
    fake_worker,
    running_manager,
    settle,
    submit_request,
    until,
)
from titan.manager import dispatch
from titan.rpc.v1 import manager_pb2, types_pb2


def test_what_gathers_during_a_call_goes_in_the_next_one_and_never_two_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The call is not given up, and made again, while the test holds it up.
    monkeypatch.setattr(dispatch, "CALL_SECONDS", DEADLINE_SECONDS)

    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker, cpus_milli=50_000)
            worker.answers.clear()
            await manager.submit()
            await until(lambda: worker.starts)
            for _ in range(5):
                await manager.submit(jobs=2)
            await settle()
            assert len(worker.starts) == 1
            worker.answers.set()
            await until(lambda: sum(len(request.starts) for request in worker.starts) == 11)
            assert len(worker.starts) == 2
            assert worker.calls_max == 1
            seqs = [request.dispatch_seq for request in worker.starts]
            assert seqs == sorted(set(seqs))

    asyncio.run(scenario())


def test_a_batch_that_did_not_get_through_is_sent_again_until_it_does() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            worker.failures = 3
            await manager.submit(jobs=2)
            await until(lambda: len(worker.starts) == 4)
            assert {len(request.starts) for request in worker.starts} == {2}
            await settle()
            assert len(worker.starts) == 4

    asyncio.run(scenario())


def test_how_a_task_is_run_goes_the_whole_way_from_the_submit_to_the_worker_and_to_who_asks() -> (
    None
):
    limit = {
        "time_limit_ms": 5_400_000,
        "grace_ms": 500,
        "end_signal": 10,
        "end_signal_before_ms": 60_000,
    }
    request = submit_request(1)
    for name, value in limit.items():
        setattr(request.jobs[0], name, value)
    execution = types_pb2.Execution(
        umask=0o27,
        script_source=types_pb2.SCRIPT_SENT,
        interpreter=[b"sh", b"-\xff"],
        stdin=b"\xff",
        stdout=b"\xfe",
        stderr=b"\xfd",
    )
    request.jobs[0].execution.CopyFrom(execution)
    request.environments[0].script = b"echo \xff"

    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            submitted = await manager.users.SubmitJob(request, metadata=manager.metadata)
            (job_id,) = submitted.job_ids
            await until(lambda: worker.starts)
            (spec,) = worker.starts[0].specs
            wanted = manager_pb2.GetJobStatusRequest(job=manager_pb2.JobSelector(job_id=job_id))
            answer = await manager.users.GetJobStatus(wanted, metadata=manager.metadata)
            assert not answer.script
            wanted.script = True
            with_script = await manager.users.GetJobStatus(wanted, metadata=manager.metadata)
            (environment,) = worker.starts[0].environments
            assert environment.script == with_script.script == b"echo \xff"
            for message in (spec, answer.job):
                assert message.execution == execution
                assert {name: getattr(message, name) for name in limit} == limit

    asyncio.run(scenario())


def test_a_cancel_reaches_the_worker_that_has_the_task() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            (job_id,) = (await manager.submit()).job_ids
            await until(lambda: worker.starts)
            answer = await manager.users.CancelJob(
                manager_pb2.CancelJobRequest(
                    jobs=[manager_pb2.JobSelector(job_id=job_id)], grace_ms=1500
                ),
                metadata=manager.metadata,
            )
            assert answer.jobs[0].cancel_requested
            await until(lambda: worker.stops)
            (stop,) = worker.stops[0].stops
            assert (stop.key.job_id, stop.key.attempt, stop.grace_ms) == (job_id, 1, 1500)

    asyncio.run(scenario())


def test_a_worker_that_registers_again_is_sent_what_it_does_not_hold() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as first:
            await manager.register(first)
            await manager.submit()
            await until(lambda: first.starts)
            async with fake_worker() as second:
                answer = await manager.register(second)
                await until(lambda: second.starts)
                assert second.starts[0].session == answer.session
                assert [s.attempt for s in second.starts[0].starts] == [1]
            assert len(first.starts) == 1

    asyncio.run(scenario())
