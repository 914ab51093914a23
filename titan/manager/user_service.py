"""ManagerService: what users ask. Translates, calls, renders; decides nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Generator
from dataclasses import replace
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.message import Message

from titan import __version__
from titan.errors import InvalidJob, NoRoom, NotFound
from titan.manager import permissions, translate
from titan.manager.feed import Watcher
from titan.manager.kernel.commands import CancelJobs, Changed, SubmitJobs, Submitted
from titan.manager.kernel.submit import check_steps
from titan.manager.live_use import add_live_use
from titan.manager.output import OutputRelay
from titan.manager.past import ANSWER_SECONDS_MAX, FORGOTTEN, NOW_DEADLINE_SECONDS, PastDesk
from titan.manager.reach import Reach
from titan.manager.roster import Roster
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_store import ID_BYTES
from titan.manager.shell import Shell
from titan.queries import reads
from titan.queries.requests import check_moment
from titan.queries.selection import JobForgotten, JobSelector, select_job
from titan.queries.stories import Story, find_story
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState

# The loop is held up by so many jobs at once, a few milliseconds.
WALK_JOBS: Final = 2_000
WATCHED_MAX: Final = 100_000
WATCH_INTERVAL_MS_MAX: Final = 60_000
# An answer of so many jobs lets a watch with an interval rest twice as long, and so on up to that.
MANY_JOBS: Final = 50
REST_TIMES_MAX: Final = 4

Response = TypeVar("Response", bound=Message)
# At once, or where another process has to be asked, later.
Answered: TypeAlias = Response | Awaitable[Response]


class UserService:
    """The handlers, a method for each RPC of ManagerService."""

    def __init__(
        self, shell: Shell, reach: Reach, roster: Roster, past: PastDesk, secrets: SecretDesk
    ) -> None:
        self._shell = shell
        self._secrets = secrets
        self._reach = reach
        self._roster = roster
        self._past = past
        self._output = OutputRelay(shell, reach, past)

    def SubmitJob(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.SubmitJobRequest
    ) -> Generator[Awaitable[None] | None, None, manager_pb2.SubmitJobResponse]:
        """Accepts jobs, in steps between which the loop turns; nothing is done but in the last.

        Only secrets are on the disk before that, and taken away again if it comes to nothing.
        """
        secrets = translate.take_secrets(request)
        ids = [os.urandom(ID_BYTES) if each else b"" for each in secrets]
        command = yield from check_steps((yield from translate.submit_steps(request, ids)))
        if not any(secrets):
            return self._accept(command)
        used = {terms.environment for _, _, terms in command.jobs}
        new = {ids[at]: each for at, each in enumerate(secrets) if each and at in used}
        try:
            if not self._was_accepted(command):
                yield self._secrets.keep(new)
            response = self._accept(command)
            self._secrets.watch(response.job_ids)
        finally:
            self._secrets.settle(new)
        return response

    def _was_accepted(self, command: SubmitJobs) -> bool:
        """Whether the request came before: then nothing of it is needed."""
        requests = self._shell.kernel.state.requests
        return (
            bool(command.request_id) and requests.get(command.user, command.request_id) is not None
        )

    def _accept(self, command: SubmitJobs) -> manager_pb2.SubmitJobResponse:
        try:
            answer: Submitted = self._shell.execute(command)
        except NoRoom as error:
            if self._shell.kernel.room:
                # It is another limit than the disk's.
                raise
            room = self._shell.journal.room_fields()
            where = " ".join(f"{name}={value}" for name, value in room.items())
            raise NoRoom(f"{error} ({where})") from error
        return manager_pb2.SubmitJobResponse(job_ids=answer.job_ids, lsn=self._shell.lsn)

    def GetJobStatus(  # noqa: N802
        self, request: manager_pb2.GetJobStatusRequest
    ) -> Answered[manager_pb2.GetJobStatusResponse]:
        """One job and some of its attempts."""
        if request.HasField("at"):
            return self._past_status(request)
        try:
            status = reads.get_job_status(self._shell.kernel.state, request)
            check_script(status)
            return self._with_live_use(status) if request.live else status
        except JobForgotten as forgotten:
            return self._forgotten_status(forgotten.job_id, request)

    def ListJobs(  # noqa: N802
        self, request: manager_pb2.ListJobsRequest
    ) -> Answered[manager_pb2.ListJobsResponse]:
        """A page of jobs."""
        if request.HasField("at"):
            return self._ask("ListJobs", request, manager_pb2.ListJobsResponse)
        return reads.list_jobs(self._shell.kernel.state, request)

    def CancelJob(  # noqa: N802
        self, request: manager_pb2.CancelJobRequest
    ) -> Answered[manager_pb2.CancelJobResponse]:
        """Cancels jobs or tasks of them."""
        command = translate.cancel_command(request, permissions.only_of())
        try:
            answer: Changed = self._shell.execute(command)
        except JobForgotten:
            return self._cancel_with_forgotten(request, command)
        state = self._shell.kernel.state
        chosen = [state.get_job(job_id) for job_id in answer.job_ids[: reads.LIST_MAX]]
        return manager_pb2.CancelJobResponse(
            jobs=next(reads.job_pages(state, chosen), []),
            already_ended=answer.already_ended,
            lsn=self._shell.lsn,
        )

    async def WatchJobs(  # noqa: N802
        self, request: manager_pb2.WatchJobsRequest
    ) -> AsyncIterator[manager_pb2.WatchJobsResponse]:
        """Jobs as they change."""
        feed, state = self._shell.feed, self._shell.kernel.state
        if len(request.job_ids) > WATCHED_MAX:
            raise InvalidJob(f"at most {WATCHED_MAX} jobs are watched by number: watch all of them")
        if request.interval_ms > WATCH_INTERVAL_MS_MAX:
            raise InvalidJob(f"{request.interval_ms} ms between answers: a minute is the most")
        for job_id in request.job_ids:
            if job_id not in state.jobs and not state.is_forgotten(job_id):
                # It would never change, and the watch never end.
                raise NotFound(f"there is no job {job_id}")
        watcher = Watcher(frozenset(request.job_ids))
        feed.add(watcher)
        try:
            # What changes while it is looked for is told again.
            # Not the state's LSN: of its record more may change, and not be told yet.
            lsn, seen_lsn = feed.lsn, request.after_lsn
            if request.job_ids:
                changed = [each for each in request.job_ids if self._has_changed(each, seen_lsn)]
                if not changed:
                    changed = await watcher.wait_changed()
                    lsn = feed.lsn
            else:
                changed = await self._all_changed(seen_lsn)
            while not watcher.is_cut:
                async for answer in self._watch_answers(watcher, changed, seen_lsn, lsn):
                    yield answer
                seen_lsn = lsn
                if request.interval_ms:
                    await asyncio.sleep(_rest_seconds(request.interval_ms, len(changed)))
                changed = await watcher.wait_changed()
                lsn = feed.lsn
            raise NoRoom("this watch fell too far behind; begin again after its last LSN")
        finally:
            feed.remove(watcher)

    def StreamOutput(  # noqa: N802
        self, request: manager_pb2.StreamOutputRequest
    ) -> AsyncIterator[manager_pb2.StreamOutputResponse]:
        """What a task wrote."""
        return self._output.stream(request)

    def ListWorkers(  # noqa: N802
        self, request: manager_pb2.ListWorkersRequest
    ) -> Answered[manager_pb2.ListWorkersResponse]:
        """All workers that have not taken their leave."""
        if request.HasField("at"):
            return self._ask("ListWorkers", request, manager_pb2.ListWorkersResponse)
        return manager_pb2.ListWorkersResponse(workers=self._roster.list(), lsn=self._shell.lsn)

    def DrainWorker(  # noqa: N802
        self, request: manager_pb2.DrainWorkerRequest
    ) -> manager_pb2.DrainWorkerResponse:
        """Drains workers, or lifts their drains."""
        numbers: list[int] = self._shell.execute(translate.drain_command(request))
        return manager_pb2.DrainWorkerResponse(
            workers=map(self._roster.message, numbers), lsn=self._shell.lsn
        )

    def GetStats(  # noqa: N802
        self, request: manager_pb2.GetStatsRequest
    ) -> Answered[manager_pb2.GetStatsResponse]:
        """The cluster in numbers."""
        if request.HasField("at"):
            return self._ask("GetStats", request, manager_pb2.GetStatsResponse)
        shell = self._shell
        stats = reads.get_stats(shell.kernel.state)
        stats.version = __version__
        stats.started_us = shell.started_us
        stats.now_us = shell.now_us()
        stats.recovery_us = shell.recovery_us
        stats.recovered_records = shell.recovered_records
        stats.term, stats.leader = shell.leadership.term, shell.leadership.leader
        return stats

    async def GetEvents(  # noqa: N802
        self, request: manager_pb2.GetEventsRequest
    ) -> AsyncIterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job."""
        story: Story | None
        if request.HasField("at"):
            check_moment(request.at)
            await self._shell.wait_durable(self._shell.lsn)
            # Which job was meant then, and whether there was a then.
            story = await self._past.find_story(request)
        else:
            story = find_story(self._shell.kernel.state, request)
            await self._shell.wait_durable(story.last_lsn)
        while story is not None:
            page, story = await self._past.page_of_story(story)
            yield page

    async def _with_live_use(
        self, status: manager_pb2.GetJobStatusResponse
    ) -> manager_pb2.GetJobStatusResponse:
        await add_live_use(self._shell, self._reach, status)
        return status

    async def _cancel_with_forgotten(
        self, request: manager_pb2.CancelJobRequest, command: CancelJobs
    ) -> manager_pb2.CancelJobResponse:
        """The same when some of the jobs ended so long ago that only the log knows them."""
        state, selectors = self._shell.kernel.state, command.which.selectors
        gone: dict[int, manager_pb2.Job] = {}
        answer: Changed | None = None
        loop = asyncio.get_running_loop()
        end = loop.time() + NOW_DEADLINE_SECONDS
        while answer is None:
            left = tuple(each for i, each in enumerate(selectors) if i not in gone)
            try:
                nothing = Changed([], [])
                which = replace(command.which, selectors=left)
                answer = self._shell.execute(replace(command, which=which)) if left else nothing
            except JobForgotten as forgotten:
                # Nothing was cancelled, then. Which of them is it?
                place = next(
                    i
                    for i, each in enumerate(selectors)
                    if i not in gone and _is_forgotten(state, each)
                )
                wanted = manager_pb2.GetJobStatusRequest(job=request.jobs[place])
                seconds = max(end - loop.time(), 0)
                status = await self._forgotten_status(forgotten.job_id, wanted, seconds)
                permissions.check_job_of(status.job.user, status.job.job_id)
                gone[place] = status.job
        chosen = (
            message
            for page in reads.job_pages(state, [state.get_job(each) for each in answer.job_ids])
            for message in page
        )
        jobs = [gone[i] if i in gone else next(chosen) for i in range(len(selectors))]
        return manager_pb2.CancelJobResponse(
            jobs=jobs,
            already_ended=[*(each.job_id for each in gone.values()), *answer.already_ended],
            lsn=self._shell.lsn,
        )

    async def _past_status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        status = await self._ask("GetJobStatus", request, manager_pb2.GetJobStatusResponse)
        check_script(status)
        return status

    async def _ask(self, method: str, request: Any, response_class: type[Response]) -> Response:
        """The answer of a lookback process, which sees only what is durable."""
        check_moment(request.at)
        await self._shell.wait_durable(self._shell.lsn)
        about = request.at.SerializeToString()
        reply = await self._past.ask(method, request.SerializeToString(), about=about)
        return response_class.FromString(reply)

    async def _forgotten_status(
        self,
        job_id: int,
        request: manager_pb2.GetJobStatusRequest,
        seconds: float = NOW_DEADLINE_SECONDS,
    ) -> manager_pb2.GetJobStatusResponse:
        """A job that ended and was forgotten: as it was, it is. Raises StillReading after that."""
        await self._shell.wait_durable(self._shell.lsn)
        wanted = manager_pb2.GetJobStatusRequest()
        wanted.CopyFrom(request)
        wanted.job.job_id = job_id
        reply = await self._past.ask(
            "GetForgottenJob", wanted.SerializeToString(), about=FORGOTTEN, seconds=seconds
        )
        response = manager_pb2.GetJobStatusResponse.FromString(reply)
        check_script(response)
        response.lsn = self._shell.lsn
        return response

    def _has_changed(self, job_id: int, after_lsn: int) -> bool:
        jobs = self._shell.kernel.state.jobs
        # One that was forgotten ended at some time; who asks for it has not heard of it.
        return job_id not in jobs or jobs.head(job_id).changed_lsn > after_lsn

    async def _all_changed(self, after_lsn: int) -> list[int]:
        """The jobs that changed after that, by number; the loop turns while it is looked for."""
        jobs = self._shell.kernel.state.jobs
        changed: list[int] = []
        last_id = 0
        while ids := list(islice(jobs.ids.irange(last_id, inclusive=(False, True)), WALK_JOBS)):
            changed += [each for each in ids if jobs.head(each).changed_lsn > after_lsn]
            last_id = ids[-1]
            await asyncio.sleep(0)
        return changed

    async def _watch_answers(
        self, watcher: Watcher, job_ids: list[int], seen_lsn: int, lsn: int
    ) -> AsyncIterator[manager_pb2.WatchJobsResponse]:
        """At least one answer; an empty one says that there is nothing before the live part.

        Only the last one moves the LSN on: whoever comes back before it gets all again.
        """
        state = self._shell.kernel.state
        page: list[manager_pb2.Job] = []
        for start in range(0, len(job_ids), reads.LIST_MAX):
            ids = job_ids[start : start + reads.LIST_MAX]
            # Who watches all jobs sees fewer steps when he is slow, and it may be the end that he
            # does not see; to look for each in the log would make him slower still.
            for job_id in ids if watcher.job_ids else ():
                if job_id not in state.jobs:
                    nothing_else = manager_pb2.GetJobStatusRequest()
                    status = await self._forgotten_status(job_id, nothing_else, ANSWER_SECONDS_MAX)
                    yield manager_pb2.WatchJobsResponse(jobs=[status.job], lsn=seen_lsn)
            jobs = [job for job in map(state.jobs.get, ids) if job is not None]
            for following in reads.job_pages(state, jobs):
                if page:
                    yield manager_pb2.WatchJobsResponse(jobs=page, lsn=seen_lsn)
                page = following
        yield manager_pb2.WatchJobsResponse(jobs=page, lsn=lsn)


def _rest_seconds(interval_ms: int, told: int) -> float:
    """How long a watch rests that told so many jobs: where many change, each is told once."""
    return interval_ms / 1000 * min(1 + told / MANY_JOBS, REST_TIMES_MAX)


def check_script(status: manager_pb2.GetJobStatusResponse) -> None:
    """Raises PermissionDenied for the text of another's script."""
    if status.script:
        permissions.check_job_of(status.job.user, status.job.job_id)


def _is_forgotten(state: ClusterState, selector: JobSelector) -> bool:
    try:
        select_job(state, selector)
    except JobForgotten:
        return True
    return False
