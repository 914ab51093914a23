"""Users' requests into the kernel's commands, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from itertools import repeat

from titan.checks import check_secret_values
from titan.errors import InvalidJob
from titan.manager import caller
from titan.manager.kernel import commands
from titan.model import (
    PLAIN,
    SIGTERM,
    Execution,
    Resources,
    named_resources,
)
from titan.queries.requests import filter_of, ranges_of, selector_of
from titan.rpc.execution import execution_of_message
from titan.rpc.scheduling import scheduling_of_message
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduling import PLAIN_SCHEDULING, SAME_INDEX, WHOLE_JOB, DependencyCondition
from titan.tls.identity import Role

# Each of them is a file and a wait for the disk.
SECRETS_PER_REQUEST_MAX = 256
# Some 15 ms of the loop.
STEP_JOBS = 1_000


def resources_of(message: types_pb2.Resources) -> Resources:
    """Resources; negative and zero counts are left for the kernel to refuse."""
    counts = message.named
    if not counts:
        return Resources(message.cpus_milli, message.memory_bytes)
    if any(count == 0 for count in counts.values()):
        raise InvalidJob("a resource is asked for with a count of 0")
    return Resources(message.cpus_milli, message.memory_bytes, named_resources(counts.items()))


def take_secrets(request: manager_pb2.SubmitJobRequest) -> list[dict[bytes, bytes]]:
    """The secrets of each environment, whose values the request holds no more. Raises InvalidJob.

    So neither its hash, which tells whether a request is the same, nor anything else that is made
    of it says anything of them.
    """
    taken: list[dict[bytes, bytes]] = []
    for environment in request.environments:
        values = [(each.name, each.value) for each in environment.secrets]
        for each in environment.secrets:
            each.ClearField("value")
        check_secret_values(values)
        taken.append(dict(values))
    if sum(map(bool, taken)) > SECRETS_PER_REQUEST_MAX:
        raise InvalidJob(
            f"more than {SECRETS_PER_REQUEST_MAX} environments with secrets in one request; send "
            "several requests"
        )
    return taken


def submit_command(request: manager_pb2.SubmitJobRequest) -> commands.SubmitJobs:
    """A submit. Raises InvalidJob."""
    steps = submit_steps(request)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            command: commands.SubmitJobs = end.value
            return command


def submit_steps(
    request: manager_pb2.SubmitJobRequest, secret_ids: Sequence[bytes] = ()
) -> Generator[None, None, commands.SubmitJobs]:
    """The same with a stop after every so many jobs, where others can be heard.

    `secret_ids`: for each of its environments the random name of its secrets, b"" for none.
    """
    trace = request.trace_parent, request.trace_state
    # Whoever repeats a request is in another trace by then.
    request.ClearField("trace_parent")
    request.ClearField("trace_state")
    data = request.SerializeToString(deterministic=True)
    jobs = yield from _jobs(request, data, trace)
    return commands.SubmitJobs(
        user=request.user,
        request_id=request.request_id,
        content=_hash(data) if request.request_id else b"",
        size_bytes=len(data),
        environments=tuple(map(_environment, request.environments, secret_ids or repeat(b""))),
        jobs=jobs,
        proven_user=_proven_user(),
    )


def cancel_command(
    request: manager_pb2.CancelJobRequest, only_of: str | None = None
) -> commands.CancelJobs:
    """A cancel. Raises InvalidJob. `only_of`, here and below: as in WhichJobs."""
    return commands.CancelJobs(
        which=_which(request, only_of),
        grace_ms=request.grace_ms,
        signal=request.signal or SIGTERM,
    )


def hold_command(
    request: manager_pb2.HoldJobRequest, only_of: str | None = None
) -> commands.HoldJobs:
    """A hold, or its end. Raises InvalidJob."""
    return commands.HoldJobs(which=_which(request, only_of), releases=request.release)


def suspend_command(
    request: manager_pb2.SuspendJobRequest, only_of: str | None = None
) -> commands.SuspendJobs:
    """A suspension, or its end. Raises InvalidJob."""
    return commands.SuspendJobs(which=_which(request, only_of), resumes=request.resume)


def update_command(
    request: manager_pb2.UpdateJobRequest, only_of: str | None = None
) -> commands.UpdateJobs:
    """An update. Raises InvalidJob."""
    return commands.UpdateJobs(
        which=_which(request, only_of),
        priority=request.priority if request.HasField("priority") else None,
        time_limit_ms=request.time_limit_ms if request.HasField("time_limit_ms") else None,
    )


def requeue_command(
    request: manager_pb2.RequeueJobRequest, only_of: str | None = None
) -> commands.RequeueJobs:
    """A requeue. Raises InvalidJob."""
    return commands.RequeueJobs(
        which=commands.WhichJobs(
            selectors=tuple(selector_of(each) for each in request.jobs),
            user=request.user,
            only_of=only_of,
        ),
        grace_ms=request.grace_ms,
        request_id=request.request_id,
        content=(
            _hash(request.SerializeToString(deterministic=True)) if request.request_id else b""
        ),
        proven_user=_proven_user(),
    )


def policy_command(request: manager_pb2.SetPolicyRequest) -> commands.SetPolicy:
    """A change of the policy."""
    return commands.SetPolicy(
        user=request.user,
        placement=request.placement if request.HasField("placement") else None,
        order=request.order if request.HasField("order") else None,
        fair_share=request.fair_share if request.HasField("fair_share") else None,
        preempt=request.preempt if request.HasField("preempt") else None,
        reserve_after_ms=(
            request.reserve_after_ms if request.HasField("reserve_after_ms") else None
        ),
        user_limits=tuple((each.user, each.cpus_milli) for each in request.user_limits),
    )


def drain_command(request: manager_pb2.DrainWorkerRequest) -> commands.DrainWorkers:
    """A drain, or its end."""
    return commands.DrainWorkers(
        workers=tuple(request.workers),
        drains=not request.undrain,
        reason=request.reason,
        user=request.user,
    )


def _proven_user() -> str:
    """Of the call that is handled; empty: whose it is was only said."""
    identity = caller.current().identity
    is_user = identity is not None and identity.role in (Role.USER, Role.ADMIN)
    return identity.name if identity is not None and is_user else ""


def _which(
    request: manager_pb2.CancelJobRequest
    | manager_pb2.HoldJobRequest
    | manager_pb2.SuspendJobRequest
    | manager_pb2.UpdateJobRequest,
    only_of: str | None,
) -> commands.WhichJobs:
    return commands.WhichJobs(
        selectors=tuple(selector_of(each) for each in request.jobs),
        filter=filter_of(request.filter) if request.HasField("filter") else None,
        user=request.user,
        only_of=only_of,
    )


def _jobs(
    request: manager_pb2.SubmitJobRequest, data: bytes, trace: tuple[str, str]
) -> Generator[None, None, tuple[commands.NewJob, ...]]:
    """The jobs of the request that takes these bytes, in steps, all of them in that trace."""
    if len(request.jobs) <= 1:
        return tuple(
            commands.NewJob(each.name, tuple(each.command), _terms(each, trace))
            for each in request.jobs
        )
    # Jobs of one request mostly differ in name and command alone: what has the same bytes without
    # these is read once. A copy of the request may be taken apart.
    known: dict[bytes, commands.NewTerms] = {}
    jobs: list[commands.NewJob] = []
    for number, each in enumerate(manager_pb2.SubmitJobRequest.FromString(data).jobs, 1):
        # By a slice it takes half as long as by an iterator.
        name, command = each.name, tuple(each.command[:])
        each.ClearField("name")
        each.ClearField("command")
        rest = each.SerializeToString(deterministic=True)
        terms = known.get(rest)
        if terms is None:
            terms = known[rest] = _terms(each, trace)
        jobs.append(commands.NewJob(name, command, terms))
        if number % STEP_JOBS == 0:
            yield
    return tuple(jobs)


def _terms(message: manager_pb2.JobSpec, trace: tuple[str, str]) -> commands.NewTerms:
    """What a job asks for. To look for what is absent costs less than to read it."""
    execution = _execution(message.execution) if message.HasField("execution") else PLAIN
    if any(trace) or execution.trace_parent or execution.trace_state:
        execution = execution._replace(trace_parent=trace[0], trace_state=trace[1])
    scheduling = message.scheduling if message.HasField("scheduling") else None
    return commands.NewTerms(
        cwd=message.cwd,
        environment=message.environment,
        resources=resources_of(message.resources),
        priority=message.priority,
        array=ranges_of(message.array),
        time_limit_ms=message.time_limit_ms,
        grace_ms=message.grace_ms,
        end_signal=message.end_signal,
        end_signal_before_ms=message.end_signal_before_ms,
        execution=execution,
        on=message.on,
        scheduling=PLAIN_SCHEDULING if scheduling is None else scheduling_of_message(scheduling),
        after=() if scheduling is None else tuple(map(_dependency, scheduling.after)),
        affinities=() if scheduling is None else tuple(map(_affinity, scheduling.affinities)),
    )


def _dependency(message: manager_pb2.Dependency) -> commands.NewDependency:
    condition = message.condition or DependencyCondition.OK
    try:
        known = DependencyCondition(condition)
    except ValueError as error:
        raise InvalidJob(f"{condition} is no condition of a dependency") from error
    index = message.index if message.HasField("index") else WHOLE_JOB
    if message.same_index:
        index = SAME_INDEX
    elif index < 0 and message.HasField("index"):
        raise InvalidJob(f"no task has the index {index} to wait for")
    return commands.NewDependency(_reference(message.job), known, index)


def _affinity(message: manager_pb2.JobAffinity) -> commands.NewAffinity:
    return commands.NewAffinity(_reference(message.job), message.anti)


def _reference(message: manager_pb2.JobReference) -> commands.NewReference:
    which = message.WhichOneof("which")
    if which is None:
        raise InvalidJob("a job is to wait for, or to be near, one that is not named")
    if which == "position":
        return commands.NewReference(None, message.position)
    return commands.NewReference(selector_of(message.job))


def _execution(message: types_pb2.Execution) -> Execution:
    try:
        return execution_of_message(message)
    except ValueError as error:
        raise InvalidJob(f"a job is run in no known way: {error}") from error


def _environment(message: types_pb2.Environment, secret_id: bytes) -> commands.NewEnvironment:
    """Its digest and its variables; whoever submits many jobs sends the same with each."""
    if message.secrets:
        return _read_environment(message, secret_id)
    content = message.SerializeToString()
    known = _environments.get(content)
    if known is None:
        known = _read_environment(message)
        if len(content) <= _ENVIRONMENT_KEPT_BYTES_MAX:
            if len(_environments) >= _ENVIRONMENTS_KEPT:
                del _environments[next(iter(_environments))]
            _environments[content] = known
    return known


# Some of the last ones, by their bytes: at most a few MiB.
_environments: dict[bytes, commands.NewEnvironment] = {}
_ENVIRONMENTS_KEPT = 64
_ENVIRONMENT_KEPT_BYTES_MAX = 32 * 1024


def _read_environment(
    message: types_pb2.Environment, secret_id: bytes = b""
) -> commands.NewEnvironment:
    exported = tuple((each.name, each.value) for each in message.exported)
    variables = tuple((each.name, each.value) for each in message.set)
    hasher = hashlib.blake2b(repr((exported, variables)).encode(), digest_size=16)
    # The end of the one cannot be taken for the beginning of the other: brackets close it.
    hasher.update(message.script)
    digest = hasher.digest()
    names = tuple(each.name for each in message.secrets)
    if names:
        # It is nobody else's, whatever the values are.
        digest = hashlib.blake2b(digest + secret_id, digest_size=16).digest()
    return commands.NewEnvironment(digest, exported, variables, message.script, secret_id, names)


def _hash(data: bytes) -> bytes:
    """Of all that was asked for, as it is on the wire: the same for the same request."""
    return hashlib.blake2b(data, digest_size=16).digest()
