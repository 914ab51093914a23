"""Calls that make sense, to be spoilt; and what keeps a spoilt one from doing harm.

The fuzzer has the access token, or certificates, so whatever it asks for properly is done. It must
not ask for what would make the honest user's jobs wait, nor start programs or write files that it
does not mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from titan.rpc.v1 import history_pb2, manager_pb2, task_pb2, types_pb2, worker_pb2

HONEST: Final = "honest"
WORKER: Final = "w1"
# Who the fuzzer is, where that has to be proven: a user, and a worker.
USER: Final = "f"
FUZZ_WORKER: Final = "fuzz0"
# Jobs of the fuzzer run on its own workers alone, which have this label.
LABEL: Final = "fuzz"
_PROGRAM: Final = b"/bin/true"

SERVICES: Final = {
    "manager": (
        manager_pb2.DESCRIPTOR.services_by_name["ManagerService"],
        worker_pb2.DESCRIPTOR.services_by_name["WorkerService"],
    ),
    "worker": (task_pb2.DESCRIPTOR.services_by_name["TaskService"],),
}


def sensible(method: MethodDescriptor, known_ids: list[int], session: bytes) -> Any:
    """A message that the method would take."""
    job_id = known_ids[-1] if known_ids else 999
    selector = manager_pb2.JobSelector(job_id=job_id)
    key = types_pb2.AttemptKey(epoch=1, job_id=job_id, index=0, attempt=1)
    running = worker_pb2.HeldAttempt(key=key, state=worker_pb2.HELD_RUNNING)
    held = worker_pb2.Held(attempts=[running])
    report = worker_pb2.TaskReport(
        seq=1, key=key, kind=worker_pb2.REPORT_ENDED, state=types_pb2.FAILED,
        reason=types_pb2.REASON_EXIT, exit_code=1, start_us=1, end_us=2, detail="x",
    )  # fmt: skip
    made: dict[str, Any] = {
        "SubmitJob": submit,
        "PlanJobs": lambda: manager_pb2.PlanJobsRequest(user=USER, jobs=submit().jobs),
        "GetJobStatus": lambda: manager_pb2.GetJobStatusRequest(job=selector, attempts_limit=10),
        "ListJobs": lambda: manager_pb2.ListJobsRequest(limit=10),
        "CancelJob": lambda: manager_pb2.CancelJobRequest(jobs=[selector], grace_ms=10),
        "HoldJob": lambda: manager_pb2.HoldJobRequest(jobs=[selector], user=USER),
        "SuspendJob": lambda: manager_pb2.SuspendJobRequest(jobs=[selector], user=USER),
        "UpdateJob": lambda: manager_pb2.UpdateJobRequest(jobs=[selector], priority=1),
        "RequeueJob": lambda: manager_pb2.RequeueJobRequest(jobs=[selector], user=USER),
        "ExplainJob": lambda: manager_pb2.ExplainJobRequest(job=selector),
        "ListTasks": lambda: manager_pb2.ListTasksRequest(job=selector, count=10),
        "GetWorkflow": lambda: manager_pb2.GetWorkflowRequest(job=selector, limit=10),
        "GetEvents": lambda: manager_pb2.GetEventsRequest(job=selector, limit=10),
        "GetHistory": lambda: history_pb2.GetHistoryRequest(
            filter=history_pb2.HistoryFilter(since_us=1, until_us=2, states=["FAILED"]),
            timeline=history_pb2.TimelineQuestion(limit=10),
        ),
        "StreamOutput": lambda: (
            manager_pb2.StreamOutputRequest(job_id=job_id)
            if method.input_type.name == "StreamOutputRequest"
            else task_pb2.ReadOutputRequest(key=key)
        ),
        "DrainWorker": lambda: manager_pb2.DrainWorkerRequest(workers=[FUZZ_WORKER], reason="x"),
        "RegisterWorker": register,
        "Heartbeat": lambda: worker_pb2.HeartbeatRequest(session=session, held=held),
        "ReportTaskStatus": lambda: worker_pb2.ReportTaskStatusRequest(
            session=session, first_seq=1, last_seq=1, reports=[report]
        ),
        "DeregisterWorker": lambda: worker_pb2.DeregisterWorkerRequest(session=session),
        "PushTaskStatus": lambda: worker_pb2.PushTaskStatusRequest(session=session, number=1),
        "PushOutput": lambda: worker_pb2.PushOutputRequest(session=session, number=1),
        "StartTask": lambda: task_pb2.StartTaskRequest(
            specs=[task_pb2.TaskSpec(name="f", command=[_PROGRAM], cwd=b"/tmp")]
        ),
        "StopTask": lambda: task_pb2.StopTaskRequest(
            stops=[
                task_pb2.TaskStop(key=types_pb2.AttemptKey(job_id=-1), mode=task_pb2.STOP_CANCEL)
            ]
        ),
        "GetTaskStatus": lambda: task_pb2.GetTaskStatusRequest(keys=[key], limit=5),
    }  # fmt: skip
    make = made.get(method.name)
    return make() if make is not None else GetMessageClass(method.input_type)()


def submit() -> manager_pb2.SubmitJobRequest:
    """A job that the fuzzer's own workers may have."""
    return manager_pb2.SubmitJobRequest(
        user=USER,
        environments=[types_pb2.Environment()],
        jobs=[
            manager_pb2.JobSpec(
                name="f", command=[_PROGRAM], cwd=b"/tmp", grace_ms=1000,
                resources=types_pb2.Resources(cpus_milli=1000),
                array=[types_pb2.IndexRange(start=0, stop=3, step=1)],
            )
        ],
    )  # fmt: skip


def register() -> worker_pb2.RegisterWorkerRequest:
    """A worker that is none."""
    return worker_pb2.RegisterWorkerRequest(
        instance=random.SystemRandom().randbytes(16), boot_id="b", name=FUZZ_WORKER,
        address="127.0.0.1:1", token="t", labels={LABEL: "1"}, version="1",
        capacity=types_pb2.Resources(cpus_milli=2000, memory_bytes=1 << 30),
    )  # fmt: skip


def tame(message: Any, own_jobs: list[int]) -> None:
    """Takes from a message what would harm somebody else than the server that gets it."""
    tame_it = _TAMING.get(type(message))
    if tame_it is not None:
        tame_it(message)
    elif isinstance(message, _CHANGES):
        for selector in message.jobs:
            _tame_selector(selector, own_jobs)
        if not isinstance(message, manager_pb2.RequeueJobRequest) and message.HasField("filter"):
            message.filter.user = USER


_CHANGES: Final = (
    manager_pb2.CancelJobRequest,
    manager_pb2.HoldJobRequest,
    manager_pb2.SuspendJobRequest,
    manager_pb2.UpdateJobRequest,
    manager_pb2.RequeueJobRequest,
)


def _tame_jobs(message: manager_pb2.SubmitJobRequest | manager_pb2.PlanJobsRequest) -> None:
    for spec in message.jobs:
        del spec.scheduling.constraints[1:]
        spec.scheduling.constraints.add(label=LABEL, values=["1"])
        # One before the honest user's would be kept room for.
        spec.priority = min(spec.priority, 0)


def _tame_policy(message: manager_pb2.SetPolicyRequest) -> None:
    # A valid order may let the honest user's jobs wait behind one that never starts.
    message.order, message.placement, message.preempt = "\x1b[x", "..", "\0"


def _tame_drain(message: manager_pb2.DrainWorkerRequest) -> None:
    message.workers[:] = [each for each in message.workers if each != WORKER and len(each) != 32]


def _tame_registration(message: worker_pb2.RegisterWorkerRequest) -> None:
    # Nobody else's id, but any other length.
    message.worker_id = message.worker_id[:15]
    if message.name == WORKER:
        message.name = "fuzz1"
    if not message.labels:
        message.labels[LABEL] = "1"


def _tame_offer(message: task_pb2.UpdateWorkerRequest) -> None:
    message.cpus_milli = min(message.cpus_milli, -1)
    message.ClearField("memory_bytes")


def _tame_start(message: task_pb2.StartTaskRequest) -> None:
    for environment in message.environments:
        environment.script = environment.script.replace(b"#!", b"##")
    for spec in message.specs:
        if spec.command:
            spec.command[0] = _PROGRAM
        for name in ("stdin", "stdout", "stderr", "script_source", "interpreter"):
            spec.execution.ClearField(name)


_TAMING: Final[dict[type[Any], Callable[[Any], None]]] = {
    manager_pb2.SubmitJobRequest: _tame_jobs,
    manager_pb2.PlanJobsRequest: _tame_jobs,
    manager_pb2.SetPolicyRequest: _tame_policy,
    manager_pb2.DrainWorkerRequest: _tame_drain,
    worker_pb2.RegisterWorkerRequest: _tame_registration,
    task_pb2.UpdateWorkerRequest: _tame_offer,
    task_pb2.StartTaskRequest: _tame_start,
}


def _tame_selector(selector: manager_pb2.JobSelector, own_jobs: list[int]) -> None:
    which = selector.WhichOneof("which")
    if which == "job_id" and 0 < selector.job_id < 1 << 31 and selector.job_id not in own_jobs:
        selector.job_id = own_jobs[-1] if own_jobs else -1
    elif which == "last_of_user" and selector.last_of_user == HONEST:
        selector.last_of_user = USER
    elif which == "name" and selector.name == HONEST:
        selector.name = "f"
