"""Submits: every check before the first event, then all jobs of the request or none."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.errors import InvalidJob, NoRoom
from titan.manager.kernel.commands import NewJob, SubmitJobs, Submitted, Variables
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.execution import check_execution
from titan.model import (
    ARRAY_TASKS_MAX,
    CPUS_MILLI_MAX,
    GRACE_MS_MAX,
    INDEX_MAX,
    MEMORY_BYTES_MAX,
    NAMED_RESOURCE_MAX,
    OWN_RESOURCES,
    SIGNAL_MAX,
    TIME_LIMIT_MS_MAX,
    IndexRange,
    Resources,
)

# One request is one record, and a record takes at most 16 MiB.
JOBS_PER_REQUEST_MAX: Final = 10_000
REQUEST_BYTES_MAX: Final = 12 * 1024 * 1024
# The kernel's limit for one argument is 128 KiB (MAX_ARG_STRLEN in execve(2)).
ARGUMENT_BYTES_MAX: Final = 128 * 1024 - 1
COMMAND_BYTES_MAX: Final = 1024 * 1024
# PATH_MAX in limits.h counts the final zero.
PATH_BYTES_MAX: Final = 4095
NAME_LENGTH_MAX: Final = 255
NAMED_RESOURCES_MAX: Final = 64
ARRAY_RANGES_MAX: Final = 10_000
PRIORITY_MAX: Final = 1_000_000_000
REQUEST_ID_BYTES: Final = 16


def submit_jobs(desk: Desk, command: SubmitJobs) -> Submitted:
    """Accepts the jobs. Raises InvalidJob, NoRoom."""
    known = _find_earlier(desk, command)
    if known is not None:
        return known
    _check_request(command)
    for digest, exported, variables in command.environments:
        # One that is stored has been looked at before.
        if digest not in desk.state.environments:
            _check_variables((*exported, *variables))
    for number, job in enumerate(command.jobs):
        prefix = f"job {number + 1} of {len(command.jobs)}: " if len(command.jobs) > 1 else ""
        _check_job(job, len(command.environments), prefix)
    if not desk.room:
        raise NoRoom("the manager's disk is full: no job is accepted until there is room again")
    first = desk.state.next_job_id
    # One that no job of the request has would be kept for ever.
    used = {command.environments[job.environment][0] for job in command.jobs}
    for digest, exported, variables in command.environments:
        if digest in used and digest not in desk.state.environments:
            desk.emit(ev.EnvironmentStored(digest, exported, variables))
    for number, job in enumerate(command.jobs):
        demand = job.resources
        desk.emit(
            ev.JobSubmitted(
                first + number, command.user, job.name, job.command, job.cwd,
                command.environments[job.environment][0], demand.cpus_milli,
                demand.memory_bytes, demand.named, job.priority, job.array,
                job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms,
                job.execution,
            )
        )  # fmt: skip
    if command.request_id:
        desk.emit(
            ev.RequestAccepted(
                command.user, command.request_id, command.content, first, len(command.jobs)
            )
        )
    desk.schedule_wanted = True
    return Submitted(range(first, first + len(command.jobs)))


def _find_earlier(desk: Desk, command: SubmitJobs) -> Submitted | None:
    if not command.request_id:
        return None
    if len(command.request_id) != REQUEST_ID_BYTES:
        raise InvalidJob(f"a request id has {REQUEST_ID_BYTES} bytes")
    known = desk.state.requests.get(command.user, command.request_id)
    if known is None:
        return None
    if known.content != command.content:
        raise InvalidJob(
            f"this request id was used for something else: it submitted job {known.first_job_id}; "
            "take another one"
        )
    return Submitted(range(known.first_job_id, known.first_job_id + known.jobs))


def _check_request(command: SubmitJobs) -> None:
    _check(bool(command.jobs), "there is no job in the request")
    _check(
        len(command.jobs) <= JOBS_PER_REQUEST_MAX,
        f"{len(command.jobs)} jobs in one request are over the limit of {JOBS_PER_REQUEST_MAX}; "
        "send several requests, or use an array",
    )
    _check(
        command.size_bytes <= REQUEST_BYTES_MAX,
        f"the request has {command.size_bytes} bytes, over the limit of {REQUEST_BYTES_MAX}; "
        "send several requests",
    )
    _check(bool(command.user), "there is no user in the request")
    _check(len(command.user) <= NAME_LENGTH_MAX, "the user's name is too long")


def _check_variables(variables: Variables) -> None:
    for name, value in variables:
        if not name or b"=" in name or b"\0" in name or b"\0" in value:
            raise InvalidJob(f"{_text(name)!r} cannot be the name of an environment variable")


def _check_job(job: NewJob, environments: int, prefix: str) -> None:
    _check(bool(job.command) and bool(job.command[0]), f"{prefix}the command is empty")
    for argument in job.command:
        _check(b"\0" not in argument, f"{prefix}an argument holds a zero byte")
        _check(
            len(argument) <= ARGUMENT_BYTES_MAX,
            f"{prefix}an argument has {len(argument)} bytes, over the system's limit of "
            f"{ARGUMENT_BYTES_MAX}",
        )
    _check(
        sum(map(len, job.command)) <= COMMAND_BYTES_MAX,
        f"{prefix}the command is over the limit of {COMMAND_BYTES_MAX} bytes",
    )
    _check(
        0 < len(job.name) <= NAME_LENGTH_MAX, f"{prefix}a name has 1 to {NAME_LENGTH_MAX} letters"
    )
    cwd_is_path = job.cwd.startswith(b"/") and b"\0" not in job.cwd
    _check(
        cwd_is_path and len(job.cwd) <= PATH_BYTES_MAX,
        f"{prefix}the working directory {_text(job.cwd)!r} is no absolute path",
    )
    _check(0 <= job.environment < environments, f"{prefix}its environment is not in the request")
    _check(abs(job.priority) <= PRIORITY_MAX, f"{prefix}the priority is out of range")
    _check_resources(job.resources, prefix)
    _check_array(job.array, prefix)
    _check_time_limit(job, prefix)
    check_execution(job.execution, prefix)


def _check_resources(demand: Resources, prefix: str) -> None:
    _check(demand.cpus_milli > 0, f"{prefix}cpus must be more than 0")
    _check(
        demand.cpus_milli <= CPUS_MILLI_MAX, f"{prefix}{demand.cpus_milli / 1000:g} cpus are absurd"
    )
    _check(demand.memory_bytes >= 0, f"{prefix}memory must not be negative")
    _check(demand.memory_bytes <= MEMORY_BYTES_MAX, f"{prefix}so much memory is absurd")
    _check(len(demand.named) <= NAMED_RESOURCES_MAX, f"{prefix}too many kinds of resources")
    for name, count in demand.named:
        _check(0 < len(name) <= NAME_LENGTH_MAX, f"{prefix}a resource has no name or a long one")
        _check(0 < count <= NAMED_RESOURCE_MAX, f"{prefix}{name}={count} is out of range")
        _check(
            name not in OWN_RESOURCES,
            f"{prefix}{name} is no named resource: it is asked for with --{name}",
        )


def _check_array(array: tuple[IndexRange, ...], prefix: str) -> None:
    _check(len(array) <= ARRAY_RANGES_MAX, f"{prefix}the array has over {ARRAY_RANGES_MAX} ranges")
    end = -1
    tasks = 0
    for each in array:
        _check(
            each.step > 0 and 0 <= each.start < each.stop and each.stop - 1 <= INDEX_MAX,
            f"{prefix}the array has a range that is empty or beyond {INDEX_MAX}",
        )
        _check(each.start > end, f"{prefix}the ranges of an array must rise and not overlap")
        end = each.indexes[-1]
        tasks += len(each.indexes)
    _check(
        tasks <= ARRAY_TASKS_MAX,
        f"{prefix}the array has {tasks} tasks, over the limit of {ARRAY_TASKS_MAX}",
    )


def _check_time_limit(job: NewJob, prefix: str) -> None:
    _check(job.time_limit_ms >= 0, f"{prefix}a time limit must be more than 0")
    _check(job.time_limit_ms <= TIME_LIMIT_MS_MAX, f"{prefix}the time limit is over ten years")
    _check(
        0 <= job.grace_ms <= GRACE_MS_MAX, f"{prefix}the grace after a time limit is 0 to one day"
    )
    if not job.end_signal:
        _check(
            not job.end_signal_before_ms, f"{prefix}no signal is named to be sent before the end"
        )
        return
    _check(
        1 <= job.end_signal <= SIGNAL_MAX,
        f"{prefix}{job.end_signal} is no signal: they are 1 to {SIGNAL_MAX}",
    )
    _check(job.time_limit_ms > 0, f"{prefix}a signal before the end needs a time limit")
    _check(
        0 < job.end_signal_before_ms < job.time_limit_ms,
        f"{prefix}the signal before the end is due {job.end_signal_before_ms} ms before a time "
        f"limit of {job.time_limit_ms} ms: it has to come between start and limit",
    )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
