"""What the judge of `make chaos` takes for no violation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tools.told import AFTER_OK, Told
from tools.chaos.judge import LOSSES_MAX, judge


def ran_on_while_its_worker_was_cut_off(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=10)
    told.now += 5
    told.lost(1)
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.now += 2
    told.ended(1, 2)
    told.log("WorkerRegistered", worker=1, name="w1")


def came_back_and_was_lost_again_before_it_could_be_stopped(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=100)
    told.now += 5
    told.lost(1)
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.ended(1, 2)
    told.log("WorkerHealthy", worker=1)
    told.now += 10
    told.log("WorkerLost", worker=1)


def started_while_what_it_waited_for_was_cut_off(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=10, exit_code=None)
    told.user("cancel", job_id=1)
    told.log("CancelRequested", job_id=1, indexes=[])
    told.now += 5
    told.ended(1, 1, "LOST", "WORKER_LOST", -1, "CANCELLED")
    told.log("WorkerLost", same_record=True, worker=1)
    told.whole(2, after=[{**AFTER_OK[0], "condition": "ANY"}])


def given_up_and_adopted(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=100)
    told.lost(1)
    told.log("Adopted", job_id=1, index=0, attempt=1)
    told.ended(1)


def given_up_and_its_end_counts(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1)
    told.lost(1)
    told.ended(1)


def cancelled_while_it_waited(told: Told) -> None:
    told.job(1)
    told.user("cancel", job_id=1)
    told.log("CancelRequested", job_id=1, indexes=[])
    told.user("cancelled", job_id=1, state="CANCELLED")


def cancelled_and_then_lost(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.user("cancel", job_id=1)
    told.log("CancelRequested", job_id=1, indexes=[])
    told.user("cancelled", job_id=1, state="RUNNING")
    told.ended(1, 1, "LOST", "WORKER_LOST", -1, "CANCELLED")


def cancelled_after_its_end(told: Told) -> None:
    told.whole(1)
    told.user("cancel", job_id=1)
    told.user("cancelled", job_id=1, state="COMPLETED")


def lost_too_often(told: Told) -> None:
    told.job(1)
    for attempt in range(1, LOSSES_MAX + 1):
        told.assigned(1, attempt)
        if attempt < LOSSES_MAX:
            told.lost(1, attempt, worker=None)
    told.ended(1, LOSSES_MAX, "FAILED", "WORKER_LOST", -1)


def failed_as_often_as_it_may(told: Told) -> None:
    told.job(1, "fails", retries=1)
    for attempt, task_state in ((1, "PENDING"), (2, "FAILED")):
        told.assigned(1, attempt)
        told.ran(1, attempt, exit_code=3)
        told.now += 2
        told.ended(1, attempt, "FAILED", exit_code=3, task_state=task_state)


def ran_into_its_limit(told: Told) -> None:
    told.job(1, "limited")
    told.assigned(1)
    told.ran(1, exit_code=None)
    told.ended(1, 1, "FAILED", "TIMEOUT", -1)


def waited_for_what_failed(told: Told) -> None:
    told.job(1, "fails")
    told.job(2, after=AFTER_OK)
    told.assigned(1)
    told.ran(1, exit_code=3)
    told.ended(1, 1, "FAILED", exit_code=3)
    told.log("DependencyFailed", job_id=2, indexes=[], dependency=1)


def never_answered_and_accepted_all_the_same(told: Told) -> None:
    told.sent(1)
    told.submitted(1)
    told.assigned(1)
    told.ran(1)
    told.ended(1)


def never_answered_and_never_accepted(told: Told) -> None:
    told.sent(1)


@pytest.mark.parametrize(
    "happen",
    [
        ran_on_while_its_worker_was_cut_off,
        came_back_and_was_lost_again_before_it_could_be_stopped,
        started_while_what_it_waited_for_was_cut_off,
        given_up_and_adopted,
        given_up_and_its_end_counts,
        cancelled_while_it_waited,
        cancelled_and_then_lost,
        cancelled_after_its_end,
        lost_too_often,
        failed_as_often_as_it_may,
        ran_into_its_limit,
        waited_for_what_failed,
        never_answered_and_accepted_all_the_same,
        never_answered_and_never_accepted,
    ],
    ids=lambda happen: happen.__name__,
)
def test_the_judge_lets_pass(happen: Callable[[Told], None]) -> None:
    told = Told()
    happen(told)
    assert judge(told.evidence).violations == []


def test_two_runs_at_once_that_are_allowed_are_counted() -> None:
    told = Told()
    ran_on_while_its_worker_was_cut_off(told)
    verdict = judge(told.evidence)
    assert (verdict.overlapping, verdict.repeated) == (1, 1)
