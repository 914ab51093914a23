"""The digest: whatever a later event could find different shows in it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.state.builders import T0, Story
from titan import events as ev
from titan.model import Execution, IndexRange, Resources, State, WorkerState
from titan.state import ClusterState, digest
from titan.state.request_table import Request
from titan.state.worker import Drain


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


def put(holder: Callable[[ClusterState], Any], name: str, value: Any) -> Callable[[Any], None]:
    """A change of one field."""

    def change(state: ClusterState) -> None:
        target = holder(state)
        assert getattr(target, name) != value
        setattr(target, name, value)

    return change


def job(state: ClusterState) -> Any:
    return state.get_job(1)


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


def whole(state: ClusterState) -> Any:
    return state


CHANGES: list[tuple[str, Callable[[Any], object]]] = [
    *(
        (f"{holder.__name__}.{name}", put(holder, name, value))
        for holder, name, value in [
            (whole, "lsn", 1), (whole, "time_us", 1), (whole, "cluster_id", b""),
            (whole, "epoch", 8), (whole, "version", "9"), (whole, "next_job_id", 9),
            (whole, "next_worker", 9), (whole, "round_robin", 1), (whole, "next_class", 9),
            (whole, "task_counts", [0] * 6),
            (whole, "job_counts", [0] * 6), (whole, "last_job_of", {}),
            (job, "epoch", 1), (job, "name", "x"), (job, "command", (b"x",)), (job, "cwd", b"/x"),
            (job, "environment", b"x"), (job, "array", ()), (job, "submit_us", 1),
            (job, "submit_lsn", 1), (job, "ended_us", 1),
            (job, "start_us", 1), (job, "end_us", 1), (job, "cancelled", None),
            (job, "attempts_made", None), (job, "attempts_total", 99),
            (job, "cancel_requested", True), (job, "lowest_failed", None), (job, "counts", [0] * 6),
            (job, "changed_lsn", 1), (job, "time_limit_ms", 1), (job, "grace_ms", 1),
            (job, "execution", Execution(umask=1)),
            (job, "end_signal", 1), (job, "end_signal_before_ms", 1),
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
            (job_class, "jobs", 9), (job_class, "on", "w9"),
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


@pytest.mark.parametrize("change", [c for _, c in CHANGES], ids=[n for n, _ in CHANGES])
def test_the_digest_shows_a_change_of(change: Callable[[Any], object]) -> None:
    same, changed = story().state, story().state
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


def test_every_field_of_the_state_is_in_the_digest_or_follows_from_it() -> None:
    """A new field has to be put into the digest, or here with its reason."""
    derived = {
        # From the workers, from the classes and from the environments.
        ClusterState: {"worker_numbers", "class_ids", "script_bytes"},
    }
    state = ClusterState()
    known = {
        "lsn", "time_us", "cluster_id", "epoch", "version", "jobs", "next_job_id",
        "environment_jobs", "workers", "next_worker", "next_class", "round_robin",
        "classes", "environments", "requests",
        "last_job_of", "task_counts", "job_counts",
    }  # fmt: skip
    assert set(vars(state)) == known | derived[ClusterState]
