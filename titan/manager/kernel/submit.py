"""Submits: every check before the first event, then all jobs of the request or none."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

from titan import events as ev
from titan.checks import (
    NAME_LENGTH_MAX,
    check_command,
    check_directory,
    check_execution,
    check_resources,
    check_scheduling,
    check_script,
    check_time_limit,
    check_variables,
)
from titan.errors import InvalidJob, NoRoom, NotFound, Refused
from titan.manager.kernel.commands import NewJob, SubmitJobs, Submitted
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.references import resolve_references
from titan.model import (
    ARRAY_TASKS_MAX,
    INDEX_MAX,
    IndexRange,
)
from titan.queries.worker_selection import select_worker
from titan.scheduling import Scheduling
from titan.state.cluster import ClusterState
from titan.state.job import weigh

# One request is one record, and a record takes at most 16 MiB.
JOBS_PER_REQUEST_MAX: Final = 10_000
REQUEST_BYTES_MAX: Final = 12 * 1024 * 1024
ARRAY_RANGES_MAX: Final = 10_000
PRIORITY_MAX: Final = 1_000_000_000
REQUEST_ID_BYTES: Final = 16
# Some 15 ms.
CHECKED_AT_ONCE: Final = 1_000


def submit_jobs(desk: Desk, command: SubmitJobs) -> Submitted:
    """Accepts the jobs. Raises InvalidJob, NoRoom."""
    known = find_earlier(desk, command.user, command.request_id, command.content)
    if known is not None:
        return known
    on, named = check_submit(desk.state, command)
    if not desk.room:
        raise NoRoom("the manager's disk is full: no job is accepted until there is room again")
    check_memory(desk, [job.array for job in command.jobs])
    first = desk.state.next_job_id
    # One that no job of the request has would be kept for ever.
    used = {command.environments[job.environment].digest for job in command.jobs}
    for environment in command.environments:
        if environment.digest in used and environment.digest not in desk.state.environments:
            desk.emit(ev.EnvironmentStored(*environment))
    for number, (job, scheduling) in enumerate(zip(command.jobs, named, strict=True)):
        demand = job.resources
        desk.emit(
            ev.JobSubmitted(
                first + number, command.user, job.name, job.command, job.cwd,
                command.environments[job.environment].digest, demand.cpus_milli,
                demand.memory_bytes, demand.named, job.priority, job.array,
                job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms,
                job.execution, on[job.on], scheduling,
            )
        )  # fmt: skip
    accept_request(
        desk, command.user, command.request_id, command.content, range(first, first + len(named))
    )
    desk.schedule_wanted = True
    return Submitted(range(first, first + len(command.jobs)))


def check_submit(
    state: ClusterState, command: SubmitJobs
) -> tuple[dict[str, str], list[Scheduling]]:
    """What is wrong with it, whatever room there is. Raises InvalidJob.

    Else the workers that jobs ask for as the log is to name them, and when and where each job
    may run with numbers for the jobs that it names.
    """
    _check_request(command)
    for environment in command.environments:
        # One that is stored has been looked at before.
        if environment.digest not in state.environments:
            check_variables((*environment.exported, *environment.variables))
    if not command.are_checked:
        _check_jobs(command, 0, len(command.jobs))
    return _find_workers(state, command), resolve_references(state, command.jobs)


def check_steps(command: SubmitJobs) -> Generator[None, None, SubmitJobs]:
    """The same command, whose jobs have been looked at by themselves. Raises InvalidJob.

    It takes twice as long as to accept them, and needs no state: of many jobs it is done in steps,
    between which whoever has the command may do something else.
    """
    total = len(command.jobs)
    if total <= CHECKED_AT_ONCE:
        return command
    _check_request(command)
    for start in range(0, total, CHECKED_AT_ONCE):
        _check_jobs(command, start, min(start + CHECKED_AT_ONCE, total))
        yield
    return replace(command, are_checked=True)


def find_earlier(desk: Desk, user: str, request_id: bytes, content: bytes) -> Submitted | None:
    """What the same request was answered before. Raises InvalidJob if it asked something else."""
    if not request_id:
        return None
    if len(request_id) != REQUEST_ID_BYTES:
        raise InvalidJob(f"a request id has {REQUEST_ID_BYTES} bytes")
    known = desk.state.requests.get(user, request_id)
    if known is None:
        return None
    if known.content != content:
        raise InvalidJob(
            f"this request id was used for something else: it submitted job {known.first_job_id}; "
            "take another one"
        )
    return Submitted(range(known.first_job_id, known.first_job_id + known.jobs))


def check_memory(desk: Desk, arrays: Sequence[tuple[IndexRange, ...]]) -> None:
    """Whether so many more jobs are not too many; `arrays` has one for each. Raises NoRoom."""
    more = sum(weigh(sum(len(each.indexes) for each in array)) if array else 1 for array in arrays)
    limit = desk.settings.jobs_max
    if desk.state.jobs.live_weight + more > limit:
        raise NoRoom(
            f"{len(desk.state.live_jobs)} jobs have not ended, and with these there would be more "
            f"than the manager takes (--jobs-max {limit}, an array as one for 8 tasks); try again "
            "when some have ended"
        )


def accept_request(
    desk: Desk, user: str, request_id: bytes, content: bytes, job_ids: range
) -> None:
    """Remembers what a request was answered, if it is to be remembered."""
    if request_id:
        desk.emit(ev.RequestAccepted(user, request_id, content, job_ids.start, len(job_ids)))


def _find_workers(state: ClusterState, command: SubmitJobs) -> dict[str, str]:
    """The workers that jobs ask for, each as the log is to name it. Raises InvalidJob."""
    found = {"": ""}
    for text in {job.on: None for job in command.jobs if job.on}:
        _check(len(text) <= NAME_LENGTH_MAX, "the name of the worker to run on is too long")
        try:
            worker = select_worker(state, text)
        except (NotFound, Refused) as error:
            raise InvalidJob(str(error)) from error
        # Whoever gives an id means that very worker, whatever it is called.
        found[text] = text if text == worker.name else worker.worker_id.hex()
    return found


def _check_request(command: SubmitJobs) -> None:
    _check(bool(command.jobs), "there is no job in the request")
    _check(
        len(command.jobs) <= JOBS_PER_REQUEST_MAX,
        f"{len(command.jobs)} jobs in one request are over the limit of {JOBS_PER_REQUEST_MAX}; "
        "send several requests, or use an array",
    )
    _check(bool(command.user), "there is no user in the request")
    _check(len(command.user) <= NAME_LENGTH_MAX, "the user's name is too long")
    # In the log each of the jobs names its user.
    size = command.size_bytes + len(command.jobs) * len(command.user.encode())
    _check(
        size <= REQUEST_BYTES_MAX,
        f"the request takes {size} bytes, over the limit of {REQUEST_BYTES_MAX}; "
        "send several requests",
    )


def _check_jobs(command: SubmitJobs, start: int, stop: int) -> None:
    total = len(command.jobs)
    for number in range(start, stop):
        job = command.jobs[number]
        prefix = f"job {number + 1} of {total}: " if total > 1 else ""
        _check_job(job, len(command.environments), prefix)
        script = command.environments[job.environment].script
        check_script(job.execution, job.command, script, prefix)


def _check_job(job: NewJob, environments: int, prefix: str) -> None:
    check_command(job.command, prefix)
    _check(
        0 < len(job.name) <= NAME_LENGTH_MAX, f"{prefix}a name has 1 to {NAME_LENGTH_MAX} letters"
    )
    check_directory(job.cwd, prefix)
    _check(0 <= job.environment < environments, f"{prefix}its environment is not in the request")
    _check(abs(job.priority) <= PRIORITY_MAX, f"{prefix}the priority is out of range")
    check_resources(job.resources, prefix)
    _check_array(job.array, prefix)
    check_time_limit(
        job.time_limit_ms, job.grace_ms, job.end_signal, job.end_signal_before_ms, prefix
    )
    check_execution(job.execution, job.resources, prefix)
    check_scheduling(job.scheduling, prefix, is_array=bool(job.array))


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


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)
