"""ManagerService: what users ask. Translates, calls, renders; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Final

from titan import __version__
from titan.errors import InvalidJob, NoRoom, NotFound
from titan.manager import translate, views
from titan.manager.feed import Watcher
from titan.manager.kernel.commands import Cancelled, JobFilter, Submitted
from titan.manager.kernel.selection import matches, select_job
from titan.manager.output import OutputRelay
from titan.manager.roster import Roster
from titan.manager.shell import Shell
from titan.model import Resources, WorkerState
from titan.rpc.v1 import manager_pb2
from titan.state.job import Job

LIST_MAX: Final = 1_000
ATTEMPTS_MAX: Final = 10_000
# A command takes up to 1 MiB, a message 16: an answer is full at so many bytes of jobs.
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024


class UserService:
    """The handlers, a method for each RPC of ManagerService."""

    def __init__(self, shell: Shell, roster: Roster) -> None:
        self._shell = shell
        self._roster = roster
        self._output = OutputRelay(shell)

    def SubmitJob(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.SubmitJobRequest
    ) -> manager_pb2.SubmitJobResponse:
        """Accepts jobs."""
        try:
            answer: Submitted = self._shell.execute(translate.submit_command(request))
        except NoRoom as error:
            raise NoRoom(f"{error} ({self._shell.journal.describe_room()})") from error
        return manager_pb2.SubmitJobResponse(job_ids=answer.job_ids, lsn=self._shell.lsn)

    def GetJobStatus(  # noqa: N802
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """One job and some of its attempts."""
        state = self._shell.kernel.state
        selector = translate.selector_of(request.job)
        job = select_job(state, selector)
        if request.attempts_limit < 0:
            raise InvalidJob("the number of attempts must not be negative")
        limit = min(request.attempts_limit, ATTEMPTS_MAX)
        wanted = [each.indexes for each in selector.indexes]
        attempts = views.attempt_messages(state, job, wanted, frozenset(request.attempt_states))
        return manager_pb2.GetJobStatusResponse(
            job=views.job_message(state, job, {}),
            attempts=islice(attempts, limit) if limit else (),
            lsn=self._shell.lsn,
        )

    def ListJobs(  # noqa: N802
        self, request: manager_pb2.ListJobsRequest
    ) -> manager_pb2.ListJobsResponse:
        """A page of jobs."""
        wanted = translate.filter_of(request.filter)
        limit = min(request.limit or LIST_MAX, LIST_MAX)
        if limit < 0:
            raise InvalidJob("the limit must not be negative")
        found = list(islice(self._list(request, wanted), limit + 1))
        jobs = next(self._pages(found[:limit]), [])
        return manager_pb2.ListJobsResponse(
            jobs=jobs, more=len(found) > len(jobs), lsn=self._shell.lsn
        )

    def CancelJob(  # noqa: N802
        self, request: manager_pb2.CancelJobRequest
    ) -> manager_pb2.CancelJobResponse:
        """Cancels jobs or tasks of them."""
        answer: Cancelled = self._shell.execute(translate.cancel_command(request))
        state = self._shell.kernel.state
        chosen = [state.get_job(job_id) for job_id in answer.job_ids[:LIST_MAX]]
        return manager_pb2.CancelJobResponse(
            jobs=next(self._pages(chosen), []),
            already_ended=answer.already_ended,
            lsn=self._shell.lsn,
        )

    async def WatchJobs(  # noqa: N802
        self, request: manager_pb2.WatchJobsRequest
    ) -> AsyncIterator[manager_pb2.WatchJobsResponse]:
        """Jobs as they change."""
        feed, state = self._shell.feed, self._shell.kernel.state
        unknown = [each for each in request.job_ids if each not in state.jobs]
        if unknown:
            # It would never change, and the watch never end.
            raise NotFound(f"there is no job {unknown[0]}")
        watcher = Watcher(frozenset(request.job_ids))
        feed.add(watcher)
        try:
            watched = [state.jobs[each] for each in request.job_ids] or state.jobs.values()
            first = [job.job_id for job in watched if job.changed_lsn > request.after_lsn]
            seen_lsn = request.after_lsn
            changed = first
            if not first and request.job_ids:
                changed = await watcher.wait_changed()
            while not watcher.is_cut:
                lsn = self._shell.lsn
                for answer in self._watch_answers(changed, seen_lsn, lsn):
                    yield answer
                seen_lsn = lsn
                changed = await watcher.wait_changed()
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
    ) -> manager_pb2.ListWorkersResponse:
        """All workers that have not taken their leave."""
        return manager_pb2.ListWorkersResponse(workers=self._roster.list(), lsn=self._shell.lsn)

    def GetStats(  # noqa: N802
        self, request: manager_pb2.GetStatsRequest
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        state = self._shell.kernel.state
        workers = views.listed_workers(state)
        healthy = [each for each in workers if each.state is WorkerState.HEALTHY]
        capacity = free = Resources()
        for worker in healthy:
            capacity, free = capacity.plus(worker.capacity), free.plus(worker.free)
        by_state = {each: sum(worker.state is each for worker in workers) for each in WorkerState}
        del by_state[WorkerState.DEREGISTERED]
        return manager_pb2.GetStatsResponse(
            cluster_id=state.cluster_id,
            version=__version__,
            started_us=self._shell.started_us,
            now_us=self._shell.now_us(),
            recovery_us=self._shell.recovery_us,
            recovered_records=self._shell.recovered_records,
            jobs=views.counts_message(state.job_counts),
            tasks=views.counts_message(state.task_counts),
            workers={each.name.lower(): count for each, count in by_state.items()},
            capacity=views.resources_message(capacity),
            free=views.resources_message(free),
            lsn=self._shell.lsn,
        )

    def _list(self, request: manager_pb2.ListJobsRequest, wanted: JobFilter) -> Iterator[Job]:
        state = self._shell.kernel.state
        jobs = state.jobs if wanted.all or wanted.wants_ended else state.live_jobs
        if wanted.all:
            before = request.before_job_id or None
            ids = jobs.irange(maximum=before, inclusive=(True, False), reverse=True)
        else:
            ids = jobs.irange(minimum=request.after_job_id, inclusive=(False, True))
        return (jobs[job_id] for job_id in ids if matches(jobs[job_id], wanted))

    def _watch_answers(
        self, job_ids: list[int], seen_lsn: int, lsn: int
    ) -> Iterator[manager_pb2.WatchJobsResponse]:
        """At least one answer; an empty one says that there is nothing before the live part.

        Only the last one moves the LSN on: whoever comes back before it gets all again.
        """
        state = self._shell.kernel.state
        pages = self._pages([state.get_job(job_id) for job_id in job_ids])
        page = next(pages, [])
        for following in pages:
            yield manager_pb2.WatchJobsResponse(jobs=page, lsn=seen_lsn)
            page = following
        yield manager_pb2.WatchJobsResponse(jobs=page, lsn=lsn)

    def _pages(self, jobs: list[Job]) -> Iterator[list[manager_pb2.Job]]:
        """The jobs as messages, as many together as an answer takes; none for no jobs."""
        page: list[manager_pb2.Job] = []
        size_bytes = 0
        explained: dict[Resources, str] = {}
        for job in jobs:
            message = views.job_message(self._shell.kernel.state, job, explained)
            size_bytes += message.ByteSize()
            if page and (size_bytes > ANSWER_BYTES_MAX or len(page) == LIST_MAX):
                yield page
                page, size_bytes = [], message.ByteSize()
                # The caller may have waited; the state may be another.
                explained.clear()
            page.append(message)
        if page:
            yield page
