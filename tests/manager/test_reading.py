"""Watches, lists and pages: what readers see, from where they were before."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.manager import harness
from tests.manager.harness import (
    Manager,
    fake_worker,
    running_manager,
    submit_request,
    until,
)
from titan.client import retry
from titan.client.connection import failure_of
from titan.errors import StillReading
from titan.manager import feed, translate, user_service
from titan.manager.dispatch import Dispatcher
from titan.manager.kernel import Settings
from titan.manager.kernel.commands import CancelJobs, WhichJobs
from titan.manager.past import DEADLINE_SECONDS, PastDesk
from titan.manager.reach import Reach
from titan.manager.roster import Roster
from titan.manager.user_service import UserService
from titan.queries import reads
from titan.queries.selection import JobSelector
from titan.rpc.v1 import manager_pb2
from titan.state.packed_job import JobHead


async def cancel(manager: Manager, job_id: int) -> manager_pb2.CancelJobResponse:
    """Cancels it."""
    return await manager.users.CancelJob(
        manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(job_id=job_id)]),
        metadata=manager.metadata,
    )


def cancel_command(job_id: int) -> CancelJobs:
    """The same for the kernel."""
    return CancelJobs(which=WhichJobs(selectors=(JobSelector(job_id=job_id),)), grace_ms=0)


def ids_of(answer: manager_pb2.WatchJobsResponse | manager_pb2.ListJobsResponse) -> list[int]:
    """Which jobs."""
    return [job.job_id for job in answer.jobs]


def test_a_watch_goes_on_after_the_lsn_it_had_seen() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=3)
            watch = manager.watch()
            first = await anext(watch)
            assert ids_of(first) == [1, 2, 3]
            await cancel(manager, 2)
            assert ids_of(await anext(watch)) == [2]
            again = await anext(manager.watch(after_lsn=first.lsn))
            assert ids_of(again) == [2]
            assert [job.state for job in again.jobs] == [6]
            # Nothing after the last: an empty answer, and then what changes.
            last = manager.watch(after_lsn=again.lsn)
            assert ids_of(await anext(last)) == []
            await manager.submit()
            assert ids_of(await anext(last)) == [4]

    asyncio.run(scenario())


def test_a_watch_of_some_jobs_hears_of_no_others() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=3)
            watch = manager.watch(2)
            assert ids_of(await anext(watch)) == [2]
            await cancel(manager, 1)
            await cancel(manager, 2)
            assert ids_of(await anext(watch)) == [2]

    asyncio.run(scenario())


def test_a_watch_of_a_job_that_does_not_exist_is_refused_instead_of_waiting_for_ever() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(manager.watch(1, 99))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            assert refused.value.details() == "there is no job 99"

    asyncio.run(scenario())


def test_a_watcher_that_falls_too_far_behind_is_cut_off_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "DIRTY_JOBS_MAX", 5)

    async def scenario() -> None:
        async with running_manager() as manager:
            watch = manager.watch()
            await anext(watch)
            manager.disk.held = True
            pending = asyncio.ensure_future(manager.submit(jobs=2))
            # It is busy with these two, which are not durable, when many more change.
            await until(lambda: len(manager.shell.kernel.state.jobs) == 2)
            more = asyncio.ensure_future(manager.submit(jobs=9))
            await until(lambda: len(manager.shell.kernel.state.jobs) == 11)
            manager.disk.release()
            await asyncio.gather(pending, more)

            async def read_all() -> None:
                async for _ in watch:
                    pass

            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await asyncio.wait_for(read_all(), harness.DEADLINE_SECONDS)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "after its last LSN" in (raised.value.details() or "")

    asyncio.run(scenario())


def test_a_long_list_is_paged_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "LIST_MAX", 4)

    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=10)
            await cancel(manager, 3)

            async def page(
                after_job_id: int = 0, before_job_id: int | None = None
            ) -> manager_pb2.ListJobsResponse:
                request = manager_pb2.ListJobsRequest(
                    limit=100, after_job_id=after_job_id, before_job_id=before_job_id or 0
                )
                request.filter.all = before_job_id is not None
                return await manager.users.ListJobs(request, metadata=manager.metadata)

            oldest_first = [await page(after_job_id=last) for last in (0, 5, 9)]
            assert [ids_of(each) for each in oldest_first] == [[1, 2, 4, 5], [6, 7, 8, 9], [10]]
            assert [each.more for each in oldest_first] == [True, True, False]
            newest_first = [await page(before_job_id=last) for last in (0, 7, 3)]
            assert [ids_of(each) for each in newest_first] == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]
            assert [each.more for each in newest_first] == [True, True, False]

    asyncio.run(scenario())


def test_a_read_that_must_see_a_write_is_refused_by_a_log_that_has_not_got_it() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            lsn = (await manager.submit()).lsn
            request = manager_pb2.ListJobsRequest(at_least_lsn=lsn)
            assert ids_of(await manager.users.ListJobs(request, metadata=manager.metadata)) == [1]
            request.at_least_lsn = lsn + 1
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await manager.users.ListJobs(request, metadata=manager.metadata)
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND

    asyncio.run(scenario())


def test_without_room_submits_are_refused_with_the_place_and_reads_go_on() -> None:
    async def scenario() -> None:
        async with running_manager() as manager, fake_worker() as worker:
            await manager.register(worker)
            (running,) = (await manager.submit()).job_ids
            await until(lambda: worker.starts)
            manager.disk.room = False
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await manager.submit()
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "directory=/nowhere free_bytes=0" in (raised.value.details() or "")
            assert (await cancel(manager, running)).jobs[0].cancel_requested
            manager.disk.room = True
            assert list((await manager.submit()).job_ids) == [running + 1]

    asyncio.run(scenario())


def test_what_is_refused_for_another_limit_than_the_disk_tells_nothing_of_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            monkeypatch.setattr(manager.shell.kernel, "settings", Settings(jobs_max=0))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await manager.submit()
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            details = raised.value.details() or ""
            assert "--jobs-max 0" in details
            assert "free_bytes" not in details

    asyncio.run(scenario())


def test_a_watch_of_everything_does_not_look_back_for_what_was_forgotten_meanwhile() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=3)
            watch = manager.watch()
            assert ids_of(await anext(watch)) == [1, 2, 3]
            shell = manager.shell
            shell.kernel.settings = replace(shell.kernel.settings, forget_over=0)
            # It ends and is forgotten in one turn, before the watch is told that it changed.
            shell.execute(cancel_command(2))
            shell.kernel.tick(shell.now_us(), shell.now_us())
            assert 2 not in shell.kernel.state.jobs
            seen = ids_of(await anext(watch))
            await cancel(manager, 3)
            while 3 not in seen:
                seen += ids_of(await anext(watch))
            assert 2 not in seen

    asyncio.run(scenario())


def test_what_changes_while_a_watch_looks_at_all_jobs_is_told_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_service, "WALK_JOBS", 2)

    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=5)
            jobs = manager.shell.kernel.state.jobs
            real = jobs.head
            turns: list[int] = []

            def head(job_id: int) -> JobHead:
                if job_id == 4:
                    # Job 1 was looked at before the loop turned.
                    manager.shell.execute(cancel_command(1))
                asyncio.get_running_loop().call_soon(turns.append, job_id)
                if job_id == 5:
                    assert turns == [1, 2, 3, 4]
                return real(job_id)

            monkeypatch.setattr(jobs, "head", head)
            before = manager.shell.lsn
            watch = manager.watch()
            first = await anext(watch)
            assert ids_of(first) == [1, 2, 3, 4, 5]
            assert first.lsn == before
            monkeypatch.undo()
            second = await anext(watch)
            assert ids_of(second) == [1]
            assert second.lsn > before

    asyncio.run(scenario())


def test_a_caller_is_told_that_the_log_is_still_being_read_before_he_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, float]] = []

    async def ask(
        desk: PastDesk,
        method: str,
        request: bytes,
        *,
        about: object = None,
        seconds: float = DEADLINE_SECONDS,
    ) -> bytes:
        del desk, request, about
        asked.append((method, seconds))
        raise StillReading("5 segments are left")

    monkeypatch.setattr(PastDesk, "ask", ask)

    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit(jobs=3)
            shell = manager.shell
            shell.kernel.settings = replace(shell.kernel.settings, forget_over=0)
            for job_id in (1, 2):
                shell.execute(cancel_command(job_id))
            shell.kernel.tick(shell.now_us(), shell.now_us())
            at = manager_pb2.Moment(lsn=1)
            selector = manager_pb2.JobSelector(job_id=1)
            status = manager_pb2.GetJobStatusRequest(job=selector)
            story = manager_pb2.GetEventsRequest(job=selector, at=at)
            users, metadata, now = manager.users, manager.metadata, retry.ATTEMPT_SECONDS
            cancelled = manager_pb2.CancelJobRequest(jobs=[selector])
            stats = manager_pb2.GetStatsRequest(at=at)
            events = aiter(users.GetEvents(story, metadata=metadata))
            calls: list[tuple[Awaitable[object], str, float]] = [
                (users.GetJobStatus(status, metadata=metadata), "GetForgottenJob", now),
                (users.CancelJob(cancelled, metadata=metadata), "GetForgottenJob", now),
                (users.GetStats(stats, metadata=metadata), "GetStats", retry.PAST_SECONDS),
                (anext(events), "FindStory", math.inf),
            ]
            for call, method, limit in calls:
                with pytest.raises(grpc.aio.AioRpcError, match="5 segments are left") as raised:
                    await call
                failure = failure_of(raised.value)
                assert failure.status is grpc.StatusCode.UNAVAILABLE
                assert failure.is_still_reading
                assert max(seconds for name, seconds in asked if name == method) < limit

    asyncio.run(scenario())


def test_a_watch_does_not_say_that_it_has_seen_what_is_still_being_decided() -> None:
    """Whoever came back with that LSN never heard of what the same record changed later."""

    async def scenario() -> None:
        async with running_manager() as manager:
            await manager.submit()
            shell = manager.shell
            service = UserService(
                shell,
                Reach(shell, Dispatcher()),
                Roster(shell),
                PastDesk(Path("/nowhere")),
                manager.secrets,
            )
            told_lsn = shell.lsn
            # Decided and not written yet: the turn goes on when this one waits.
            shell.execute(translate.submit_command(submit_request(1)))
            assert shell.lsn == told_lsn + 1
            answer = await anext(service.WatchJobs(manager_pb2.WatchJobsRequest()))
            assert ids_of(answer) == [1, 2]
            assert answer.lsn == told_lsn
            await until(lambda: shell.feed.lsn == told_lsn + 1)

    asyncio.run(scenario())
