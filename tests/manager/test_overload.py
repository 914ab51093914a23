"""More is asked than can be done: over the wire, and with a disk that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.manager.harness import (
    TOKEN,
    Manager,
    fake_worker,
    running_manager,
    settle,
    submit_request,
    until,
)
from titan.client import retry
from titan.client.aio_session import AioSession
from titan.client.connection import Credentials
from titan.manager import translate
from titan.manager.admission import Bounds
from titan.manager.kernel import submit
from titan.rpc import access, reading, status
from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2, types_pb2, worker_pb2

SUBMIT = "/titan.v1.ManagerService/SubmitJob"
# Who waits at the door is there to the end, however long the test takes.
ONE = Bounds(calls_inside=1, wait_seconds=600.0)


def begin(call: Awaitable[Any]) -> asyncio.Future[Any]:
    """Somebody calls."""
    return asyncio.ensure_future(call)


async def fill(manager: Manager) -> asyncio.Future[Any]:
    """A submit that is decided and waits for the disk, which takes all the room that there is."""
    manager.disk.held = True
    first = begin(manager.submit())
    await until(lambda: len(manager.shell.kernel.state.jobs) == 1)
    return first


def test_beyond_its_bounds_it_says_that_it_is_busy_and_that_it_will_pass() -> None:
    async def scenario() -> None:
        async with running_manager(Bounds(calls_inside=1, calls_waiting=0)) as manager:
            first = await fill(manager)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await manager.submit()
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "the manager is busy with 1 calls, and 0 more wait" in str(refused.value)
            assert status.is_busy(refused.value.trailing_metadata())
            manager.disk.release()
            assert list((await first).job_ids) == [1]
            assert list((await manager.submit()).job_ids) == [2]

    asyncio.run(scenario())


def test_a_client_that_is_refused_gets_through_by_coming_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUSY_PAUSE_FIRST_SECONDS", 0.002)
    monkeypatch.setattr(retry, "BUSY_PAUSE_MAX_SECONDS", 0.01)

    async def scenario() -> None:
        async with running_manager(Bounds(calls_inside=1, calls_waiting=0)) as manager:
            access.write_token(tmp_path, manager.address, TOKEN)
            file = tmp_path / "access.json"
            said: list[str] = []
            async with AioSession(
                manager.address, given=Credentials(file), notice=said.append
            ) as session:
                first = await fill(manager)
                second = begin(session.submit(submit_request(1, request_id=b"2" * 16)))
                await until(lambda: said)
                assert "is busy" in said[0]
                await settle()
                manager.disk.release()
                assert list((await first).job_ids) == [1]
                assert list((await second).job_ids) == [2]
                assert len(said) == 1
            assert len(manager.shell.kernel.state.jobs) == 2

    asyncio.run(scenario())


def test_heartbeats_pass_the_submits_that_wait() -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager, fake_worker() as worker:
            session = (await manager.register(worker)).session
            first = await fill(manager)
            others = [begin(manager.submit()) for _ in range(20)]
            await until(lambda: manager.doors.submits.calls_waiting == 20)
            await manager.workers.Heartbeat(
                worker_pb2.HeartbeatRequest(session=session), metadata=manager.metadata
            )
            report = worker_pb2.ReportTaskStatusRequest(session=session, first_seq=1, last_seq=1)
            reporting = begin(manager.workers.ReportTaskStatus(report, metadata=manager.metadata))
            await until(lambda: manager.shell.kernel.sessions[session].applied_seq == 1)
            assert manager.doors.submits.calls_waiting == 20
            manager.disk.release()
            await asyncio.gather(first, reporting, *others)
            assert len(manager.shell.kernel.state.jobs) == 21

    asyncio.run(scenario())


def test_a_cancel_does_not_wait_for_the_submits() -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager:
            first = await fill(manager)
            others = [begin(manager.submit()) for _ in range(3)]
            await until(lambda: manager.doors.submits.calls_waiting == 3)
            request = manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=1)])
            cancel = begin(manager.users.CancelJob(request, metadata=manager.metadata))
            job = manager.shell.kernel.state.get_job(1)
            await until(lambda: job.cancel_requested)
            manager.disk.release()
            await asyncio.gather(first, cancel, *others)

    asyncio.run(scenario())


@pytest.mark.parametrize("way", ["cancelled", "late"])
def test_a_submit_whose_caller_has_gone_is_not_decided(way: str) -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager:
            first = await fill(manager)
            seconds = None if way == "cancelled" else 0.05
            call = manager.users.SubmitJob(
                submit_request(1), metadata=manager.metadata, timeout=seconds
            )
            other = begin(manager.submit())
            if way == "cancelled":
                await until(lambda: manager.doors.submits.calls_waiting == 2)
                call.cancel()
            with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                await call
            await until(lambda: manager.doors.submits.calls_waiting == 1)
            manager.disk.release()
            await asyncio.gather(first, other)
            assert list(manager.shell.kernel.state.jobs) == [1, 2]

    asyncio.run(scenario())


def test_who_goes_after_the_decision_keeps_his_place_until_it_is_durable() -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager:
            manager.disk.held = True
            call = manager.users.SubmitJob(submit_request(1), metadata=manager.metadata)
            await until(lambda: len(manager.shell.kernel.state.jobs) == 1)
            call.cancel()
            second = begin(manager.submit())
            await until(lambda: manager.doors.submits.calls_waiting == 1)
            await settle()
            assert manager.doors.submits.calls_inside == 1
            manager.disk.release()
            await second
            await until(lambda: manager.doors.submits.calls_inside == 0)
            assert manager.doors.submits.bytes_inside == 0

    asyncio.run(scenario())


def test_who_waits_has_not_been_read_and_needs_the_token_all_the_same() -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager:
            first = await fill(manager)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await manager.users.SubmitJob(submit_request(1))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert manager.doors.submits.calls_waiting == 0
            manager.disk.release()
            await first

    asyncio.run(scenario())


def test_a_call_without_a_request_or_with_garbage_is_told_so_and_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_manager(ONE) as manager, open_aio_channel(manager.address) as channel:
            method: Any = channel.stream_unary(SUBMIT)
            await channel.channel_ready()

            async def nothing() -> Any:
                return
                yield

            async def never() -> Any:
                await asyncio.Event().wait()
                yield

            async def garbage() -> Any:
                yield b"\xff\xff\xff"

            for requests, sentence, seconds in (
                (nothing(), "carries no request", 600.0),
                (never(), "no request came within", 0.05),
                (garbage(), "cannot be read", 600.0),
            ):
                monkeypatch.setattr(reading, "READ_SECONDS", seconds)
                with pytest.raises(grpc.aio.AioRpcError, match=sentence) as refused:
                    await method(requests, metadata=manager.metadata)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            await until(lambda: manager.doors.submits.calls_inside == 0)
            assert list((await manager.submit()).job_ids) == [1]

    asyncio.run(scenario())


def test_what_a_worker_says_passes_no_door() -> None:
    async def scenario() -> None:
        async with running_manager(Bounds(calls_inside=1, calls_waiting=0)) as manager:
            first = await fill(manager)
            request = worker_pb2.RegisterWorkerRequest(
                worker_id=b"W" * 16, instance=b"I" * 16, name="w1", address="127.0.0.1:1",
                token="its own", capacity=types_pb2.Resources(cpus_milli=1000),
            )  # fmt: skip
            calling_in = begin(manager.workers.RegisterWorker(request, metadata=manager.metadata))
            await until(lambda: len(manager.shell.kernel.sessions) == 1)
            manager.disk.release()
            await asyncio.gather(first, calling_in)

    asyncio.run(scenario())


def test_many_jobs_are_looked_at_in_steps_and_accepted_or_refused_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(translate, "STEP_JOBS", 3)
    monkeypatch.setattr(submit, "CHECKED_AT_ONCE", 3)

    async def scenario() -> None:
        async with running_manager() as manager:
            turns: list[int] = []
            note = manager.doors.submits.pace.note

            def note_turn(is_small: bool, seconds: float) -> None:
                turns.append(len(manager.shell.kernel.state.jobs))
                note(is_small, seconds)

            request = submit_request(8)
            bad = submit_request(8)
            bad.jobs[6].name = ""
            with pytest.raises(grpc.aio.AioRpcError, match=r"job 7 of 8: a name has") as refused:
                await manager.users.SubmitJob(bad, metadata=manager.metadata)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            too_many = submit_request(submit.JOBS_PER_REQUEST_MAX + 1)
            with pytest.raises(grpc.aio.AioRpcError, match="send several requests"):
                await manager.users.SubmitJob(too_many, metadata=manager.metadata)
            assert not manager.shell.kernel.state.jobs
            monkeypatch.setattr(manager.doors.submits.pace, "note", note_turn)
            answer = await manager.users.SubmitJob(request, metadata=manager.metadata)
            assert list(answer.job_ids) == list(range(1, 9))
            # To translate three at a time, to check three at a time, and to accept them.
            assert turns == [0, 0, 0, 0, 0, 8]

    asyncio.run(scenario())
