"""The digest: whatever a later event could find different shows in it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.state.builders import T0, Story
from titan import events as ev
from titan.model import Execution, IndexRange, Reason, Resources, State, WorkerState
from titan.scheduling import SAME_INDEX, Dependency, Scheduling
from titan.state import ClusterState, digest
from titan.state.attempts import Attempt
from titan.state.digest import digest_of
from titan.state.job import Job, Terms
from titan.state.job_class import ClassKey, JobClass
from titan.state.request_table import Request
from titan.state.tables import Hold
from titan.state.waits import Waits
from titan.state.worker import ClassOnWorker, Drain, Worker


def story() -> Story:
    """Something of everything."""
    built = Story()
    built.worker()
    built.worker()
    built.job(
        (0, 9), named=(("gpu", 1),),
        time_limit_ms=90_000, grace_ms=5_000, end_signal=10, end_signal_before_ms=60_000,
    )  # fmt: skip
    built.job(user="grace", on="w2")
    for job_id in (built.job(), built.job()):
        built.apply(ev.CancelRequested(job_id, (), 0))
    for index in (0, 1, 2):
        built.assign(1, index)
    built.start(1, 0)
    built.end(1, 1, State.FAILED, detail="killed")
    built.lose(1, 2)
    built.assign(1, 4)
    built.assign(1, 3, ahead=True)
    built.apply(ev.CancelRequested(1, (IndexRange(8, 9),), 5))
    built.apply(ev.RequestAccepted("ada", b"r" * 16, b"c", 1, 1))
    built.apply(ev.WorkerDraining(2, "new disk", "ada", False))
    built.apply(ev.WorkerDraining(2, "", "", True))
    built.apply(ev.WorkerUnhealthy(2, "its disk is nearly full"))
    return built


def scheduled_story() -> Story:
    """Something of everything that keeps tasks from starting, and of what makes room."""
    built = Story()
    for _ in range(3):
        built.worker()
    built.job((0, 4), scheduling=Scheduling(retries=2, exclusive=True, preemptible=True))
    for index in range(3):
        built.assign(1, index)
        built.start(1, index)
    built.apply(ev.AttemptSuspended(1, 1, 1, 0))
    built.apply(ev.Preempted(1, 2, 1, 0, 77))
    built.assign(1, 3, worker=2)
    built.end(1, 3, State.FAILED, becomes=State.PENDING, not_before_us=T0 << 1, charge=1)
    after = Dependency(1), Dependency(1, index=SAME_INDEX)
    built.job((0, 4), scheduling=Scheduling(after=after, max_fails=3, deadline_us=T0 << 1))
    built.job(scheduling=Scheduling(after=(Dependency(1, index=1),), held=True))
    built.apply(ev.JobUpdated(1, 7, 60_000, "ada"))
    built.apply(ev.Reserved(3, 2))
    built.apply(ev.PolicySet("ada", 1, 1, False, 1, 60_000, ()))
    return built


def put(holder: Callable[[ClusterState], Any], name: str, value: Any) -> Callable[[Any], None]:
    """A change of one field."""

    def change(state: ClusterState) -> None:
        target = holder(state)
        assert getattr(target, name) != value
        setattr(target, name, value)

    return change


def job(state: ClusterState) -> Any:
    return state.get_job(1)


def terms(state: ClusterState) -> Any:
    return state.get_job(1).terms


def worker(state: ClusterState) -> Any:
    return state.get_worker(1)


def running(state: ClusterState) -> Any:
    return state.get_job(1).active[0]


def ahead(state: ClusterState) -> Any:
    return state.get_job(1).active[3]


def job_class(state: ClusterState) -> Any:
    return state.classes[1]


def here(state: ClusterState) -> Any:
    return state.get_worker(1).classes[1]


def waits(state: ClusterState) -> Any:
    return state.get_job(1).waits


def standing(state: ClusterState) -> Any:
    return state.get_job(1).active[1]


def whole(state: ClusterState) -> Any:
    return state


def put_term(name: str, value: Any) -> Callable[[Any], None]:
    """A change of one of the terms on which the job runs."""

    def change(state: ClusterState) -> None:
        before = terms(state)
        assert getattr(before, name) != value
        state.get_job(1).terms = before._replace(**{name: value})

    return change


CHANGES: list[tuple[str, Callable[[Any], object]]] = [
    *(
        (f"terms.{name}", put_term(name, value))
        for name, value in [
            ("cwd", b"/x"), ("environment", b"x"), ("time_limit_ms", 1), ("grace_ms", 1),
            ("execution", Execution(umask=1)), ("end_signal", 1), ("end_signal_before_ms", 1),
        ]
    ),
    *(
        (f"{holder.__name__}.{name}", put(holder, name, value))
        for holder, name, value in [
            (whole, "lsn", 1), (whole, "time_us", 1), (whole, "cluster_id", b""),
            (whole, "epoch", 8), (whole, "version", "9"), (whole, "next_job_id", 9),
            (whole, "next_worker", 9), (whole, "round_robin", 1), (whole, "next_class", 9),
            (whole, "task_counts", [0] * 6),
            (whole, "job_counts", [0] * 6), (whole, "last_job_of", {}),
            (job, "epoch", 1), (job, "name", "x"), (job, "packed_command", b"x"),
            (job, "array", ()), (job, "submit_us", 1), (job, "submit_lsn", 1), (job, "ended_us", 1),
            (job, "start_us", 1), (job, "end_us", 1), (job, "cancelled", None),
            (job, "attempts_made", None), (job, "attempts_total", 99),
            (job, "cancel_requested", True), (job, "lowest_failed", None), (job, "counts", [0] * 6),
            (job, "changed_lsn", 1),
            (running, "worker", 2), (running, "attempt", 2), (running, "assigned_us", 1),
            (running, "state", State.SCHEDULED), (running, "start_us", 1),
            (running, "cancel_grace_ms", 1), (ahead, "ahead", False),
            (ahead, "recall_requested", True),
            (worker, "state", WorkerState.UNHEALTHY), (worker, "last_heard_us", 1),
            (worker, "worker_id", b"x"), (worker, "instance", b"x"), (worker, "boot_id", "x"),
            (worker, "name", "x"), (worker, "address", "x"), (worker, "labels", (("a", "b"),)),
            (worker, "version", "x"), (worker, "output_directory", b"x"), (worker, "limits", "x"),
            (worker, "drain", Drain("disk", "ada")), (worker, "is_stopping", True),
            (worker, "fault", "x"),
            (worker, "capacity", Resources(1)), (worker, "free_cpus_milli", 1),
            (worker, "free_memory_bytes", 1), (worker, "free_named", {}),
            (here, "slots", 9), (job_class, "run_us", 9), (job_class, "samples", 9),
            (job_class, "jobs", 9),
            (job_class, "key", ClassKey("ada", 1, Resources(1000))),
        ]
    ),
    ("a pending task", lambda state: job(state).pending.remove(5)),
    ("an end", lambda state: job(state).ended.data.pop()),
    ("the sentence of an end", lambda state: job(state).ended.details.clear()),
    ("an attempt on a worker", lambda state: worker(state).attempts.popitem()),
    ("who waits ahead", lambda state: here(state).ahead.clear()),
    ("who has not started", lambda state: here(state).unstarted.clear()),
    ("a class's jobs", lambda state: job_class(state).pending_jobs.clear()),
    ("a live job", lambda state: state.jobs.end(state.get_job(2))),
    ("a request", lambda state: state.requests.add("ada", b"s" * 16, Request(b"", 1, 1, T0))),
    ("an environment", lambda state: state.environments.clear()),
    ("a script", lambda state: state.environments.update(
        {key: each._replace(script=b"x") for key, each in state.environments.items()}
    )),
    ("a job", lambda state: state.jobs.forget(3)),
    ("the order of the ends", lambda state: state.jobs.load(
        dict(state.live_jobs), dict(reversed(list(state.jobs.ended_packed()))), 2)),
    ("a worker", lambda state: state.workers.popitem()),
]  # fmt: skip


SCHEDULED_CHANGES: list[tuple[str, Callable[[Any], object]]] = [
    *(
        (f"{holder.__name__}.{name}", put(holder, name, value))
        for holder, name, value in [
            (whole, "policy", None),
            (whole, "holds", {3: Hold(2, True)}),
            (whole, "doomed", {2: {1: 1}}),
            (whole, "overfailed", {2: None}),
            (whole, "dependents", {}),
            (job, "scheduling", Scheduling()),
            (job, "cut_short", (Reason.DEADLINE, 0)),
            (standing, "limit_ms", 1), (standing, "limit_changed", False),
            (standing, "since_us", 1),
            (standing, "preempt_grace_ms", 1), (standing, "suspended", False),
            (standing, "was_suspended", False), (standing, "cancel_signal", 1),
            (worker, "exclusive", 9), (worker, "limited", 9), (worker, "preemptible", 9),
            (job_class, "strays", 9),
            (waits, "held", True), (waits, "suspended", True), (waits, "delayed", True),
            (waits, "unmet", [0]), (waits, "not_before", {}), (waits, "element_unmet", {1: 1}),
            (waits, "retries_used", {}), (waits, "losses", {1: 1}), (waits, "failed_on", {}),
            (waits, "eligible_us", 1),
        ]
    ),
    ("a task that waits for a time", lambda state: waits(state).tasks.remove(3)),
    ("what stands still", lambda state: worker(state).suspended.clear()),
    ("where a class is", lambda state: job_class(state).hosts.clear()),
    ("the cpus of a user", lambda state: state.usage.user_cpus_milli.update(ada=1)),
    ("the class of an attempt", lambda state: setattr(
        standing(state), "job_class", state.get_job(2).job_class)),
]  # fmt: skip


@pytest.mark.parametrize("change", [c for _, c in CHANGES], ids=[n for n, _ in CHANGES])
def test_the_digest_shows_a_change_of(change: Callable[[Any], object]) -> None:
    same, changed = story().state, story().state
    change(changed)
    assert digest(same) != digest(changed)


@pytest.mark.parametrize(
    "change", [c for _, c in SCHEDULED_CHANGES], ids=[n for n, _ in SCHEDULED_CHANGES]
)
def test_the_digest_shows_a_change_of_scheduling(change: Callable[[Any], object]) -> None:
    same, changed = scheduled_story().state, scheduled_story().state
    change(changed)
    assert digest(same) != digest(changed)


def test_two_states_of_the_same_events_have_one_digest() -> None:
    one, other = story().state, story().state
    assert one is not other
    assert digest(one) == digest(other)
    assert len(digest(one)) == 32
    one.begin_record(one.lsn + 1, one.time_us)
    one.apply(ev.TaskStarted(1, 3, 1, T0))
    assert digest(one) != digest(other)


# Every field is changed by one of the tables above, by that name, or stands here with its reason.
DERIVED: dict[type[Any], set[str]] = {
    ClusterState: {
        # From the workers, from the classes and from the environments.
        "worker_numbers", "class_ids", "environment_bytes",
        # From what the jobs wait for. What of it has passed or ended may stand here longer in the
        # one state than in the other, and then stands for nothing.
        "delayed", "deadlines",
        # What a pass has to look at again: it is emptied by that, and not by events.
        "touched_classes",
        # What the manager was started with.
        "flags",
        # Equal ones are one object, which nobody can tell.
        "_terms",
    },
    Job: {
        # From the counts.
        "known_state",
    },
    Attempt: set(),
    # Parts of its key.
    JobClass: {
        "affinities", "at_most_once", "constraints", "demand", "exclusive", "limit_ms", "on",
        "preemptible", "priority", "spread", "user",
    },
    # The one of the state.
    Worker: {"usage"},
    Terms: set(),
    ClassOnWorker: set(),
    Waits: set(),
}  # fmt: skip
# Changed in the tables in a way of its own.
OTHERWISE: dict[type[Any], set[str]] = {
    ClusterState: {
        "jobs", "environment_jobs", "workers", "classes", "environments", "requests", "usage",
    },
    Job: {"active", "ended", "job_class", "job_id", "pending", "terms", "waits"},
    Terms: set(),
    Attempt: {"cancel_signal", "index", "job_class", "job_id"},
    JobClass: {"class_id", "hosts", "pending_jobs"},
    Worker: {
        "attempts", "classes", "free_cpus_milli", "free_memory_bytes", "free_named", "number",
        "suspended",
    },
    ClassOnWorker: {"ahead", "unstarted"},
    Waits: {"tasks"},
}  # fmt: skip
HOLDERS: dict[type[Any], list[Callable[[ClusterState], Any]]] = {
    ClusterState: [whole],
    Job: [job],
    Terms: [terms],
    Attempt: [running, ahead, standing],
    JobClass: [job_class],
    Worker: [worker],
    ClassOnWorker: [here],
    Waits: [waits],
}


@pytest.mark.parametrize("kind", DERIVED, ids=lambda each: each.__name__)
def test_every_field_of_the_state_is_in_the_digest_or_follows_from_it(kind: type[Any]) -> None:
    """A new field has to be put into the digest, or above with its reason."""
    fields = set(
        vars(ClusterState())
        if kind is ClusterState
        else kind._fields
        if kind is Terms
        else kind.__slots__
    )
    changed = [name for name, _ in [*CHANGES, *SCHEDULED_CHANGES]]
    shown = {
        field
        for field in fields
        if any(f"{holder.__name__}.{field}" in changed for holder in HOLDERS[kind])
    }
    assert fields == shown | DERIVED[kind] | OTHERWISE[kind]
    assert not DERIVED[kind] & (shown | OTHERWISE[kind])


def test_the_digest_of_some_shows_what_changes_of_these_alone() -> None:
    state, other = story().state, story().state
    assert digest_of(state, (1, 2, 99), (1, 99)) == digest_of(other, (1, 2), (1,))
    other.get_worker(2).last_heard_us += 1
    assert digest_of(state, (1,), (1,)) == digest_of(other, (1,), (1,))
    assert digest_of(state, (1,), (2,)) != digest_of(other, (1,), (2,))
    other.get_job(2).changed_lsn += 1
    assert digest_of(state, (1,), (1,)) == digest_of(other, (1,), (1,))
    assert digest_of(state, (2,), ()) != digest_of(other, (2,), ())
    other.task_counts[0] += 1
    assert digest_of(state, (), ()) != digest_of(other, (), ())
