"""Submits: every check before the first event, then all jobs of the request or none."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Final

from titan import events as ev
from titan.checks import (
    check_command,
    check_directory,
    check_execution,
    check_name,
    check_resources,
    check_scheduling,
    check_script,
    check_secret_names,
    check_time_limit,
    check_user,
    check_variables,
)
from titan.errors import InvalidJob, NoRoom, NotFound, PermissionDenied, Refused
from titan.isolation import needed_constraints
from titan.manager.kernel.commands import NewEnvironment, NewTerms, SubmitJobs, Submitted
from titan.manager.kernel.desk import Desk, Settings
from titan.manager.kernel.references import resolve_references
from titan.model import (
    ARRAY_TASKS_MAX,
    INDEX_MAX,
    Execution,
    IndexRange,
    ScriptSource,
    WorkerState,
)
from titan.queries.worker_selection import select_worker
from titan.scheduler.constraints import labels_match
from titan.scheduling import Scheduling
from titan.state.cluster import ClusterState
from titan.state.job import weigh, weigh_named
from titan.state.tables import environment_bytes

# One request is one record, and a record takes at most 16 MiB.
JOBS_PER_REQUEST_MAX: Final = 10_000
REQUEST_BYTES_MAX: Final = 12 * 1024 * 1024
ARRAY_RANGES_MAX: Final = 10_000
PRIORITY_MAX: Final = 1_000_000_000
REQUEST_ID_BYTES: Final = 16
# By how much a worker's silence has to be longer than the lease of its tasks before it is lost, at
# clocks that differ by 1 %: its host turns again, finds that the lease is over, and kills.
LEASE_MARGIN_US: Final = 5_000_000
# Some 10 ms where each asks for something else.
CHECKED_AT_ONCE: Final = 1_000


def submit_jobs(desk: Desk, command: SubmitJobs) -> Submitted:
    """Accepts the jobs. Raises InvalidJob, NoRoom, and Refused where it can't keep a promise."""
    known = find_earlier(desk, command.user, command.request_id, command.content)
    if known is not None:
        return known
    on, named = check_submit(desk.state, command)
    if any(each.at_most_once for each in named):
        check_lease(desk.settings)
    if not desk.room:
        raise NoRoom("the manager's disk is full: no job is accepted until there is room again")
    new = _new_environments(desk.state, command)
    arrays = [terms.array for _, _, terms in command.jobs]
    check_memory(desk, zip(arrays, named, strict=True), new)
    first = desk.state.next_job_id
    # What jobs ask for, as their events have it from the directory on.
    fields = {}
    for terms in _distinct_terms(command):
        demand = terms.resources
        fields[terms] = (
            terms.cwd, command.environments[terms.environment].digest, demand.cpus_milli,
            demand.memory_bytes, demand.named, terms.priority, terms.array, terms.time_limit_ms,
            terms.grace_ms, terms.end_signal, terms.end_signal_before_ms, terms.execution,
            on[terms.on],
        )  # fmt: skip
    for environment in new:
        desk.emit(environment)
    user, make = command.user, ev.JobSubmitted._make
    desk.emit_submits(
        [
            make((job_id, user, name, words, *fields[terms], scheduling))
            for job_id, ((name, words, terms), scheduling) in enumerate(
                zip(command.jobs, named, strict=True), first
            )
        ]
    )
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
            check_secret_names(environment.secret_names, environment.variables)
    if not command.are_checked:
        _check_jobs(command, range(len(command.jobs)), set())
    check_run_as(
        state,
        command.proven_user,
        ((command.user, terms.execution) for terms in _distinct_terms(command)),
    )
    return _find_workers(state, command), resolve_references(state, command.jobs)


def check_steps(command: SubmitJobs) -> Generator[None, None, SubmitJobs]:
    """The same command, whose jobs have been looked at by themselves. Raises InvalidJob.

    Where each asks for something else it takes as long as to accept them, and it needs no state: of
    many jobs it is done in steps, between which whoever has the command may do something else.
    """
    total = len(command.jobs)
    if total <= CHECKED_AT_ONCE:
        return command
    _check_request(command)
    checked: set[NewTerms] = set()
    for start in range(0, total, CHECKED_AT_ONCE):
        _check_jobs(command, range(start, min(start + CHECKED_AT_ONCE, total)), checked)
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


def check_run_as(
    state: ClusterState, proven_user: str, wanted: Iterable[tuple[str, Execution]]
) -> None:
    """Whether tasks of these users may run as the accounts that they ask for.

    The workers have the last word, at each start. Raises PermissionDenied.
    """
    asked = {(user, execution.run_as) for user, execution in wanted if execution.run_as}
    for user, account in sorted(asked):
        if not proven_user:
            raise PermissionDenied(
                f"--user {account}: who submits it has to be proven, by a certificate or a token "
                "for users, and this caller is not"
            )
        if proven_user != user:
            raise PermissionDenied(
                f"--user {account}: {proven_user} may not have tasks of {user} run as it"
            )
        constraints = needed_constraints(user, Execution(run_as=account))
        if not any(
            labels_match(each.labels, constraints)
            for each in state.workers.values()
            if each.state is not WorkerState.DEREGISTERED
        ):
            raise PermissionDenied(
                f"--user {account}: no worker lets tasks of {user} run as it (titan worker "
                "--run-as-policy)"
            )


def check_lease(settings: Settings) -> None:
    """Whether what runs at most once has ended by the time that its worker counts as lost.

    Raises Refused.
    """
    needed_us = (settings.lease_us + LEASE_MARGIN_US) * 101 // 100
    if settings.heartbeat_timeout_us < needed_us:
        raise Refused(
            f"jobs that run at most once need a --heartbeat-timeout of {needed_us / 1e6:g} s or "
            f"more, and this manager's is {settings.heartbeat_timeout_us / 1e6:g} s: on a worker "
            f"that is cut off their tasks run on for up to {settings.lease_us / 1e6:g} s"
        )


def check_memory(
    desk: Desk,
    jobs: Iterable[tuple[Sequence[IndexRange], Scheduling]],
    new: Iterable[ev.EnvironmentStored] = (),
) -> None:
    """Whether jobs with these arrays, and that name these others, are not too many.

    Nor too much what of their environments is `new`. Raises NoRoom.
    """
    more = 0
    for array, scheduling in jobs:
        more += weigh(sum(len(each.indexes) for each in array)) if array else 1
        more += weigh_named(scheduling)
    limit = desk.settings.jobs_max
    if desk.state.jobs.live_weight + more > limit:
        raise NoRoom(
            f"{len(desk.state.live_jobs)} jobs have not ended, and with these there would be more "
            f"than the manager takes (--jobs-max {limit}, an array as one for 8 tasks); try again "
            "when some have ended"
        )
    new_bytes = sum(map(environment_bytes, new))
    known_bytes, limit = desk.state.environment_bytes, desk.settings.environment_bytes_max
    if new_bytes and known_bytes + new_bytes > limit:
        raise NoRoom(
            f"environments and scripts of jobs take {known_bytes} bytes, and with these they would "
            f"take {known_bytes + new_bytes}, more than the manager takes, {limit}; try again when "
            "some have ended"
        )


def accept_request(
    desk: Desk, user: str, request_id: bytes, content: bytes, job_ids: range
) -> None:
    """Remembers what a request was answered, if it is to be remembered."""
    if request_id:
        desk.emit(ev.RequestAccepted(user, request_id, content, job_ids.start, len(job_ids)))


def _distinct_terms(command: SubmitJobs) -> Iterable[NewTerms]:
    """Each object once, in the order of the jobs."""
    return dict.fromkeys(terms for _, _, terms in command.jobs)


def _new_environments(state: ClusterState, command: SubmitJobs) -> list[ev.EnvironmentStored]:
    """Those that are not stored yet, each once."""
    # One that no job of the request has would be kept for ever.
    used = {command.environments[each.environment].digest for each in _distinct_terms(command)}
    new = {each.digest: each for each in command.environments if each.digest in used}
    return [
        ev.EnvironmentStored(*each)
        for digest, each in new.items()
        if digest not in state.environments
    ]


def _find_workers(state: ClusterState, command: SubmitJobs) -> dict[str, str]:
    """The workers that jobs ask for, each as the log is to name it. Raises InvalidJob."""
    found = {"": ""}
    for text in {terms.on: None for terms in _distinct_terms(command) if terms.on}:
        check_name(text, "the name of the worker to run on")
        try:
            worker = select_worker(state, text)
        except (NotFound, Refused) as error:
            raise InvalidJob(str(error)) from error
        # Whoever gives an id means that very worker, whatever it is called.
        found[text] = text if text == worker.name else worker.worker_id.hex()
    return found


def _check_request(command: SubmitJobs) -> None:
    jobs = len(command.jobs)
    _check(jobs > 0, "there is no job in the request")
    if jobs > JOBS_PER_REQUEST_MAX:
        raise InvalidJob(
            f"{jobs} jobs in one request are over the limit of {JOBS_PER_REQUEST_MAX}; "
            "send several requests, or use an array"
        )
    _check(bool(command.user), "there is no user in the request")
    check_user(command.user)
    # In the log each of the jobs names its user, and its trace, which is that of all.
    execution = command.jobs[0].terms.execution
    trace_bytes = len(execution.trace_parent) + len(execution.trace_state.encode())
    size = command.size_bytes + jobs * (len(command.user.encode()) + trace_bytes)
    if size > REQUEST_BYTES_MAX:
        raise InvalidJob(
            f"the request takes {size} bytes, over the limit of {REQUEST_BYTES_MAX}; "
            "send several requests"
        )


def _check_jobs(command: SubmitJobs, numbers: range, checked: set[NewTerms]) -> None:
    """Looks at these jobs; terms in `checked` were looked at before. Raises InvalidJob."""
    jobs, environments = command.jobs, command.environments
    for number in numbers:
        name, words, terms = jobs[number]
        try:
            check_command(words)
            check_name(name)
            if terms in checked:
                continue
            _check_terms(terms, environments)
            check_script(terms.execution, words, environments[terms.environment].script)
        except InvalidJob as error:
            if len(jobs) == 1:
                raise
            raise InvalidJob(f"job {number + 1} of {len(jobs)}: {error}") from error
        # On a worker the path of the script, a word of the command, may be another each time.
        if terms.execution.script_source is not ScriptSource.ON_WORKER:
            checked.add(terms)


def _check_terms(terms: NewTerms, environments: Sequence[NewEnvironment]) -> None:
    check_directory(terms.cwd)
    _check(0 <= terms.environment < len(environments), "its environment is not in the request")
    if abs(terms.priority) > PRIORITY_MAX:
        raise InvalidJob(f"the priority is out of range: it is up to {PRIORITY_MAX}")
    check_resources(terms.resources)
    _check_array(terms.array)
    check_time_limit(
        terms.time_limit_ms, terms.grace_ms, terms.end_signal, terms.end_signal_before_ms
    )
    check_execution(terms.execution, terms.resources)
    check_scheduling(terms.scheduling, is_array=bool(terms.array))


def _check_array(array: tuple[IndexRange, ...]) -> None:
    if not array:
        return
    if len(array) > ARRAY_RANGES_MAX:
        raise InvalidJob(f"the array has over {ARRAY_RANGES_MAX} ranges")
    end = -1
    tasks = 0
    for each in array:
        if each.step <= 0 or not 0 <= each.start < each.stop or each.stop - 1 > INDEX_MAX:
            raise InvalidJob(f"the array has a range that is empty or beyond {INDEX_MAX}")
        _check(each.start > end, "the ranges of an array must rise and not overlap")
        end = each.indexes[-1]
        tasks += len(each.indexes)
    if tasks > ARRAY_TASKS_MAX:
        raise InvalidJob(f"the array has {tasks} tasks, over the limit of {ARRAY_TASKS_MAX}")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)
