"""Bad requests, each answered with what was wrong, and nothing changed by any (invariant 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster
from titan.rpc import access
from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2, worker_pb2, worker_pb2_grpc

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


class Manager(NamedTuple):
    """A manager without workers, called directly."""

    users: manager_pb2_grpc.ManagerServiceStub
    workers: worker_pb2_grpc.WorkerServiceStub
    job_id: int

    def ask(self, rpc: str, request: Any) -> Any:
        """The answer, or all of them."""
        answer = getattr(self.users, rpc)(request)
        return list(answer) if rpc in ("StreamOutput", "WatchJobs") else answer

    def lsn(self) -> int:
        """How much has happened."""
        answer: manager_pb2.GetStatsResponse = self.users.GetStats(manager_pb2.GetStatsRequest())
        return answer.lsn


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """With one job that waits."""
    with Cluster(tmp_path_factory.mktemp("bad") / "cluster") as cluster:
        cluster.start_manager()
        token = access.find_token(cluster.address, cluster.manager_directory / "access.json")
        with open_channel(cluster.address) as plain:
            # Else a manager that is slow to answer the first call of all is not there for it.
            grpc.channel_ready_future(plain).result(DEADLINE_SECONDS)
            channel = grpc.intercept_channel(plain, WithToken(token))
            users = manager_pb2_grpc.ManagerServiceStub(channel)
            job_id = users.SubmitJob(submit(array=[(0, 10, 1)])).job_ids[0]
            yield Manager(users, worker_pb2_grpc.WorkerServiceStub(channel), job_id)


class WithToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the token to each call."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with(details), request)

    def _with(self, details: Any) -> Any:
        return details._replace(metadata=access.metadata(self._token), timeout=DEADLINE_SECONDS)


def submit(
    *,
    jobs: int = 1,
    user: str = "u",
    request_id: bytes = b"",
    array: list[tuple[int, int, int]] | None = None,
    named: dict[str, int] | None = None,
    cpus_milli: int = 1000,
    memory_bytes: int = 0,
    variable: bytes | None = None,
    variables: int = 0,
    **fields: Any,
) -> manager_pb2.SubmitJobRequest:
    """A good submit, but for what is given."""
    spec = manager_pb2.JobSpec(
        **{"name": "n", "command": [b"true"], "cwd": b"/", **fields},
        array=[types_pb2.IndexRange(start=a, stop=b, step=c) for a, b, c in array or ()],
        resources=types_pb2.Resources(
            cpus_milli=cpus_milli, memory_bytes=memory_bytes, named=named
        ),
    )
    environment = types_pb2.Environment()
    if variable is not None:
        environment.set.add(name=variable, value=b"x")
    for number in range(variables):
        environment.set.add(name=b"v%d" % number, value=b"x" * 120_000)
    return manager_pb2.SubmitJobRequest(
        user=user, request_id=request_id, jobs=[spec] * jobs, environments=[environment]
    )


# What is wrong, the request, and words of the answer.
SUBMITS: list[tuple[str, manager_pb2.SubmitJobRequest, str]] = [
    ("no job", submit(jobs=0), "no job"),
    ("over the limit of jobs", submit(jobs=10_001), "limit of 10000"),
    ("no user", submit(user=""), "user"),
    ("a long user", submit(user="u" * 300), "user"),
    ("no command", submit(command=[]), "command is empty"),
    ("an empty command", submit(command=[b"", b"x"]), "command is empty"),
    ("a zero byte", submit(command=[b"a\0b"]), "zero byte"),
    ("an argument over the system's limit", submit(command=[b"x" * 200_000]), "limit of 131071"),
    ("a command over the limit", submit(command=[b"x" * 100_000] * 11), "limit of 1048576"),
    ("no name", submit(name=""), "name"),
    ("a long name", submit(name="n" * 256), "name"),
    ("a relative directory", submit(cwd=b"here"), "no absolute path"),
    ("a directory with a zero byte", submit(cwd=b"/\0"), "no absolute path"),
    ("no directory", submit(cwd=b""), "no absolute path"),
    ("an environment that is not there", submit(environment=1), "environment"),
    ("a variable without a name", submit(variable=b""), "environment variable"),
    ("a variable with = in its name", submit(variable=b"a=b"), "environment variable"),
    ("no cpus", submit(cpus_milli=0), "cpus must be more than 0"),
    ("negative cpus", submit(cpus_milli=-1), "cpus must be more than 0"),
    ("absurd cpus", submit(cpus_milli=2_000_000_000), "absurd"),
    ("negative memory", submit(memory_bytes=-1), "memory must not be negative"),
    ("absurd memory", submit(memory_bytes=(1 << 60) + 1), "absurd"),
    ("a resource without a count", submit(named={"gpu": 0}), "count of 0"),
    ("a negative resource", submit(named={"gpu": -1}), "out of range"),
    ("a resource without a name", submit(named={"": 1}), "no name"),
    ("a priority out of range", submit(priority=2_000_000_000), "priority is out of range"),
    ("an array of nothing", submit(array=[(5, 5, 1)]), "empty"),
    ("an array with no step", submit(array=[(0, 5, 0)]), "empty"),
    ("a negative index", submit(array=[(-1, 5, 1)]), "empty"),
    ("an index out of range", submit(array=[(0, (1 << 31) + 1, 1 << 30)]), "beyond"),
    ("overlapping ranges", submit(array=[(0, 5, 1), (4, 9, 1)]), "not overlap"),
    ("too many tasks", submit(array=[(0, 10_000_001, 1)]), "limit of 10000000"),
    ("a short request id", submit(request_id=b"x"), "16 bytes"),
    ("a flood of empty arguments", submit(command=[b"x"] + [b""] * 1_100_000), "1048576 bytes"),
    ("a name with a zero byte", submit(name="a\0b"), "zero byte"),
    ("a user with a zero byte", submit(user="a\0b"), "zero byte"),
    ("a worker with a long name", submit(on="w" * 256), "255 letters"),
    ("a variable over the system's limit", submit(variable=b"a" * 131_070), "limit of 131071"),
    ("a large environment", submit(variables=9), "limit of 1048576"),
    ("too many kinds of resources", submit(named={f"r{n}": 1 for n in range(65)}), "over 64"),
    ("a resource with a long name", submit(named={"r" * 256: 1}), "255 letters"),
    (
        "a flood of words before a script",
        submit(
            execution=types_pb2.Execution(
                script_source=types_pb2.SCRIPT_ON_WORKER, interpreter=[b"x"] + [b""] * 5_000
            )
        ),
        "limit of 4096 bytes",
    ),
]


@pytest.mark.parametrize(("request_", "words"), [case[1:] for case in SUBMITS],
                         ids=[case[0] for case in SUBMITS])  # fmt: skip
def test_a_bad_submit_is_told_what_is_wrong_and_makes_no_job(
    manager: Manager, request_: manager_pb2.SubmitJobRequest, words: str
) -> None:
    before = manager.lsn()
    with pytest.raises(grpc.RpcError) as raised:
        manager.users.SubmitJob(request_)
    assert raised.value.code() is INVALID
    assert words in (raised.value.details() or "")
    assert manager.lsn() == before


def test_one_bad_job_among_good_ones_is_named_and_none_is_accepted(manager: Manager) -> None:
    request = submit(jobs=3)
    request.jobs[1].command[:] = []
    before = manager.lsn()
    with pytest.raises(grpc.RpcError) as raised:
        manager.users.SubmitJob(request)
    assert "job 2 of 3" in (raised.value.details() or "")
    assert manager.lsn() == before


Selector = manager_pb2.JobSelector
Range = types_pb2.IndexRange

# What is wrong, the RPC, the request, the status and words of the answer.
CALLS: list[tuple[str, str, Callable[[int], Any], grpc.StatusCode, str]] = [
    ("unknown job", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(job=Selector(job_id=999)), NOT_FOUND, "999"),
    ("no job named", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(), INVALID, "no job is named"),
    ("negative job", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(job=Selector(job_id=-1)), NOT_FOUND, "-1"),
    ("unknown name", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(job=Selector(name="zz")), NOT_FOUND, "zz"),
    ("no last job", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(job=Selector(last_of_user="zz")), NOT_FOUND, "zz"),
    ("no such task", "GetJobStatus",
     lambda job: manager_pb2.GetJobStatusRequest(
         job=Selector(job_id=job, indexes=[Range(start=77, stop=78, step=1)])), NOT_FOUND, "77"),
    ("a range without step", "GetJobStatus",
     lambda job: manager_pb2.GetJobStatusRequest(
         job=Selector(job_id=job, indexes=[Range(start=0, stop=5)])), INVALID, ""),
    ("negative attempts", "GetJobStatus",
     lambda job: manager_pb2.GetJobStatusRequest(job=Selector(job_id=job), attempts_limit=-1),
     INVALID, "negative"),
    ("a later log", "GetJobStatus",
     lambda job: manager_pb2.GetJobStatusRequest(job=Selector(job_id=job), at_least_lsn=1 << 40),
     NOT_FOUND, "log ends at"),
    ("a state that is none", "ListJobs",
     lambda _: manager_pb2.ListJobsRequest(filter=manager_pb2.JobFilter(states=[7])),  # type: ignore[list-item]
     INVALID, "state"),
    ("negative limit", "ListJobs",
     lambda _: manager_pb2.ListJobsRequest(limit=-1), INVALID, "negative"),
    ("cancel of nothing", "CancelJob",
     lambda _: manager_pb2.CancelJobRequest(), INVALID, "no job is named"),
    ("cancel of an unknown job", "CancelJob",
     lambda job: manager_pb2.CancelJobRequest(jobs=[Selector(job_id=job), Selector(job_id=999)]),
     NOT_FOUND, "999"),
    ("negative grace", "CancelJob",
     lambda job: manager_pb2.CancelJobRequest(jobs=[Selector(job_id=job)], grace_ms=-1),
     INVALID, "grace"),
    ("cancel of a task that is none", "CancelJob",
     lambda job: manager_pb2.CancelJobRequest(
         jobs=[Selector(job_id=job, indexes=[Range(start=77, stop=78, step=1)])]),
     NOT_FOUND, "77"),
    ("cancel of tasks without a step, by the job's name", "CancelJob",
     lambda _: manager_pb2.CancelJobRequest(
         jobs=[Selector(name="n", indexes=[Range(start=0, stop=5)])]), INVALID, "FROM-TO"),
    ("tasks without a step, by the job's name", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(
         job=Selector(name="n", indexes=[Range(start=0, stop=5)])), INVALID, "FROM-TO"),
    ("no such task, by the job's name", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(
         job=Selector(name="n", indexes=[Range(start=77, stop=78, step=1)])), NOT_FOUND, "77"),
    ("output of an unknown job", "StreamOutput",
     lambda _: manager_pb2.StreamOutputRequest(job_id=999), NOT_FOUND, "999"),
    ("output of a task that is none", "StreamOutput",
     lambda job: manager_pb2.StreamOutputRequest(job_id=job, index=77), NOT_FOUND, "77"),
    ("output of an attempt that is none", "StreamOutput",
     lambda job: manager_pb2.StreamOutputRequest(job_id=job, attempt=5), NOT_FOUND, "attempt 5"),
    ("output from before its beginning", "StreamOutput",
     lambda job: manager_pb2.StreamOutputRequest(job_id=job, stdout_offset=-1),
     INVALID, "negative"),
    ("a flood of streams", "StreamOutput",
     lambda job: manager_pb2.StreamOutputRequest(job_id=job, streams=[manager_pb2.STDOUT] * 101),
     INVALID, "over 100"),
    ("a flood of states", "ListJobs",
     lambda _: manager_pb2.ListJobsRequest(filter=manager_pb2.JobFilter(states=[1] * 101)),  # type: ignore[list-item]
     INVALID, "over 100"),
    ("a flood of states of attempts", "GetJobStatus",
     lambda job: manager_pb2.GetJobStatusRequest(
         job=Selector(job_id=job), attempt_states=[types_pb2.FAILED] * 101), INVALID, "over 100"),
    ("a flood of watched jobs", "WatchJobs",
     lambda job: manager_pb2.WatchJobsRequest(job_ids=[job] * 100_001), INVALID, "100000"),
    ("a hold by a user with a long name", "HoldJob",
     lambda job: manager_pb2.HoldJobRequest(jobs=[Selector(job_id=job)], user="u" * 256),
     INVALID, "255 letters"),
    ("a suspension by a user with a long name", "SuspendJob",
     lambda job: manager_pb2.SuspendJobRequest(jobs=[Selector(job_id=job)], user="u" * 256),
     INVALID, "255 letters"),
    ("an update by a user with a long name", "UpdateJob",
     lambda job: manager_pb2.UpdateJobRequest(
         jobs=[Selector(job_id=job)], user="u" * 256, priority=1), INVALID, "255 letters"),
    ("a requeue by a user with a long name", "RequeueJob",
     lambda job: manager_pb2.RequeueJobRequest(jobs=[Selector(job_id=job)], user="u" * 256),
     INVALID, "255 letters"),
    ("a policy of a user with a long name", "SetPolicy",
     lambda _: manager_pb2.SetPolicyRequest(user="u" * 256, fair_share=True),
     INVALID, "255 letters"),
    ("a policy with a name of a mebibyte", "SetPolicy",
     lambda _: manager_pb2.SetPolicyRequest(order="x" * (1 << 20)), INVALID, "no order"),
    ("a drain by a user with a long name", "DrainWorker",
     lambda _: manager_pb2.DrainWorkerRequest(workers=["w"], user="u" * 256),
     INVALID, "255 letters"),
    ("a drain for a long reason", "DrainWorker",
     lambda _: manager_pb2.DrainWorkerRequest(workers=["w"], reason="r" * 301),
     INVALID, "300 characters"),
    # What a sentence repeats does not make it one that no client takes.
    ("a name of a mebibyte", "GetJobStatus",
     lambda _: manager_pb2.GetJobStatusRequest(job=Selector(name="\u00e9" * (1 << 19))),
     NOT_FOUND, "…"),
    ("a worker with a name of a mebibyte", "DrainWorker",
     lambda _: manager_pb2.DrainWorkerRequest(workers=["x" * (1 << 20)]), NOT_FOUND, "…"),
    ("fewer than no lines", "StreamOutput",
     lambda job: manager_pb2.StreamOutputRequest(job_id=job, tail_lines=-1), INVALID, "negative"),
]  # fmt: skip


@pytest.mark.parametrize(("rpc", "make", "status", "words"), [case[1:] for case in CALLS],
                         ids=[case[0] for case in CALLS])  # fmt: skip
def test_a_bad_call_is_told_what_is_wrong_and_changes_nothing(
    manager: Manager, rpc: str, make: Callable[[int], Any], status: grpc.StatusCode, words: str
) -> None:
    before = manager.lsn()
    with pytest.raises(grpc.RpcError) as raised:
        manager.ask(rpc, make(manager.job_id))
    assert raised.value.code() is status, raised.value.details()
    assert words in (raised.value.details() or "")
    assert manager.lsn() == before


def register(cpus_milli: int = 1000, **fields: Any) -> worker_pb2.RegisterWorkerRequest:
    """A good registration, but for what is given."""
    memory_bytes, named = fields.pop("memory_bytes", 0), fields.pop("named", None)
    return worker_pb2.RegisterWorkerRequest(
        **{"name": "w", "instance": b"i" * 16, **fields},
        capacity=types_pb2.Resources(cpus_milli=cpus_milli, memory_bytes=memory_bytes, named=named),
    )


def reported(**fields: Any) -> worker_pb2.ReportTaskStatusRequest:
    """A good report of an end, but for what is given."""
    report = worker_pb2.TaskReport(
        **{
            "seq": 1, "kind": worker_pb2.REPORT_ENDED, "state": types_pb2.FAILED,
            "reason": types_pb2.REASON_EXIT, **fields,
        }
    )  # fmt: skip
    return worker_pb2.ReportTaskStatusRequest(session=SESSION, reports=[report])


SESSION = b"x" * 16
NOWHERE = worker_pb2.Held(attempts=[worker_pb2.HeldAttempt()])
WORKER_CALLS: list[tuple[str, str, Any, grpc.StatusCode]] = [
    ("no cpus", "RegisterWorker", register(0), INVALID),
    ("no name", "RegisterWorker", register(name=""), INVALID),
    ("no instance", "RegisterWorker", register(instance=b""), INVALID),
    ("an absurd worker", "RegisterWorker", register(1 << 50), INVALID),
    ("negative memory", "RegisterWorker", register(memory_bytes=-1), INVALID),
    ("a long name", "RegisterWorker", register(name="w" * 256), INVALID),
    ("a name with a zero byte", "RegisterWorker", register(name="w\0"), INVALID),
    ("a long instance", "RegisterWorker", register(instance=b"i" * 65), INVALID),
    ("a long id", "RegisterWorker", register(worker_id=b"i" * 65), INVALID),
    ("a long boot id", "RegisterWorker", register(boot_id="b" * 256), INVALID),
    ("a long version", "RegisterWorker", register(version="v" * 256), INVALID),
    ("a long token", "RegisterWorker", register(token="t" * 256), INVALID),
    ("a token that no header takes", "RegisterWorker", register(token="a\nb"), INVALID),
    ("a socket for an address", "RegisterWorker", register(address="unix:/run/x:1"), INVALID),
    ("another scheme", "RegisterWorker", register(address="dns:///localhost:1"), INVALID),
    ("several addresses", "RegisterWorker", register(address="ipv4:1.2.3.4:1,1.2.3.5:1"), INVALID),
    ("a long directory", "RegisterWorker", register(output_directory=b"/" * 4_096), INVALID),
    ("a directory with a zero byte", "RegisterWorker", register(output_directory=b"/\0"), INVALID),
    ("too many labels", "RegisterWorker",
     register(labels={f"l{n}": "" for n in range(257)}), INVALID),
    ("a label with a long value", "RegisterWorker", register(labels={"l": "x" * 256}), INVALID),
    ("too many kinds of resources", "RegisterWorker",
     register(named={f"r{n}": 1 for n in range(65)}), INVALID),
    ("a resource with a long name", "RegisterWorker", register(named={"r" * 256: 1}), INVALID),
    ("held since before time", "RegisterWorker", register(held=worker_pb2.Held(
        attempts=[worker_pb2.HeldAttempt(state=worker_pb2.HELD_RUNNING, start_us=-1)])), INVALID),
    ("a flood of what is held", "Heartbeat",
     worker_pb2.HeartbeatRequest(session=SESSION, held=worker_pb2.Held(
         attempts=[worker_pb2.HeldAttempt(state=worker_pb2.HELD_RUNNING)] * 100_001)), INVALID),
    ("an end before time", "ReportTaskStatus", reported(end_us=-1), INVALID),
    ("a start after all time", "ReportTaskStatus", reported(start_us=1 << 62), INVALID),
    ("an exit code that is none", "ReportTaskStatus", reported(exit_code=256), INVALID),
    ("a negative exit code", "ReportTaskStatus", reported(exit_code=-1), INVALID),
    ("a negative signal", "ReportTaskStatus", reported(signal=-9), INVALID),
    ("less than no memory", "ReportTaskStatus", reported(max_rss_bytes=-1), INVALID),
    ("held in no state", "RegisterWorker", register(held=NOWHERE), INVALID),
    ("no session", "Heartbeat", worker_pb2.HeartbeatRequest(), PRECONDITION),
    ("another session", "ReportTaskStatus",
     worker_pb2.ReportTaskStatusRequest(session=SESSION), PRECONDITION),
    ("a report of no kind", "ReportTaskStatus",
     worker_pb2.ReportTaskStatusRequest(session=SESSION, reports=[worker_pb2.TaskReport()]),
     INVALID),
    ("leave without a session", "DeregisterWorker",
     worker_pb2.DeregisterWorkerRequest(), PRECONDITION),
]  # fmt: skip


@pytest.mark.parametrize(("rpc", "request_", "status"), [case[1:] for case in WORKER_CALLS],
                         ids=[case[0] for case in WORKER_CALLS])  # fmt: skip
def test_a_bad_call_of_a_worker_is_refused_and_changes_nothing(
    manager: Manager, rpc: str, request_: Any, status: grpc.StatusCode
) -> None:
    before = manager.lsn()
    with pytest.raises(grpc.RpcError) as raised:
        getattr(manager.workers, rpc)(request_)
    assert raised.value.code() is status, raised.value.details()
    assert manager.lsn() == before
