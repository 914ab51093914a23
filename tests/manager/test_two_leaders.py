"""Two managers that both believe they lead, for a moment.

The lease of one has run out, wherever it is in what it does, and another may have taken over: no
reply, read, item, answer to a heartbeat or command leaves it any more. For every RPC there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest

import wal
from tests.manager.every_rpc import METHODS, Here, call, leader_named
from tests.manager.harness import (
    Manager,
    fake_worker,
    running_manager,
    settle,
    submit_request,
    until,
)
from tests.manager.leaderships import Lease
from tests.security.world import REQUESTS, SERVICES
from titan.errors import NotLeader
from titan.manager import dispatch, lapse
from titan.manager.admission import Doors
from titan.manager.callers import TokenCallers
from titan.manager.dispatch import Dispatcher
from titan.manager.entry import Entry
from titan.manager.gate import Gate
from titan.manager.leadership import check_leads
from titan.manager.past import PastDesk
from titan.manager.reach import Reach
from titan.manager.translate import submit_command
from titan.queries.stories import Story
from titan.rpc import access, status
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2, worker_pb2

# They tell nothing of the state, and wait for no record.
UNWAITED: Final = {"WorkerService.Heartbeat", "WorkerService.PushOutput"}
# Before the request is read, before the handler and after all that it waits for.
LOOKS_MIN: Final = 3


class Past(PastDesk):
    """One that answers at once, with nothing."""

    async def ask(self, *_: object, **__: object) -> bytes:
        return b""

    async def page_of_story(self, _: Story) -> tuple[manager_pb2.GetEventsResponse, None]:
        return manager_pb2.GetEventsResponse(), None


@asynccontextmanager
async def leading(lease: Lease) -> AsyncIterator[tuple[Manager, Here]]:
    """A manager with a job and a worker that fetches."""
    async with running_manager(leadership=lease, past=Past(Path("/nowhere"))) as manager:
        await manager.users.SubmitJob(submit_request(1), metadata=manager.metadata)
        answer = await manager.workers.RegisterWorker(
            worker_pb2.RegisterWorkerRequest(
                worker_id=b"W" * 16, instance=b"I" * 16, name="w1",
                capacity=types_pb2.Resources(cpus_milli=500),
            ),
            metadata=manager.metadata,
        )  # fmt: skip
        yield manager, Here(answer.session)


def test_the_table_has_every_method() -> None:
    assert set(METHODS) <= set(REQUESTS)


@pytest.mark.parametrize("method_name", METHODS)
def test_the_lease_ends_before_each_look_at_it(method_name: str) -> None:
    """So many looks it lasts: with one too few nothing leaves but who leads now."""

    service, _, name = method_name.partition(".")
    is_stream = SERVICES[service].methods_by_name[name].server_streaming

    async def held_for(looks: int) -> bool:
        """Whether it was answered."""
        lease = Lease()
        async with leading(lease) as (manager, here):
            lease.looks_left = looks
            lsn = manager.shell.lsn
            refusal: grpc.aio.AioRpcError | None = None
            try:
                await call(manager.address, here, method_name, manager.metadata)
            except grpc.aio.AioRpcError as error:
                refusal = error
            if refusal is None or leader_named(refusal) is None:
                # An answer, or another refusal: then it was still held at the last look. (A stream
                # is looked at again after its first item.)
                assert lease.is_held or is_stream
                return True
            assert refusal.code() is grpc.StatusCode.UNAVAILABLE
            assert leader_named(refusal) == lease.leader
            if looks < LOOKS_MIN - 1:
                assert manager.shell.lsn == lsn, "it decided nothing"
            return False

    async def scenario() -> None:
        looks = 0
        while not await held_for(looks):
            looks += 1
        assert looks >= LOOKS_MIN

    asyncio.run(scenario())


@pytest.mark.parametrize("method_name", [each for each in METHODS if each not in UNWAITED])
def test_the_lease_ends_while_an_answer_waits_for_its_record(method_name: str) -> None:
    async def scenario() -> None:
        lease = Lease()
        async with leading(lease) as (manager, here):
            manager.disk.held = True
            manager.shell.execute(submit_command(submit_request(1)))
            answer = call(manager.address, here, method_name, manager.metadata)
            called = asyncio.ensure_future(answer)
            await settle()
            assert not called.done()
            lease.is_held = False
            manager.disk.release()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await called
            assert leader_named(raised.value) == lease.leader

    asyncio.run(scenario())


def test_a_journal_that_takes_no_more_ends_the_lead_and_not_the_process() -> None:
    """The loop may meet it before the thread that writes has said that it failed."""

    async def scenario() -> None:
        lease = Lease()
        failures: list[wal.LogFailed] = []

        def lose(error: wal.LogFailed) -> None:
            failures.append(error)
            lease.is_held = False

        async with leading(lease) as (manager, _):
            manager.shell.on_log_failed = lose
            manager.disk.refuse(wal.LogFailed("/nowhere", "insert", "it is to"))
            submit = manager.users.SubmitJob(submit_request(1), metadata=manager.metadata)
            await until(lambda: failures)
            # The next turns have something to write, too.
            manager.shell.execute(submit_command(submit_request(2)))
            manager.shell.flush_turn()
            await settle()
            assert not submit.done()
            submit.cancel()

    asyncio.run(scenario())


def test_the_lease_ends_between_two_items() -> None:
    async def scenario() -> None:
        lease = Lease()
        async with leading(lease) as (manager, _):
            watch = manager.watch(after_lsn=manager.shell.lsn)
            assert not (await anext(watch)).jobs
            lease.is_held = False
            manager.shell.execute(submit_command(submit_request(1)))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await anext(watch)
            assert leader_named(raised.value) == lease.leader

    asyncio.run(scenario())


def test_a_watch_that_has_nothing_to_tell_ends_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapse, "LOOK_SECONDS", 0.01)

    async def scenario() -> None:
        lease = Lease()
        async with leading(lease) as (manager, _):
            watch = manager.watch(after_lsn=manager.shell.lsn)
            assert not (await anext(watch)).jobs
            lease.is_held = False
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await anext(watch)
            assert leader_named(raised.value) == lease.leader

    asyncio.run(scenario())


def test_the_lease_ends_between_making_a_batch_and_sending_it() -> None:
    """The batch was made, and its assignment is durable: whoever leads now sends his own."""

    async def scenario() -> None:
        lease = Lease()
        async with running_manager(leadership=lease) as manager, fake_worker() as worker:
            await manager.register(worker)
            manager.disk.held = True
            manager.shell.execute(submit_command(submit_request(1)))
            await until(lambda: manager.shell.kernel.state.task_counts[1] == 1)
            await settle()
            lease.is_held = False
            manager.disk.release()
            await settle()
            assert worker.starts == []
            # Had nobody taken over it would go on: level-triggered.
            lease.is_held = True
            await until(lambda: worker.starts)

    asyncio.run(scenario())


def test_a_batch_is_on_its_way_no_longer_than_the_lease_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one would be that waits for its connection. It is made anew if the lease is renewed."""
    # Only the lease ends a call within the test.
    monkeypatch.setattr(dispatch, "CALL_SECONDS", 600.0)

    async def scenario() -> None:
        lease = Lease(lasts_seconds=0.5)
        async with running_manager(leadership=lease) as manager, fake_worker() as worker:
            worker.answers.clear()
            await manager.register(worker)
            await manager.submit()
            await until(lambda: len(worker.starts) > 1)

    asyncio.run(scenario())


def test_no_worker_is_asked_for_what_a_caller_wants_to_know() -> None:
    async def scenario() -> None:
        lease = Lease()
        async with running_manager(leadership=lease) as manager, fake_worker() as worker:
            await manager.register(worker)
            (outbox,) = manager.shell.kernel.outboxes.values()
            reach = Reach(manager.shell, Dispatcher())
            lease.is_held = False
            with pytest.raises(NotLeader):
                await reach.get_status(outbox, task_pb2.GetTaskStatusRequest())
            with pytest.raises(NotLeader):
                await anext(reach.read_output(outbox, task_pb2.ReadOutputRequest()))

    asyncio.run(scenario())


def test_the_lease_ends_before_a_stop_is_sent() -> None:
    async def scenario() -> None:
        lease = Lease()
        async with running_manager(leadership=lease) as manager, fake_worker() as worker:
            await manager.register(worker)
            (job_id,) = (await manager.submit()).job_ids
            await until(lambda: worker.starts)
            await settle()
            manager.disk.held = True
            cancel = manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=job_id)])
            cancelling = asyncio.ensure_future(
                manager.users.CancelJob(cancel, metadata=manager.metadata)
            )
            await settle()
            lease.is_held = False
            manager.disk.release()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await cancelling
            assert leader_named(raised.value) == lease.leader
            await settle()
            assert worker.stops == []

    asyncio.run(scenario())


@pytest.mark.parametrize("has_news", [True, False], ids=["a batch", "nothing"])
def test_the_lease_ends_during_a_long_poll(has_news: bool) -> None:
    async def scenario() -> None:
        lease = Lease()
        async with running_manager(leadership=lease) as manager:
            answer = await manager.workers.RegisterWorker(
                worker_pb2.RegisterWorkerRequest(
                    worker_id=b"W" * 16, instance=b"I" * 16, name="w1",
                    capacity=types_pb2.Resources(cpus_milli=4000),
                ),
                metadata=manager.metadata,
            )  # fmt: skip
            beat = worker_pb2.HeartbeatRequest(
                session=answer.session, wait_ms=30_000 if has_news else 50
            )
            if not has_news:
                # It is let in, and not let out.
                lease.looks_left = 2
            poll = asyncio.ensure_future(manager.workers.Heartbeat(beat, metadata=manager.metadata))
            if has_news:
                await settle()
                lease.is_held = False
                manager.shell.execute(submit_command(submit_request(1)))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await poll
            assert leader_named(raised.value) == lease.leader

    asyncio.run(scenario())


class Durable:
    """In place of a shell: a log that always is."""

    lsn = 1

    def __init__(self, lease: Lease) -> None:
        self.leadership = lease

    async def wait_durable(self, _: int) -> None:
        self.check_leads()

    def check_leads(self) -> None:
        check_leads(self.leadership)


class Context:
    """Of a call that sends an empty message."""

    trailers: Any = None

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return access.metadata("t")

    def peer(self) -> str:
        return "one"

    async def read(self) -> bytes:
        return b""

    def set_code(self, code: object) -> None:
        del code

    set_details = set_code

    def set_trailing_metadata(self, trailers: Any) -> None:
        self.trailers = trailers


@pytest.mark.parametrize("in_steps", [True, False], ids=["a step", "rows"])
def test_the_lease_ends_between_the_steps_of_a_submit_or_while_it_waits_for_rows(
    in_steps: bool,
) -> None:
    """A step that would decide is not made; and the wait for a database is a wait, too."""

    async def scenario() -> None:
        lease = Lease()
        decided = False

        class Rows:
            async def wait(self, _: object) -> None:
                lease.is_held = False

        def steps(_: object) -> Any:
            nonlocal decided
            if in_steps:
                lease.is_held = False
            yield None
            decided = True
            return manager_pb2.SubmitJobResponse()

        shell: Any = Durable(lease)
        rows: Any = None if in_steps else Rows()
        gate = Gate(shell, Entry(TokenCallers("t")), rows)
        parse = manager_pb2.SubmitJobRequest.FromString
        handle = gate.admitted("SubmitJob", steps, parse, Doors().submits)
        context: Any = Context()
        requests: Any = None
        assert await handle(requests, context) is None
        assert status.not_leader(context.trailers) == lease.leader
        assert decided is not in_steps

    asyncio.run(scenario())
