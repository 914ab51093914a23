"""The questions of ManagerService, answered for moments of the past."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, TypeVar

import msgpack

from titan import events as ev
from titan.errors import NotFound
from titan.lookback.forgotten import ForgottenJobs
from titan.lookback.past import Past
from titan.lookback.placements import Placements
from titan.lookback.story import page_of_story
from titan.model import IndexRange, task_name
from titan.queries import explanations, reads, tasks, workflow
from titan.queries.requests import check_moment, selector_of
from titan.queries.selection import JobForgotten, check_indexes, select_job
from titan.queries.stories import Story, find_story, unpack_story
from titan.rpc.v1 import manager_pb2
from titan.scheduler.rules import rules_of
from titan.scheduler.scheduler import Scheduler
from titan.state.cluster import ClusterState
from titan.state.job import Job

T = TypeVar("T")

# What was said of forgotten jobs; a job with a hundred attempts takes some 20 KiB.
REPLIES_BYTES_MAX: Final = 16 * 1024 * 1024
# What counts where nobody has set a policy and no manager says with which it was started.
DEFAULT_POLICY: Final = ev.PolicySet("", 1, 1, False, 1, 60_000, ())


class Answers:
    """Answers from one data directory. Every method raises TitanError.

    Without `at` they tell of the newest durable record.
    """

    def __init__(self, past: Past, *, look_seconds: float = math.inf) -> None:
        """A forgotten job is looked for so long at once; then StillReading says to ask again."""
        self._past = past
        self._forgotten = ForgottenJobs(past, look_seconds=look_seconds)
        self._placements = Placements(past, look_seconds=look_seconds)
        # Of forgotten jobs, by question: the one asked about last is the last.
        self._replies: OrderedDict[bytes, bytes] = OrderedDict()
        self._replies_bytes = 0

    def get_job_status(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """One job and some of its attempts; also of one that was forgotten at that moment."""
        state = self._state_of(request)
        moment = (state.lsn, state.time_us)
        try:
            response = reads.get_job_status(state, request)
        except JobForgotten as forgotten:
            wanted = manager_pb2.GetJobStatusRequest()
            wanted.CopyFrom(request)
            wanted.job.job_id = forgotten.job_id
            wanted.ClearField("at")
            response = self.get_forgotten_job(wanted)
        response.lsn, response.at_us = moment
        return response

    def get_forgotten_job(
        self, request: manager_pb2.GetJobStatusRequest
    ) -> manager_pb2.GetJobStatusResponse:
        """The same for a job that the caller knows to be forgotten, by its number.

        It is what it was for ever: who had to ask again is told what was found meanwhile.
        """
        question = request.SerializeToString()
        reply = self._replies.pop(question, None)
        if reply is None:
            state = self._forgotten.state_with(request.job.job_id)
            reply = reads.get_job_status(state, request).SerializeToString()
            self._replies_bytes += len(reply)
        self._replies[question] = reply
        while self._replies_bytes > REPLIES_BYTES_MAX and len(self._replies) > 1:
            _, oldest = self._replies.popitem(last=False)
            self._replies_bytes -= len(oldest)
        return manager_pb2.GetJobStatusResponse.FromString(reply)

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

    def list_tasks(self, request: manager_pb2.ListTasksRequest) -> manager_pb2.ListTasksResponse:
        """The states of a job's tasks; also of one that was forgotten at that moment."""
        state = self._state_of(request)
        moment = (state.lsn, state.time_us)
        try:
            response = _at_once(tasks.list_tasks(state, request))
        except JobForgotten as forgotten:
            wanted = manager_pb2.ListTasksRequest()
            wanted.CopyFrom(request)
            wanted.job.job_id = forgotten.job_id
            response = self.list_forgotten_tasks(wanted)
        response.lsn, response.at_us = moment
        return response

    def list_forgotten_tasks(
        self, request: manager_pb2.ListTasksRequest
    ) -> manager_pb2.ListTasksResponse:
        """The same for a job that the caller knows to be forgotten, by its number."""
        return _at_once(tasks.list_tasks(self._forgotten.state_with(request.job.job_id), request))

    def get_workflow(
        self, request: manager_pb2.GetWorkflowRequest
    ) -> manager_pb2.GetWorkflowResponse:
        """The jobs that hung together, as far as they were remembered."""
        state = self._state_of(request)
        response = _at_once(workflow.get_workflow(state, request))
        response.at_us = state.time_us
        return response

    def get_log_range(self, _: manager_pb2.GetLogRangeRequest) -> manager_pb2.GetLogRangeResponse:
        """Which moments can be asked about."""
        first, last = self._past.find_range()
        return manager_pb2.GetLogRangeResponse(
            first_lsn=first.lsn, first_us=first.time_us, last_lsn=last.lsn, last_us=last.time_us
        )

    def explain_job(
        self, request: manager_pb2.ExplainJobRequest, flags: ev.PolicySet | None = None
    ) -> manager_pb2.ExplainJobResponse:
        """Why a task waited, or how it had come to where it was.

        `flags` is the policy that counted where nobody had set one; the log does not know it.
        """
        state = self._state_of(request)
        response = manager_pb2.ExplainJobResponse(lsn=state.lsn, at_us=state.time_us)
        selector = selector_of(request.job)
        try:
            message = self._explain(state, select_job(state, selector), selector.indexes, flags)
        except JobForgotten as forgotten:
            message = self.explain_forgotten(forgotten.job_id, selector.indexes)
        response.explanation.CopyFrom(message)
        return response

    def explain_placed(self, placing: explanations.Placing) -> manager_pb2.Explanation:
        """How an attempt came to its worker, without the state of its task now."""
        lsn, event = self._placements.find(placing)
        before, time_us = self._past.state_before(
            lsn, lambda each: type(each) is ev.TaskAssigned and each == event
        )
        return explanations.placed_message(before, event, lsn=lsn, time_us=time_us)

    def explain_forgotten(
        self, job_id: int, indexes: tuple[IndexRange, ...]
    ) -> manager_pb2.Explanation:
        """Of a task of a job that ended and was forgotten."""
        state = self._forgotten.state_with(job_id)
        job = state.get_job(job_id)
        check_indexes(job, indexes)
        return self._explain(state, job, indexes, None)

    def _explain(
        self,
        state: ClusterState,
        job: Job,
        indexes: tuple[IndexRange, ...],
        flags: ev.PolicySet | None,
    ) -> manager_pb2.Explanation:
        index = explanations.choose_index(job, indexes)
        placing = explanations.find_placing(state, job, index)
        if placing is not None:
            # The state may become another one while it is looked further back.
            now = manager_pb2.Explanation()
            explanations.add_state(now, job, index)
            message = self.explain_placed(placing)
            message.MergeFrom(now)
            return message
        # The log does not say who had called in: whoever was healthy counts.
        scheduler = Scheduler(state, state.workers)
        rules = rules_of(state.policy or flags or DEFAULT_POLICY)
        return explanations.explain_unplaced(scheduler, job, index, rules, state.time_us)

    def get_events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""
        story: Story | None = self.find_story(request)
        while story is not None:
            page, story = self.page_of_story(story)
            yield page

    def find_story(self, request: manager_pb2.GetEventsRequest) -> Story:
        """Where a job's story up to that moment lies; the job is the one that was meant then."""
        return find_story(self._state_of(request), request)

    def page_of_story(self, story: Story) -> tuple[manager_pb2.GetEventsResponse, Story | None]:
        """The next part of it, and what is left of it."""
        if story.are_indexes_unchecked:
            job = self._forgotten.state_with(story.job_id).get_job(story.job_id)
            check_indexes(job, story.indexes)
            story = story._replace(are_indexes_unchecked=False)
        return self._past.read(lambda: page_of_story(self._past.log_directory, story))

    def find_output(self, job_id: int, index: int) -> tuple[str, int, bool, list[reads.Begun]]:
        """Of a task of a forgotten job, where what it wrote is: its user, epoch, whether it is an
        array, and the attempts that began."""
        job = self._forgotten.state_with(job_id).get_job(job_id)
        if job.find_task_state(index) is None:
            raise NotFound(f"there is no task {task_name(job_id, index, job.is_array)}")
        return job.user, job.epoch, job.is_array, reads.begun_attempts(job, index)

    def _state_of(self, request: Any) -> ClusterState:
        if not request.HasField("at"):
            return self._past.newest()
        check_moment(request.at)
        return self._past.state_at(lsn=request.at.lsn, time_us=request.at.time_us)


def handlers(answers: Answers) -> dict[str, Callable[[bytes], bytes]]:
    """What a lookback process does, by the names that the manager calls it.

    Stories and outputs are msgpack arrays: see `titan.manager.past`.
    """

    def find(request: bytes) -> bytes:
        return answers.find_story(manager_pb2.GetEventsRequest.FromString(request)).pack()

    def tell(request: bytes) -> bytes:
        page, rest = answers.page_of_story(unpack_story(request))
        packed: bytes = msgpack.packb((page.SerializeToString(), rest.pack() if rest else b""))
        return packed

    def find_output(request: bytes) -> bytes:
        packed: bytes = msgpack.packb(answers.find_output(*msgpack.unpackb(request)))
        return packed

    def explain(request: bytes) -> bytes:
        message, flags = msgpack.unpackb(request)
        policy = ev.PolicySet._make(flags) if flags else None
        asked = manager_pb2.ExplainJobRequest.FromString(message)
        reply: bytes = answers.explain_job(asked, policy).SerializeToString()
        return reply

    def explain_placed(request: bytes) -> bytes:
        placing = explanations.unpack_placing(request)
        reply: bytes = answers.explain_placed(placing).SerializeToString()
        return reply

    def explain_forgotten(request: bytes) -> bytes:
        job_id, indexes = msgpack.unpackb(request)
        message = answers.explain_forgotten(job_id, tuple(IndexRange(*each) for each in indexes))
        reply: bytes = message.SerializeToString()
        return reply

    return {
        "GetJobStatus": _on_message(answers.get_job_status, manager_pb2.GetJobStatusRequest),
        "GetForgottenJob": _on_message(answers.get_forgotten_job, manager_pb2.GetJobStatusRequest),
        "ListJobs": _on_message(answers.list_jobs, manager_pb2.ListJobsRequest),
        "ListWorkers": _on_message(answers.list_workers, manager_pb2.ListWorkersRequest),
        "GetStats": _on_message(answers.get_stats, manager_pb2.GetStatsRequest),
        "ListTasks": _on_message(answers.list_tasks, manager_pb2.ListTasksRequest),
        "ListForgottenTasks": _on_message(
            answers.list_forgotten_tasks, manager_pb2.ListTasksRequest
        ),
        "GetWorkflow": _on_message(answers.get_workflow, manager_pb2.GetWorkflowRequest),
        "GetLogRange": _on_message(answers.get_log_range, manager_pb2.GetLogRangeRequest),
        "FindStory": find,
        "PageOfStory": tell,
        "FindOutput": find_output,
        "ExplainJob": explain,
        "ExplainPlaced": explain_placed,
        "ExplainForgotten": explain_forgotten,
    }


def _at_once(steps: Generator[None, None, T]) -> T:
    """What the steps lead to; nobody else waits here."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            answer: T = stop.value
            return answer


def _on_message(answer: Callable[[Any], Any], request_class: type[Any]) -> Callable[[bytes], bytes]:
    def handle(request: bytes) -> bytes:
        reply: bytes = answer(request_class.FromString(request)).SerializeToString()
        return reply

    return handle
