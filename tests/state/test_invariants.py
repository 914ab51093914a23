"""What the check of invariants finds."""

from collections.abc import Callable

import pytest

from tests.state.builders import Story
from titan.model import Resources, WorkerState
from titan.state import ClusterState, InvariantViolated, check_invariants
from titan.state.invariants import check_invariants_of
from titan.state.job_class import ClassKey, JobClass

BREAKS: list[tuple[str, Callable[[ClusterState], object]]] = [
    ("a count", lambda state: setattr(state.get_job(1), "counts", [9, 0, 0, 0, 0, 0])),
    ("a task lost", lambda state: state.get_job(1).pending.remove(2)),
    ("room forgotten", lambda state: setattr(state.get_worker(1), "free_cpus_milli", 4000)),
    ("an attempt nowhere", lambda state: state.get_worker(1).attempts.clear()),
    ("a slot too many", lambda state: setattr(state.get_worker(1).classes[1], "slots", 2)),
    ("a job not live", lambda state: state.jobs.end(state.get_job(1))),
    ("a class that nobody needs", lambda state: state.add_class(
        JobClass(9, ClassKey("ada", 9, Resources(1))))),
    ("an environment lost", lambda state: state.environments.clear()),
    ("a class without its jobs", lambda state: state.classes[1].pending_jobs.clear()),
    ("all tasks", lambda state: state.task_counts.__setitem__(0, 9)),
    ("all jobs", lambda state: state.job_counts.__setitem__(0, 9)),
    ("a gone worker that holds", lambda state: setattr(
        state.get_worker(1), "state", WorkerState.DISCONNECTED)),
]  # fmt: skip


@pytest.mark.parametrize("damage", [d for _, d in BREAKS], ids=[n for n, _ in BREAKS])
def test_the_check_of_invariants_finds(damage: Callable[[ClusterState], object]) -> None:
    story = Story()
    story.worker()
    story.job((0, 3))
    story.assign(1, 0)
    check_invariants(story.state)
    damage(story.state)
    with pytest.raises(InvariantViolated):
        check_invariants(story.state)


def test_the_check_of_some_finds_what_is_wrong_with_these_alone() -> None:
    story = Story()
    story.worker()
    story.worker()
    story.job((0, 3))
    story.job()
    story.assign(1, 0)
    check_invariants_of(story.state, (1, 2, 99), (1, 2, 99))
    story.state.get_job(1).active.clear()
    check_invariants_of(story.state, (2,), (2,))
    for jobs, workers in (((1,), ()), ((), (1,))):
        with pytest.raises(InvariantViolated):
            check_invariants_of(story.state, jobs, workers)
