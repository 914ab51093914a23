"""A manager without a cluster: it answers over the real wire, and tests say what happens.

Jobs stay PENDING until a test starts and ends them. Output is what a test writes. Calls
can be made to fail, and the whole can be stopped and started again with another token.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import pytest

from tests.client.fake_control import FakeControl
from tests.cluster import free_port
from titan.client import retry
from titan.client.arrays import format_array
from titan.client.cursors import has_ended
from titan.errors import Busy, NotLeader, StillReading
from titan.model import IndexRange
from titan.rpc import access, channel, tokens
from titan.rpc.channel import SERVER_OPTIONS
from titan.rpc.status import status_of, trailers_of
from titan.rpc.v1 import history_pb2, manager_pb2, manager_pb2_grpc, types_pb2

# Enough on a machine that does much else; nothing waits for it to pass.
DEADLINE_SECONDS = 60.0
Key = tuple[int, int]
Failure = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]


def wait_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients that give up soon, as many here do, wait all the same for an answer under way.

    Where it takes a busy machine more than a second they would hear of no manager at all. So they
    would where gRPC gives up a connection that it was making while the machine stood still.
    """
    monkeypatch.setattr(retry, "ATTEMPT_SECONDS_MIN", DEADLINE_SECONDS)
    patient = {
        # In its place: of two of a name gRPC takes the first.
        **dict(channel.CLIENT_OPTIONS),
        "grpc.min_reconnect_backoff_ms": round(DEADLINE_SECONDS * 1000),
    }
    monkeypatch.setattr(channel, "CLIENT_OPTIONS", list(patient.items()))


class FakeManager(FakeControl):
    """The service and its state, guarded by one lock; tests may touch what has no underscore."""

    def __init__(self, data_directory: Path) -> None:
        super().__init__()
        self.data_directory = data_directory
        self.jobs: dict[int, manager_pb2.Job] = {}
        self.attempts: dict[int, list[manager_pb2.Attempt]] = defaultdict(list)
        self.output: dict[Key, list[tuple[int, int, bytes]]] = defaultdict(list)
        # By job, as far as they were submitted with one.
        self.scripts: dict[int, bytes] = {}
        self.workers: list[manager_pb2.Worker] = []
        # A page of a job's story each.
        self.events: list[manager_pb2.GetEventsResponse] = []
        # The pages of every answer of the history.
        self.history: list[history_pb2.GetHistoryResponse] = []
        self.calls: list[tuple[str, Any]] = []
        self.on_submit: Callable[[manager_pb2.Job], None] = lambda _: None
        # One of the system's choice could be somebody else's by the time it serves there again.
        self.address = f"127.0.0.1:{free_port()}"
        # Of the manager that leads, as this one says, empty: nobody; None: this one does.
        self.other_leader: str | None = None
        self._requests: dict[bytes, list[int]] = {}
        self._failures: dict[str, list[Failure]] = defaultdict(list)
        self._changed = threading.Condition(threading.RLock())
        self._lsn = 0
        self._token = ""
        self._server: grpc.Server | None = None
        self._is_stopping = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, writes_token: bool = True) -> None:
        """Serves, at the same address as before if there was one, with a new token."""
        self._is_stopping = False
        self._token = tokens.new_token()
        pool = ThreadPoolExecutor(32)
        self._server = grpc.server(pool, options=SERVER_OPTIONS)
        manager_pb2_grpc.add_ManagerServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        if writes_token:
            self.write_token()
        self._server.start()
        self._pool = pool

    def write_token(self) -> None:
        """Leaves the token where clients find it."""
        self.data_directory.mkdir(parents=True, exist_ok=True)
        access.write_token(self.data_directory, self.address, self._token)

    def stop(self) -> None:
        """Cuts every call off."""
        # First, so that nothing is answered any more once a stream was ended.
        stopped = self._server.stop(0) if self._server is not None else None
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if stopped is not None:
            stopped.wait()
            self._pool.shutdown()
            self._server = None

    def fail(self, method: str, status: grpc.StatusCode, details: str = "", count: int = 1) -> None:
        """The next calls of the method end so."""
        with self._changed:
            self._failures[method] += [(status, details, ())] * count

    def keep_reading(self, method: str, details: str, count: int = 1) -> None:
        """The next calls of the method are told that the log is still being read for them."""
        error = StillReading(details)
        with self._changed:
            self._failures[method] += [(status_of(error), details, trailers_of(error))] * count

    def be_busy(self, method: str, details: str, count: int = 1) -> None:
        """The next calls of the method are told that there is too much to do."""
        error = Busy(details)
        with self._changed:
            self._failures[method] += [(status_of(error), details, trailers_of(error))] * count

    def take_over(self, other: FakeManager) -> None:
        """Leads from now on, with all that the other one knew, which says so where it runs."""
        with other._changed, self._changed:
            self.jobs, self.attempts, self.output = other.jobs, other.attempts, other.output
            self._requests, self._lsn = other._requests, other._lsn
            self.other_leader, other.other_leader = None, self.address
            other._changed.notify_all()

    def heal(self, method: str) -> None:
        """Its calls work again."""
        with self._changed:
            self._failures[method].clear()

    def called(self, method: str) -> list[Any]:
        """The requests of the method so far, failed ones included."""
        with self._changed:
            return [request for name, request in self.calls if name == method]

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        """Until it is true; fails after a while."""
        end = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while not condition():
                assert time.monotonic() < end, f"never: {what}"
                self._changed.wait(0.05)

    def add_job(self, **fields: Any) -> manager_pb2.Job:
        """A job as if it had been submitted."""
        with self._changed:
            job = manager_pb2.Job(
                job_id=len(self.jobs) + 1,
                **{"name": "sleep", "user": "alice", "state": types_pb2.PENDING, **fields},
            )
            if not job.command:
                job.command.extend([b"sleep", b"10"])
            job.submit_us = job.submit_us or int(time.time() * 1e6)
            job.resources.cpus_milli = job.resources.cpus_milli or 1000
            if not job.HasField("tasks"):
                total = sum(len(range(r.start, r.stop, r.step)) for r in job.array) or 1
                job.tasks.pending = total
            self.jobs[job.job_id] = job
            self._touch(job)
            return job

    def run(self, job: manager_pb2.Job, index: int = 0, *, worker: str = "w1") -> None:
        """A task of it starts."""
        with self._changed:
            # Those of a job start at one moment: how long it took is what a test says.
            job.start_us = job.start_us or int(time.time() * 1e6)
            number = 1 + sum(each.index == index for each in self.attempts[job.job_id])
            self.attempts[job.job_id].append(
                manager_pb2.Attempt(
                    index=index,
                    attempt=number,
                    worker=worker,
                    state=types_pb2.RUNNING,
                    start_us=job.start_us,
                    stdout_path=b"/out/%d.out" % index,
                    stderr_path=b"/out/%d.err" % index,
                )
            )
            job.attempts_total += 1
            job.state = types_pb2.RUNNING
            job.worker = "" if job.array else worker
            job.tasks.pending -= 1
            job.tasks.running += 1
            self._touch(job)

    def write(
        self, job: manager_pb2.Job, data: bytes, index: int = 0, *, err: bool = False
    ) -> None:
        """The task's latest attempt writes."""
        with self._changed:
            stream = manager_pb2.STDERR if err else manager_pb2.STDOUT
            attempt = max(
                (a.attempt for a in self.attempts[job.job_id] if a.index == index), default=1
            )
            self.output[job.job_id, index].append((attempt, stream, data))
            self._changed.notify_all()

    def end(
        self,
        job: manager_pb2.Job,
        index: int = 0,
        *,
        exit_code: int = 0,
        signal: int = 0,
        state: types_pb2.State.ValueType | None = None,
        reason: types_pb2.Reason.ValueType | None = None,
        detail: str = "",
        after_us: int = 400_000,
    ) -> None:
        """A running task of it ends; by default with that exit code or by that signal."""
        with self._changed:
            attempt = next(a for a in reversed(self.attempts[job.job_id]) if a.index == index)
            failed = bool(exit_code or signal)
            attempt.state = state or (types_pb2.FAILED if failed else types_pb2.COMPLETED)
            attempt.reason = reason or (
                types_pb2.REASON_SIGNAL if signal else types_pb2.REASON_EXIT
            )
            attempt.detail = detail
            attempt.end_us = attempt.start_us + after_us
            if signal:
                attempt.signal = signal
            elif attempt.reason == types_pb2.REASON_EXIT:
                attempt.exit_code = exit_code
            name = types_pb2.State.Name(attempt.state).lower()
            job.tasks.running -= 1
            setattr(job.tasks, name, getattr(job.tasks, name) + 1)
            if not (job.tasks.pending or job.tasks.running):
                self._end_job(job)
            self._touch(job)

    def _end_job(self, job: manager_pb2.Job) -> None:
        attempts = self.attempts[job.job_id]
        failed = sorted((a for a in attempts if a.state == types_pb2.FAILED), key=lambda a: a.index)
        job.end_us = max((a.end_us for a in attempts), default=job.submit_us)
        if failed:
            job.state = types_pb2.FAILED
        elif job.tasks.cancelled:
            job.state = types_pb2.CANCELLED
        else:
            job.state = types_pb2.COMPLETED
        decisive = failed[0] if failed else attempts[-1] if attempts else None
        if decisive is None:
            job.reason = types_pb2.REASON_CANCELLED
            return
        job.reason, job.detail = decisive.reason, decisive.detail
        for field in ("exit_code", "signal"):
            if decisive.HasField(field):
                setattr(job, field, getattr(decisive, field))

    def touch(self, job: manager_pb2.Job) -> None:
        """Something of it is another than before."""
        with self._changed:
            self._touch(job)

    def _touch(self, job: manager_pb2.Job) -> None:
        self._lsn += 1
        job.lsn = self._lsn
        self._changed.notify_all()

    def _check(self, method: str, request: Any, context: Any) -> None:
        with self._changed:
            self.calls.append((method, request))
            failures = self._failures[method]
            failure = failures.pop(0) if failures else None
            self._changed.notify_all()
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no access token")
        if failure is not None:
            status, details, trailers = failure
            context.set_trailing_metadata(trailers)
            context.abort(status, details)
        self._check_leads(context)

    def _check_leads(self, context: Any) -> None:
        if self.other_leader is not None:
            who = f"{self.other_leader} leads" if self.other_leader else "nobody leads"
            error = NotLeader(f"a standby, {who}", leader=self.other_leader)
            context.set_trailing_metadata(trailers_of(error))
            context.abort(status_of(error), str(error))

    def SubmitJob(self, request: Any, context: Any) -> manager_pb2.SubmitJobResponse:  # noqa: N802
        if self.other_leader is not None:
            self._check("SubmitJob", request, context)
        with self._changed:
            job_ids = self._requests.get(request.request_id)
            if job_ids is None:
                job_ids = []
                first = len(self.jobs) + 1
                for spec in request.jobs:
                    job = self.add_job(
                        name=spec.name,
                        user=request.user,
                        command=spec.command,
                        cwd=spec.cwd,
                        resources=spec.resources,
                        priority=spec.priority,
                        array=spec.array,
                        execution=spec.execution,
                        scheduling=_numbered(spec.scheduling, first),
                    )
                    self.scripts[job.job_id] = request.environments[spec.environment].script
                    job_ids.append(job.job_id)
                    self.on_submit(job)
                self._requests[request.request_id] = job_ids
        # Checked last: a call can fail although it was accepted.
        self._check("SubmitJob", request, context)
        return manager_pb2.SubmitJobResponse(job_ids=job_ids, lsn=self._lsn)

    def GetJobStatus(self, request: Any, context: Any) -> manager_pb2.GetJobStatusResponse:  # noqa: N802
        self._check("GetJobStatus", request, context)
        with self._changed:
            job = self._find(request.job, context)
            wanted = [range(r.start, r.stop, r.step) for r in request.job.indexes]
            attempts = [
                attempt
                for attempt in self.attempts[job.job_id]
                if not request.attempt_states or attempt.state in request.attempt_states
                if not wanted or any(attempt.index in part for part in wanted)
            ]
            response = manager_pb2.GetJobStatusResponse(
                job=job,
                attempts=attempts[: request.attempts_limit],
                lsn=self._lsn,
                script=self.scripts.get(job.job_id, b"") if request.script else b"",
            )
            return dated(request, response)

    def _find(self, selector: manager_pb2.JobSelector, context: Any) -> manager_pb2.Job:
        found = [
            job
            for job in self.jobs.values()
            if job.job_id == selector.job_id
            or (selector.last_of_user and job.user == selector.last_of_user)
            or (selector.name and job.name == selector.name)
        ]
        if not found:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no job {selector.job_id}")
        return found[-1]

    def ListJobs(self, request: Any, context: Any) -> manager_pb2.ListJobsResponse:  # noqa: N802
        self._check("ListJobs", request, context)
        wanted = request.filter
        with self._changed:
            found = [
                job
                for job in self.jobs.values()
                if job.state in wanted.states
                or (not wanted.states and (wanted.all or not has_ended(job)))
                if wanted.user in ("", job.user) and wanted.name in ("", job.name)
                if job.job_id > request.after_job_id
                if not request.before_job_id or job.job_id < request.before_job_id
            ]
            if wanted.all:
                found.reverse()
            response = manager_pb2.ListJobsResponse(
                jobs=found[: request.limit], more=len(found) > request.limit, lsn=self._lsn
            )
            return dated(request, response)

    def CancelJob(self, request: Any, context: Any) -> manager_pb2.CancelJobResponse:  # noqa: N802
        self._check("CancelJob", request, context)
        with self._changed:
            answer = manager_pb2.CancelJobResponse(lsn=self._lsn)
            if request.HasField("filter"):
                jobs = [job for job in self.jobs.values() if job.state in request.filter.states]
            else:
                jobs = [self._find(selector, context) for selector in request.jobs]
            for job in jobs:
                if has_ended(job):
                    answer.already_ended.append(job.job_id)
                elif job.tasks.running:
                    job.cancel_requested = True
                else:
                    job.tasks.cancelled += job.tasks.pending
                    job.tasks.pending = 0
                    self._end_job(job)
                self._touch(job)
            answer.jobs.extend(jobs)
            return answer

    def WatchJobs(self, request: Any, context: Any) -> Iterator[manager_pb2.WatchJobsResponse]:  # noqa: N802
        self._check("WatchJobs", request, context)
        seen = request.after_lsn
        if not request.job_ids:
            yield manager_pb2.WatchJobsResponse(lsn=seen or self._lsn)
            seen = seen or self._lsn
        while context.is_active() and not self._is_stopping:
            with self._changed:
                # Who takes over has what this one had: none of it is told here after that.
                self._check_leads(context)
                changed = [
                    manager_pb2.Job.FromString(job.SerializeToString())
                    for job in self.jobs.values()
                    if job.lsn > seen and (not request.job_ids or job.job_id in request.job_ids)
                ]
                lsn = self._lsn
                if not changed:
                    self._changed.wait(0.05)
                    continue
            seen = lsn
            yield manager_pb2.WatchJobsResponse(jobs=changed, lsn=lsn)
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    def StreamOutput(  # noqa: N802
        self, request: Any, context: Any
    ) -> Iterator[manager_pb2.StreamOutputResponse]:
        self._check("StreamOutput", request, context)
        key = (request.job_id, request.index)
        offsets: dict[tuple[int, int], int] = defaultdict(int)
        sent = 0
        while context.is_active() and not self._is_stopping:
            with self._changed:
                self._check_leads(context)
                pieces = self.output[key][sent:]
                has_ended_ = self._has_task_ended(*key)
                if not pieces and request.follow and not has_ended_:
                    self._changed.wait(0.05)
                    continue
            if not pieces:
                return
            for attempt, stream, data in pieces:
                sent += 1
                offset = offsets[attempt, stream]
                offsets[attempt, stream] += len(data)
                if request.attempt and attempt != request.attempt:
                    continue
                if request.streams and stream not in request.streams:
                    continue
                start = request.stdout_offset
                if stream == manager_pb2.STDERR:
                    start = request.stderr_offset
                rest = data[max(0, start - offset) :]
                if rest:
                    yield manager_pb2.StreamOutputResponse(
                        stream=manager_pb2.OutputStream.ValueType(stream),
                        offset=offset + len(data) - len(rest),
                        data=rest,
                        attempt=attempt,
                    )
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    def _has_task_ended(self, job_id: int, index: int) -> bool:
        states = [a.state for a in self.attempts[job_id] if a.index == index]
        ends = (types_pb2.COMPLETED, types_pb2.FAILED, types_pb2.CANCELLED)
        return has_ended(self.jobs[job_id]) or bool(states and states[-1] in ends)

    def GetEvents(self, request: Any, context: Any) -> Iterator[manager_pb2.GetEventsResponse]:  # noqa: N802
        for page in self.events:
            if any(lsn > request.after_lsn for lsn in (page.lsn, *(e.lsn for e in page.events))):
                self._check("GetEvents", request, context)
                yield page

    def GetHistory(self, request: Any, context: Any) -> Iterator[history_pb2.GetHistoryResponse]:  # noqa: N802
        self._check("GetHistory", request, context)
        yield from self.history

    def ExplainJob(self, request: Any, context: Any) -> manager_pb2.ExplainJobResponse:  # noqa: N802
        self._check("ExplainJob", request, context)
        with self._changed:
            job = self._find(request.job, context)
            self.explanation.job_id = job.job_id
            response = manager_pb2.ExplainJobResponse(explanation=self.explanation, lsn=self._lsn)
            return dated(request, response)

    def ListTasks(self, request: Any, context: Any) -> manager_pb2.ListTasksResponse:  # noqa: N802
        self._check("ListTasks", request, context)
        with self._changed:
            job = self._find(request.job, context)
            wanted = [index for r in job.array for index in range(r.start, r.stop, r.step)] or [0]
            states = dict.fromkeys(wanted, int(types_pb2.PENDING))
            states.update((each.index, int(each.state)) for each in self.attempts[job.job_id])
            told = [states[index] for index in wanted][request.first :][: request.count or None]
            response = manager_pb2.ListTasksResponse(
                job_id=job.job_id,
                array=job.array,
                total=len(wanted),
                first=request.first,
                states=bytes(told),
                lsn=self._lsn,
            )
            return dated(request, response)

    def GetWorkflow(  # noqa: N802
        self, request: Any, context: Any
    ) -> manager_pb2.GetWorkflowResponse:
        self._check("GetWorkflow", request, context)
        with self._changed:
            self._find(request.job, context)
            jobs = list(self.jobs.values())
            return dated(request, manager_pb2.GetWorkflowResponse(jobs=jobs, lsn=self._lsn))

    def GetLogRange(  # noqa: N802
        self, request: Any, context: Any
    ) -> manager_pb2.GetLogRangeResponse:
        self._check("GetLogRange", request, context)
        return manager_pb2.GetLogRangeResponse(
            first_lsn=PAST_LSN, first_us=PAST_US, last_lsn=PAST_LSN + 1, last_us=PAST_US + 500_000
        )

    def ListWorkers(self, request: Any, context: Any) -> manager_pb2.ListWorkersResponse:  # noqa: N802
        self._check("ListWorkers", request, context)
        response = manager_pb2.ListWorkersResponse(workers=self.workers, lsn=self._lsn)
        return dated(request, response)

    def DrainWorker(self, request: Any, context: Any) -> manager_pb2.DrainWorkerResponse:  # noqa: N802
        self._check("DrainWorker", request, context)
        with self._changed:
            chosen = [each for each in self.workers if each.name in request.workers]
            if len(chosen) < len(request.workers):
                context.abort(grpc.StatusCode.NOT_FOUND, f"there is no worker {request.workers}")
            for each in chosen:
                each.draining = not request.undrain
                each.reason = request.reason
            return manager_pb2.DrainWorkerResponse(workers=chosen, lsn=self._lsn)

    def GetStats(self, request: Any, context: Any) -> manager_pb2.GetStatsResponse:  # noqa: N802
        self._check("GetStats", request, context)
        with self._changed:
            response = manager_pb2.GetStatsResponse(
                cluster_id=bytes(range(16)),
                version="1.2.3",
                started_us=1_000_000,
                now_us=91_000_000,
                recovery_us=250_000,
                recovered_records=7,
                jobs=manager_pb2.TaskCounts(pending=len(self.jobs)),
                workers={"healthy": len(self.workers)},
                capacity=types_pb2.Resources(cpus_milli=4000, memory_bytes=2**30, named={"gpu": 2}),
                free=types_pb2.Resources(cpus_milli=1500, memory_bytes=2**29),
                lsn=self._lsn,
                term=self.term,
                leader=self.led_from,
            )
            return dated(request, response)


# The past that this manager knows: one record, at this time.
PAST_LSN = 7
PAST_US = 1_700_000_000_000_000

T = TypeVar("T", bound=Any)


def dated(request: Any, response: T) -> T:
    """The answer, which tells of the same jobs but says that it is from the past if asked so."""
    if request.HasField("at"):
        response.lsn, response.at_us = PAST_LSN, PAST_US
    return response


def _numbered(asked: manager_pb2.Scheduling, first: int) -> manager_pb2.Scheduling:
    """As a manager stores it: jobs of the same request, and those by name, have their numbers."""
    numbered = manager_pb2.Scheduling()
    numbered.CopyFrom(asked)
    for job in [*(each.job for each in numbered.after), *(a.job for a in numbered.affinities)]:
        if job.WhichOneof("which") == "position":
            number = first + job.position
            job.job.job_id = number
    return numbered


def array_of(*ranges: tuple[int, int]) -> list[types_pb2.IndexRange]:
    """Ranges from `start` to below `stop`, as messages."""
    assert format_array([IndexRange(*part) for part in ranges])
    return [types_pb2.IndexRange(start=start, stop=stop, step=1) for start, stop in ranges]
