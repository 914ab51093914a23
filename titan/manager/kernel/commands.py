"""What the kernel can be asked, as plain data, and what it answers.

Random choices (ids, sessions) are drawn by the shell and come in with the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from titan.model import (
    PLAIN,
    SIGTERM,
    AttemptKey,
    Execution,
    Held,
    IndexRange,
    Reason,
    ReportKind,
    Resources,
    State,
)
from titan.queries.selection import JobFilter, JobSelector
from titan.scheduling import PLAIN_SCHEDULING, DependencyCondition, Scheduling

Variables = tuple[tuple[bytes, bytes], ...]


class NewEnvironment(NamedTuple):
    """An environment of a submit, with a digest of all of it; as in EnvironmentStored."""

    digest: bytes
    exported: Variables
    variables: Variables
    script: bytes = b""
    secret_id: bytes = b""
    """Drawn by the shell, which has written the values down under it."""
    secret_names: tuple[bytes, ...] = ()


class NewReference(NamedTuple):
    """A job that another one names: one that is there, or one of the same submit."""

    selector: JobSelector | None
    position: int = 0
    """Where in the submit, from 0, if there is no selector."""


class NewDependency(NamedTuple):
    """As Dependency, of a job that may come with the same submit."""

    job: NewReference
    condition: DependencyCondition
    index: int  # type: ignore[assignment]  # hides tuple.index


class NewAffinity(NamedTuple):
    """As JobAffinity, of a job that may come with the same submit, or of the job itself."""

    job: NewReference
    anti: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewTerms:
    """What jobs of a submit ask for. What follows `array` is as in JobSubmitted.

    Jobs that ask for the same best have one object: it is looked at once then. To find it among
    others costs little, since none is equal to another one.

    Of `scheduling` the jobs that it names are in `after` and `affinities` here.
    """

    cwd: bytes
    environment: int
    resources: Resources
    priority: int
    array: tuple[IndexRange, ...]
    time_limit_ms: int = 0
    grace_ms: int = 0
    end_signal: int = 0
    end_signal_before_ms: int = 0
    execution: Execution = PLAIN
    on: str = ""
    scheduling: Scheduling = PLAIN_SCHEDULING
    after: tuple[NewDependency, ...] = ()
    affinities: tuple[NewAffinity, ...] = ()


class NewJob(NamedTuple):
    """One job of a submit: what tells it apart from others, and what it may share with them."""

    name: str
    command: tuple[bytes, ...]
    terms: NewTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJobs:
    """Accept all of these jobs, or none.

    `content` is a hash of everything that was asked for, `size_bytes` what it takes on
    the wire. `are_checked` says of the jobs that nothing is wrong with them by themselves.
    """

    user: str
    request_id: bytes
    content: bytes
    size_bytes: int
    environments: tuple[NewEnvironment, ...]
    jobs: tuple[NewJob, ...]
    are_checked: bool = False


class Submitted(NamedTuple):
    """The jobs were accepted, now or when the same request came before."""

    job_ids: range


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichJobs:
    """These jobs, or where there is a filter all that match it; and who says so."""

    selectors: tuple[JobSelector, ...] = ()
    filter: JobFilter | None = None
    user: str = ""
    only_of: str | None = None
    """Whose jobs alone may be meant; None: everybody's."""


class Changed(NamedTuple):
    """The jobs meant, and those of them that had ended before and stayed as they were."""

    job_ids: list[int]
    already_ended: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJobs:
    """Cancel them."""

    which: WhichJobs
    grace_ms: int
    signal: int = SIGTERM


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldJobs:
    """None of their tasks starts until they are released; or release them."""

    which: WhichJobs
    releases: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendJobs:
    """What runs of them stands still until they are resumed; or resume them."""

    which: WhichJobs
    resumes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateJobs:
    """Give them another priority or time limit (0: none); None stays."""

    which: WhichJobs
    priority: int | None
    time_limit_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueJobs:
    """Put what is under way of them back, and submit again what ended and did not complete."""

    which: WhichJobs
    grace_ms: int
    request_id: bytes
    content: bytes


class Requeued(NamedTuple):
    """The jobs in the order of the request; of those that had ended, by number, the new one."""

    job_ids: list[int]
    submitted_again: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy:
    """Change how tasks are ordered and placed; None stays, and so do users that are not named."""

    user: str
    placement: str | None = None
    order: str | None = None
    fair_share: bool | None = None
    preempt: str | None = None
    reserve_after_ms: int | None = None
    user_limits: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWorkers:
    """Drain these workers, each a name or an id; without `drains` lift their drains."""

    workers: tuple[str, ...]
    drains: bool
    reason: str
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterWorker:
    """A worker calls in. `new_worker_id` and `session` are the shell's random choices.

    `is_stopping` and `fault` are as in Heartbeat.
    """

    worker_id: bytes
    instance: bytes
    boot_id: str
    name: str
    address: str
    token: str
    capacity: Resources
    labels: tuple[tuple[str, str], ...]
    version: str
    output_directory: bytes
    cluster_id: bytes
    held: Held
    acknowledged_seq: int
    new_worker_id: bytes
    session: bytes
    is_stopping: bool = False
    fault: str = ""
    limits: str = ""
    host_starts: int = 0
    """Of two instances the one with more is the later one; 0: not known."""
    takes_secrets: bool = False
    """It is of a version that gives them to its tasks."""


class Registered(NamedTuple):
    """The worker's id (perhaps another one than before), and what there is to warn of."""

    worker: int
    worker_id: bytes
    warning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A worker is alive and holds these.

    `is_stopping`: it ends once nothing is left there. `fault` is what keeps it from taking
    tasks, in its own words.
    """

    session: bytes
    held: Held
    is_stopping: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeregisterWorker:
    """A worker takes its leave."""

    session: bytes
    dispatch_seq: int | None = None
    """The last batch that it took; None: it does not say."""


class Report(NamedTuple):
    """An event of a task host. exit_code and signal are -1 where there is none."""

    seq: int
    key: AttemptKey
    kind: ReportKind
    state: State = State.FAILED
    reason: Reason = Reason.NONE
    exit_code: int = -1
    signal: int = -1
    start_us: int = 0
    end_us: int = 0
    cpu_user_us: int = 0
    cpu_system_us: int = 0
    max_rss_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTasks:
    """The events first_seq … last_seq of a task host; merged ones may be left out."""

    session: bytes
    first_seq: int
    last_seq: int
    reports: tuple[Report, ...]
    size_bytes: int = 0


Command = (
    SubmitJobs
    | CancelJobs
    | HoldJobs
    | SuspendJobs
    | UpdateJobs
    | RequeueJobs
    | SetPolicy
    | DrainWorkers
    | RegisterWorker
    | Heartbeat
    | DeregisterWorker
    | ReportTasks
)
