"""ManagerService: what users ask. Translates, calls, renders; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from titan import __version__
from titan.errors import NoRoom, NotFound
from titan.manager import translate
from titan.manager.feed import Watcher
from titan.manager.kernel.commands import Cancelled, Submitted
from titan.manager.output import OutputRelay
from titan.manager.roster import Roster
from titan.manager.shell import Shell
from titan.queries import reads
from titan.rpc.v1 import manager_pb2


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
        return reads.get_job_status(self._shell.kernel.state, request)

    def ListJobs(  # noqa: N802
        self, request: manager_pb2.ListJobsRequest
    ) -> manager_pb2.ListJobsResponse:
        """A page of jobs."""
        return reads.list_jobs(self._shell.kernel.state, request)

    def CancelJob(  # noqa: N802
        self, request: manager_pb2.CancelJobRequest
    ) -> manager_pb2.CancelJobResponse:
        """Cancels jobs or tasks of them."""
        answer: Cancelled = self._shell.execute(translate.cancel_command(request))
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
        shell = self._shell
        stats = reads.get_stats(shell.kernel.state)
        stats.version = __version__
        stats.started_us = shell.started_us
        stats.now_us = shell.now_us()
        stats.recovery_us = shell.recovery_us
        stats.recovered_records = shell.recovered_records
        return stats

    def _watch_answers(
        self, job_ids: list[int], seen_lsn: int, lsn: int
    ) -> Iterator[manager_pb2.WatchJobsResponse]:
        """At least one answer; an empty one says that there is nothing before the live part.

        Only the last one moves the LSN on: whoever comes back before it gets all again.
        """
        state = self._shell.kernel.state
        pages = reads.job_pages(state, [state.get_job(job_id) for job_id in job_ids])
        page = next(pages, [])
        for following in pages:
            yield manager_pb2.WatchJobsResponse(jobs=page, lsn=seen_lsn)
            page = following
        yield manager_pb2.WatchJobsResponse(jobs=page, lsn=lsn)
