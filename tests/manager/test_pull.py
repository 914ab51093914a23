"""Workers that fetch: what answers a heartbeat, and what becomes of answers that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from tests.manager.harness import Manager, fake_worker, running_manager, settle, until
from titan.manager import dispatch, live_use
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2, worker_pb2


class Fetcher:
    """A worker without an address, as its manager sees it."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.session = b""
        self.has_seq = 0
        self.held: list[worker_pb2.HeldAttempt] = []
        self.report_seq = 0

    @property
    def polls(self) -> int:
        """How many heartbeats of this session have come that wait, or have waited."""
        manager = self.manager
        dispatcher: Any = manager.shell._dispatching
        polls: int = dispatcher.pull_line(manager.shell.kernel.sessions[self.session])._polls
        return polls

    async def register(self, *, address: str = "", cpus_milli: int = 4000) -> None:
        answer = await self.manager.workers.RegisterWorker(
            worker_pb2.RegisterWorkerRequest(
                worker_id=b"W" * 16, instance=b"I" * 16, name="w1", address=address,
                capacity=types_pb2.Resources(cpus_milli=cpus_milli), held=self._held(),
            ),
            metadata=self.manager.metadata,
        )  # fmt: skip
        self.session = answer.session
        self.has_seq = 0

    def _held(self) -> worker_pb2.Held:
        return worker_pb2.Held(
            attempts=self.held, dispatch_seq=self.has_seq, report_seq=self.report_seq
        )

    def poll(self, wait_ms: int = 20_000) -> asyncio.Task[worker_pb2.HeartbeatResponse]:
        """A heartbeat under way."""
        request = worker_pb2.HeartbeatRequest(
            session=self.session, held=self._held(), wait_ms=wait_ms
        )

        async def call() -> worker_pb2.HeartbeatResponse:
            return await self.manager.workers.Heartbeat(request, metadata=self.manager.metadata)

        return asyncio.create_task(call())

    def take(self, answer: worker_pb2.HeartbeatResponse) -> None:
        """It has what the answer brought, and starts nothing of it."""
        for message in (answer.start, answer.stop):
            self.has_seq = max(self.has_seq, message.dispatch_seq)
        for start in answer.start.starts:
            spec = answer.start.specs[start.spec]
            key = types_pb2.AttemptKey(
                epoch=spec.epoch, job_id=spec.job_id, index=start.index, attempt=start.attempt
            )
            self.held.append(worker_pb2.HeldAttempt(key=key, state=worker_pb2.HELD_QUEUED))

    async def report_started(self) -> None:
        """All that it holds runs."""
        first = self.report_seq + 1
        self.report_seq += len(self.held)
        reports = [
            worker_pb2.TaskReport(
                seq=first + at, key=each.key, kind=worker_pb2.REPORT_STARTED, start_us=1
            )
            for at, each in enumerate(self.held)
        ]
        await self.manager.workers.ReportTaskStatus(
            worker_pb2.ReportTaskStatusRequest(
                session=self.session, first_seq=first, last_seq=self.report_seq, reports=reports
            ),
            metadata=self.manager.metadata,
        )

    async def push(
        self, number: int, messages: AsyncIterator[worker_pb2.PushOutputRequest]
    ) -> worker_pb2.PushOutputResponse:
        """The answer to a question for output."""

        async def requests() -> AsyncIterator[worker_pb2.PushOutputRequest]:
            yield worker_pb2.PushOutputRequest(session=self.session, number=number)
            async for message in messages:
                yield message

        return await self.manager.workers.PushOutput(requests(), metadata=self.manager.metadata)


@asynccontextmanager
async def fetching() -> AsyncIterator[Fetcher]:
    """A manager and its worker."""
    async with running_manager() as manager:
        fetcher = Fetcher(manager)
        await fetcher.register()
        yield fetcher


@asynccontextmanager
async def running_a_job() -> AsyncIterator[tuple[Fetcher, int]]:
    """The same with a job that runs there."""
    async with fetching() as fetcher:
        poll = fetcher.poll()
        (job_id,) = (await fetcher.manager.submit()).job_ids
        fetcher.take(await poll)
        await fetcher.report_started()
        yield fetcher, job_id


def keys_of(request: task_pb2.StartTaskRequest) -> list[tuple[int, int]]:
    return [(request.specs[each.spec].job_id, each.index) for each in request.starts]


def test_a_heartbeat_is_answered_as_soon_as_there_is_something_to_start() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            poll = fetcher.poll()
            await settle()
            assert not poll.done()
            (job_id,) = (await fetcher.manager.submit()).job_ids
            answer = await poll
            assert answer.waited
            assert keys_of(answer.start) == [(job_id, 0)]
            assert (answer.start.session, answer.start.dispatch_seq) == (fetcher.session, 1)
            assert not answer.HasField("stop")
            fetcher.take(answer)
            # It has it: nothing is to be told now.
            poll = fetcher.poll()
            await settle()
            assert not poll.done()
            assert fetcher.manager.shell.kernel.sessions[fetcher.session].dispatch_seq == 1
            await fetcher.manager.users.CancelJob(
                manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=job_id)]),
                metadata=fetcher.manager.metadata,
            )
            answer = await poll
            (stop,) = answer.stop.stops
            assert (stop.key.job_id, stop.mode) == (job_id, task_pb2.STOP_CANCEL)
            assert answer.stop.dispatch_seq == 2

    asyncio.run(scenario())


def test_a_batch_whose_answer_got_lost_comes_again_under_another_number() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            first = fetcher.poll()
            await fetcher.manager.submit(jobs=2)
            lost = await first
            again = await fetcher.poll()
            assert keys_of(again.start) == keys_of(lost.start)
            assert again.start.dispatch_seq > lost.start.dispatch_seq
            fetcher.take(again)
            poll = fetcher.poll()
            await settle()
            assert not poll.done()

    asyncio.run(scenario())


def test_of_two_heartbeats_only_the_newer_one_is_answered_with_something() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            older = fetcher.poll()
            await until(lambda: fetcher.polls == 1)
            newer = fetcher.poll()
            nothing = await older
            assert nothing == worker_pb2.HeartbeatResponse()
            await fetcher.manager.submit()
            assert len((await newer).start.starts) == 1

    asyncio.run(scenario())


def test_an_answer_waits_for_the_record_that_it_depends_on_invariant_7() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            poll = fetcher.poll()
            await settle()
            fetcher.manager.disk.held = True
            submit = asyncio.create_task(fetcher.manager.submit())
            await settle()
            assert not poll.done()
            fetcher.manager.disk.release()
            assert len((await poll).start.starts) == 1
            await submit

    asyncio.run(scenario())


def test_a_heartbeat_counts_when_it_comes_and_is_answered_after_its_wait() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            kernel = fetcher.manager.shell.kernel
            kernel.heard_us[1] = -1
            poll = fetcher.poll(wait_ms=50)
            await until(lambda: kernel.heard_us[1] >= 0)
            answer = await poll
            assert answer == worker_pb2.HeartbeatResponse(waited=True)
            # Without a wait it is answered at once, and brings nothing.
            await fetcher.manager.submit()
            assert await fetcher.poll(wait_ms=0) == worker_pb2.HeartbeatResponse()

    asyncio.run(scenario())


def test_whoever_waits_is_answered_when_the_manager_stops_or_the_session_ends() -> None:
    async def scenario() -> None:
        async with fetching() as fetcher:
            poll = fetcher.poll(wait_ms=60_000)
            await until(lambda: fetcher.polls)
            dispatcher: Any = fetcher.manager.shell._dispatching
            dispatcher.release_polls()
            assert await poll == worker_pb2.HeartbeatResponse()
            await fetcher.register()
            poll = fetcher.poll(wait_ms=300)
            # Later it would be a call of a session that is over.
            await until(lambda: fetcher.polls)
            await fetcher.register()
            assert not (await poll).HasField("start")

    asyncio.run(scenario())


def test_a_worker_that_cannot_be_called_is_told_so_and_fetches_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It is told that nobody answers where the refusal is heard too late.
    monkeypatch.setattr(dispatch, "CONNECT_SECONDS", 600.0)

    async def scenario() -> None:
        async with running_manager() as manager:
            fetcher = Fetcher(manager)
            await fetcher.register(address="127.0.0.1:1")
            outbox = manager.shell.kernel.sessions[fetcher.session]
            dispatcher: Any = manager.shell._dispatching
            await until(lambda: dispatcher.find_fault(outbox))
            answer = await fetcher.poll(wait_ms=0)
            assert answer.cannot_call == "connection refused"
            await manager.submit()
            await fetcher.register()
            poll = fetcher.poll()
            assert len((await poll).start.starts) == 1

    asyncio.run(scenario())


def test_a_worker_that_answers_late_or_with_errors_can_be_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "CONNECT_SECONDS", 600.0)

    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            worker.failures = 2
            answer = await manager.register(worker)
            await manager.submit()
            await until(lambda: len(worker.starts) == 3)
            outbox = manager.shell.kernel.sessions[answer.session]
            dispatcher: Any = manager.shell._dispatching
            assert dispatcher.find_fault(outbox) == ""

    asyncio.run(scenario())


# Output and what tasks do -----------------------------------------------------------------------


def stream(fetcher: Fetcher, job_id: int, *, follow: bool = True) -> Any:
    request = manager_pb2.StreamOutputRequest(job_id=job_id, follow=follow, attempt=1)
    return fetcher.manager.users.StreamOutput(request, metadata=fetcher.manager.metadata)


def chunk(data: bytes) -> worker_pb2.PushOutputRequest:
    return worker_pb2.PushOutputRequest(
        chunk=manager_pb2.StreamOutputResponse(stream=manager_pb2.STDOUT, data=data)
    )


END = worker_pb2.PushOutputRequest(end=worker_pb2.PushOutputEnd())


async def of(
    *messages: worker_pb2.PushOutputRequest,
) -> AsyncIterator[worker_pb2.PushOutputRequest]:
    for message in messages:
        yield message


def test_output_is_asked_for_and_passed_on() -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            call = stream(fetcher, job_id)
            reading = asyncio.create_task(collect(call))
            answer = await fetcher.poll()
            (question,) = answer.outputs
            assert question.request.key == fetcher.held[0].key
            assert question.request.follow
            await fetcher.push(question.number, of(chunk(b"a"), chunk(b"b"), END))
            assert await reading == [b"a", b"b"]

    asyncio.run(scenario())


async def collect(call: Any) -> list[bytes]:
    return [each.data async for each in call]


def test_a_question_that_got_lost_is_asked_again_and_answered_once() -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            reading = asyncio.create_task(collect(stream(fetcher, job_id)))
            (lost,) = (await fetcher.poll()).outputs
            (again,) = (await fetcher.poll()).outputs
            assert again == lost
            await fetcher.push(again.number, of(chunk(b"a"), END))
            assert await reading == [b"a"]
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await fetcher.push(lost.number, of(chunk(b"a"), END))
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("messages", "status", "sentence"),
    [
        (
            (worker_pb2.PushOutputRequest(
                end=worker_pb2.PushOutputEnd(failure="gone", not_found=True)
            ),),
            grpc.StatusCode.NOT_FOUND,
            "w1 has no output of 1: gone",
        ),
        (
            (chunk(b"a"), worker_pb2.PushOutputRequest(
                end=worker_pb2.PushOutputEnd(failure="a disk")
            )),
            grpc.StatusCode.FAILED_PRECONDITION,
            "the output of 1 is on w1, which does not answer: a disk",
        ),
        (
            (chunk(b"a"),),
            grpc.StatusCode.FAILED_PRECONDITION,
            "the output of 1 is on w1, which does not answer: it stopped sending",
        ),
    ],
    ids=["unknown", "failed", "broken"],
)  # fmt: skip
def test_output_that_is_not_there_or_breaks_off_says_why(
    messages: tuple[worker_pb2.PushOutputRequest, ...], status: grpc.StatusCode, sentence: str
) -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            reading = asyncio.create_task(collect(stream(fetcher, job_id)))
            (question,) = (await fetcher.poll()).outputs
            await fetcher.push(question.number, of(*messages))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await reading
            assert (raised.value.code(), raised.value.details()) == (status, sentence)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "hostile",
    [
        manager_pb2.StreamOutputResponse(stream=99, data=b"a"),  # type: ignore[arg-type]
        manager_pb2.StreamOutputResponse(stream=manager_pb2.STDOUT, data=b"a" * ((1 << 20) + 1)),
        manager_pb2.StreamOutputResponse(stream=manager_pb2.STDOUT, data=b"a", offset=-1),
        manager_pb2.StreamOutputResponse(stream=manager_pb2.STDOUT, hole_bytes=(1 << 63) - 1),
    ],
    ids=["no stream", "too large", "no offset", "no hole"],
)
def test_what_a_worker_sends_and_cannot_be_output_reaches_nobody(
    hostile: manager_pb2.StreamOutputResponse,
) -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            reading = asyncio.create_task(collect(stream(fetcher, job_id)))
            (question,) = (await fetcher.poll()).outputs
            message = worker_pb2.PushOutputRequest(chunk=hostile)
            with suppress(grpc.aio.AioRpcError):
                await fetcher.push(question.number, of(message, END))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await reading
            assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert raised.value.details() == "w1 sends what cannot be a piece of output"

    asyncio.run(scenario())


def test_statistics_that_are_no_numbers_are_not_shown() -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, _):
            manager = fetcher.manager
            for load, shown in ((0.5, 0.5), (float("nan"), 0.0), (float("inf"), 0.0)):
                beat = worker_pb2.HeartbeatRequest(
                    session=fetcher.session,
                    statistics=manager_pb2.NodeStatistics(load_1m=load, cpu_percent=1),
                )
                await manager.workers.Heartbeat(beat, metadata=manager.metadata)
                answer = await manager.users.ListWorkers(
                    manager_pb2.ListWorkersRequest(), metadata=manager.metadata
                )
                assert [each.statistics.load_1m for each in answer.workers] == [shown]

    asyncio.run(scenario())


def test_a_reader_that_goes_away_ends_what_the_worker_sends() -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            call = stream(fetcher, job_id)
            reading = asyncio.create_task(call.read())
            (question,) = (await fetcher.poll()).outputs
            asleep = asyncio.Event()

            async def messages() -> AsyncIterator[worker_pb2.PushOutputRequest]:
                yield chunk(b"a")
                await asleep.wait()

            pushing = asyncio.create_task(fetcher.push(question.number, messages()))
            assert (await reading).data == b"a"
            await settle()
            assert not pushing.done()
            call.cancel()
            assert await pushing == worker_pb2.PushOutputResponse()
            asleep.set()

    asyncio.run(scenario())


def test_a_slow_reader_holds_the_worker_back() -> None:
    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            call = stream(fetcher, job_id)
            reading = asyncio.create_task(call.read())
            (question,) = (await fetcher.poll()).outputs
            count = 0

            async def messages() -> AsyncIterator[worker_pb2.PushOutputRequest]:
                nonlocal count
                for count in range(1, 201):  # noqa: B007 - read below
                    yield chunk(b"x" * (256 << 10))
                yield END

            pushing = asyncio.create_task(fetcher.push(question.number, messages()))
            await reading
            seen = -1
            while seen != count:
                # As far as it gets without a reader.
                seen = count
                await settle()
                await settle()
            assert count < 60
            rest = 0
            while (more := await call.read()) is not grpc.aio.EOF:
                rest += len(more.data)
            await pushing
            assert rest == 199 * (256 << 10)

    asyncio.run(scenario())


def test_what_tasks_use_is_asked_for_and_left_out_when_it_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_use, "ANSWER_SECONDS", 600.0)

    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            wanted = manager_pb2.GetJobStatusRequest(
                job=manager_pb2.JobSelector(job_id=job_id), attempts_limit=9, live=True
            )

            async def ask() -> manager_pb2.Attempt:
                answer = await fetcher.manager.users.GetJobStatus(
                    wanted, metadata=fetcher.manager.metadata
                )
                (attempt,) = answer.attempts
                assert attempt.state == types_pb2.RUNNING
                return attempt

            asking = asyncio.create_task(ask())
            (question,) = (await fetcher.poll()).statuses
            assert [each.job_id for each in question.request.keys] == [job_id]
            answer = task_pb2.GetTaskStatusResponse(
                tasks=[task_pb2.TaskStatus(
                    key=question.request.keys[0], rss_bytes=5, max_rss_bytes=7, cpu_user_us=9
                )]
            )  # fmt: skip
            pushed = worker_pb2.PushTaskStatusRequest(
                session=fetcher.session, number=question.number, status=answer
            )
            await fetcher.manager.workers.PushTaskStatus(pushed, metadata=fetcher.manager.metadata)
            attempt = await asking
            assert (attempt.rss_bytes, attempt.max_rss_bytes, attempt.cpu_user_us) == (5, 7, 9)
            # Nobody waits for it any more.
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await fetcher.manager.workers.PushTaskStatus(
                    pushed, metadata=fetcher.manager.metadata
                )
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            monkeypatch.setattr(live_use, "ANSWER_SECONDS", 0.1)
            assert not (await ask()).HasField("rss_bytes")

    asyncio.run(scenario())


def test_what_nobody_asked_a_worker_for_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_use, "ANSWER_SECONDS", 600.0)

    async def scenario() -> None:
        async with running_a_job() as (fetcher, job_id):
            wanted = manager_pb2.GetJobStatusRequest(
                job=manager_pb2.JobSelector(job_id=job_id), attempts_limit=9, live=True
            )
            users = fetcher.manager.users
            asking = asyncio.ensure_future(
                users.GetJobStatus(wanted, metadata=fetcher.manager.metadata)
            )
            (question,) = (await fetcher.poll()).statuses
            other = task_pb2.TaskStatus(key=question.request.keys[0], rss_bytes=5)
            other.key.attempt += 1
            pushed = worker_pb2.PushTaskStatusRequest(
                session=fetcher.session,
                number=question.number,
                status=task_pb2.GetTaskStatusResponse(tasks=[other]),
            )
            await fetcher.manager.workers.PushTaskStatus(pushed, metadata=fetcher.manager.metadata)
            (attempt,) = (await asking).attempts
            assert not attempt.HasField("rss_bytes")

    asyncio.run(scenario())
