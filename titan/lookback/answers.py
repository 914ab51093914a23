"""The questions of ManagerService, answered for moments of the past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from titan.errors import NotFound
from titan.lookback.forgotten import state_with_job
from titan.lookback.past import Past
from titan.lookback.story import Wanted, page_of_story
from titan.model import IndexRange, task_name
from titan.queries import reads
from titan.queries.requests import check_moment, selector_of
from titan.queries.selection import JobForgotten, check_indexes, select_job
from titan.rpc.v1 import manager_pb2
from titan.state.cluster import ClusterState


class Answers:
    """Answers from one data directory. Every method raises TitanError.

    Without `at` they tell of the newest durable record.
    """

    def __init__(self, past: Past) -> None:
        self._past = past

    def get_job_status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """One job and some of its attempts; also of one that was forgotten at that moment."""
        state = self._state_of(request)
        moment = (state.lsn, state.time_us)
        try:
            response = reads.get_job_status(state, request)
        except JobForgotten as forgotten:
            request.job.job_id = forgotten.job_id
            response = self.get_forgotten_job(request)
        response.lsn, response.at_us = moment
        return response

    def get_forgotten_job(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """The same for a job that the caller knows to be forgotten, by its number."""
        state = state_with_job(self._past, request.job.job_id)
        return reads.get_job_status(state, request)

    def list_jobs(self, request: manager_pb2.ListJobsRequest) -> manager_pb2.ListJobsResponse:
        """A page of the jobs that were remembered."""
        state = self._state_of(request)
        response = reads.list_jobs(state, request)
        response.at_us = state.time_us
        return response

    def list_workers(
        self, request: manager_pb2.ListWorkersRequest
    ) -> manager_pb2.ListWorkersResponse:
        """The workers as the log knows them, without what only the manager's memory had."""
        state = self._state_of(request)
        response = reads.list_workers(state)
        response.at_us = state.time_us
        return response

    def get_stats(self, request: manager_pb2.GetStatsRequest) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        state = self._state_of(request)
        response = reads.get_stats(state)
        response.at_us = state.time_us
        return response

    def get_events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""
        state = self._state_of(request)
        last_lsn = state.lsn if request.HasField("at") else 0
        selector = selector_of(request.job)
        after_lsn, last_of_job, job_id = request.after_lsn, 0, 0
        try:
            job = select_job(state, selector)
        except JobForgotten as forgotten:
            job_id = forgotten.job_id
            if selector.indexes:
                check_indexes(state_with_job(self._past, job_id).get_job(job_id), selector.indexes)
        else:
            job_id = job.job_id
            after_lsn = max(after_lsn, job.submit_lsn - 1)
            last_of_job = job.changed_lsn if job.has_ended else 0
        ends = [lsn for lsn in (last_lsn, last_of_job) if lsn]
        last_lsn = min(ends, default=0)
        left = request.limit
        while True:
            wanted = Wanted(
                job_id=job_id, indexes=selector.indexes, after_lsn=after_lsn, last_lsn=last_lsn
            )
            page, has_more = self._page(wanted, left)
            left -= len(page.events)
            yield page
            if not has_more:
                return
            after_lsn = page.lsn

    def page_of_events(self, request: bytes) -> bytes:
        """For the manager, which knows where the story may begin and end: a page of it.

        From and to a msgpack array: see `titan.manager.past`.
        """
        job_id, indexes, after_lsn, last_lsn, last_time_us, limit = msgpack.unpackb(request)
        wanted = Wanted(
            job_id=job_id,
            indexes=tuple(IndexRange(*each) for each in indexes),
            after_lsn=after_lsn,
            last_lsn=last_lsn,
            last_time_us=last_time_us,
        )
        page, has_more = self._page(wanted, limit)
        packed: bytes = msgpack.packb((page.SerializeToString(), has_more))
        return packed

    def find_output(self, request: bytes) -> bytes:
        """Of a task of a forgotten job, where what it wrote is: epoch, whether it is an array,
        and (attempt, worker number) of the attempts that began."""
        job_id, index = msgpack.unpackb(request)
        job = state_with_job(self._past, job_id).get_job(job_id)
        if job.find_task_state(index) is None:
            raise NotFound(f"there is no task {task_name(job_id, index, job.is_array)}")
        begun = [
            (each.attempt, each.worker)
            for each in (job.ended.of_index(index) if job.ended else ())
            if each.start_us
        ]
        packed: bytes = msgpack.packb((job.epoch, job.is_array, begun))
        return packed

    def _page(self, wanted: Wanted, limit: int) -> tuple[manager_pb2.GetEventsResponse, bool]:
        return self._past.read(lambda: page_of_story(self._past.log_directory, wanted, limit))

    def _state_of(self, request: Any) -> ClusterState:
        if not request.HasField("at"):
            return self._past.newest()
        check_moment(request.at)
        return self._past.state_at(lsn=request.at.lsn, time_us=request.at.time_us)


def handlers(answers: Answers) -> dict[str, Callable[[bytes], bytes]]:
    """What a lookback process does, by the names that the manager calls it."""
    return {
        "GetJobStatus": _on_message(answers.get_job_status, manager_pb2.GetJobStatusRequest),
        "GetForgottenJob": _on_message(answers.get_forgotten_job, manager_pb2.GetJobStatusRequest),
        "ListJobs": _on_message(answers.list_jobs, manager_pb2.ListJobsRequest),
        "ListWorkers": _on_message(answers.list_workers, manager_pb2.ListWorkersRequest),
        "GetStats": _on_message(answers.get_stats, manager_pb2.GetStatsRequest),
        "PageOfEvents": answers.page_of_events,
        "FindOutput": answers.find_output,
    }


def _on_message(answer: Callable[[Any], Any], request_class: type[Any]) -> Callable[[bytes], bytes]:
    def handle(request: bytes) -> bytes:
        reply: bytes = answer(request_class.FromString(request)).SerializeToString()
        return reply

    return handle
