"""The judge of `make chaos` finds each kind of violation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.told import AFTER_OK, Told
from tools.chaos.evidence import EvidenceError, read_executions
from tools.chaos.judge import KINDS, LINGER_SECONDS, LOSSES_MAX, judge, tell_story, tell_verdict


def test_a_run_in_which_all_is_well_has_no_violations() -> None:
    told = Told()
    told.whole(1)
    told.job(2, "array", tasks=3)
    for index in range(3):
        told.assigned(2, index=index)
        told.ran(2, index=index)
        told.ended(2, index=index)
    verdict = judge(told.evidence)
    assert verdict.violations == []
    assert verdict.jobs == {"COMPLETED": 2}
    assert (verdict.tasks, verdict.executions, verdict.acknowledged) == (4, 4, 2)
    assert verdict.attempts == {"COMPLETED": 4}
    assert "lost 0, doubled 0, stuck 0, orphaned 0, unaccounted 0, wrong 0" in [
        *tell_verdict(verdict)
    ]


def acknowledged_and_not_in_the_log(told: Told) -> None:
    told.sent(1)
    told.accepted(1)


def acknowledged_cancel_not_in_the_log(told: Told) -> None:
    told.whole(1)
    told.user("cancel", job_id=1)
    told.user("cancelled", job_id=1, state="RUNNING")


def acknowledged_and_then_unknown(told: Told) -> None:
    told.whole(1)
    told.user("cancel", job_id=1)
    told.user("unknown", job_id=1)


def request_made_two_jobs(told: Told) -> None:
    told.whole(1)
    told.log("JobSubmitted", job_id=2, array=[], scheduling={})
    told.log("RequestAccepted", request_id="r1", first_job_id=2, jobs=1)
    told.assigned(2)
    told.ran(2)
    told.ended(2)


def repeated_submit_got_another_answer(told: Told) -> None:
    told.whole(1)
    told.user("accepted", request_id="r1", job_ids=[2])


def job_that_nobody_asked_for(told: Told) -> None:
    told.submitted(1)
    told.assigned(1)
    told.ran(1)
    told.ended(1)


def job_without_a_request(told: Told) -> None:
    told.log("JobSubmitted", job_id=1, array=[], scheduling={})
    told.assigned(1)
    told.ran(1)
    told.ended(1)


def task_ended_twice(told: Told) -> None:
    told.whole(1)
    told.ended(1)


def task_assigned_again_after_its_end(told: Told) -> None:
    told.whole(1)
    told.assigned(1, 2)
    told.log("Recalled", job_id=1, index=0, attempt=2)


def second_attempt_while_the_first_is_under_way(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.ended(1, 2)


def attempt_that_ran_twice(told: Told) -> None:
    told.whole(1)
    told.ran(1)


def recalled_attempt_that_ran(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1)
    told.now += 2
    told.log("Recalled", job_id=1, index=0, attempt=1)
    told.assigned(1, 2)
    told.ran(1, 2)
    told.ended(1, 2)


def two_at_once_though_the_worker_itself_said_lost(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=5, exit_code=None)
    told.lost(1, worker=None)
    told.now += 1
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.ended(1, 2)


def retry_beside_the_one_that_failed(told: Told) -> None:
    told.job(1, "flaky", retries=1)
    told.assigned(1)
    told.ran(1, seconds=5, exit_code=3)
    told.ended(1, 1, "FAILED", exit_code=3, task_state="PENDING")
    told.now += 1
    told.assigned(1, 2)
    told.ran(1, 2)
    told.ended(1, 2)


def adopted_though_its_task_ended(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.lost(1)
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.ended(1, 2)
    told.log("Adopted", job_id=1, index=0, attempt=1)


def task_that_waits_for_ever(told: Told) -> None:
    told.job(1)


def task_that_runs_for_ever(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, exit_code=None)


def worker_that_did_not_come_back(told: Told) -> None:
    told.evidence.unsettled.append("worker w1 is DISCONNECTED")


def process_that_is_still_there(told: Told) -> None:
    told.evidence.orphans.append("process 7 of a task is still there: sleep 60")


def given_up_and_never_stopped(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=LINGER_SECONDS + 20, exit_code=None)
    told.now += 5
    told.lost(1)
    told.assigned(1, 2, worker=2)
    told.ran(1, 2, worker=2)
    told.ended(1, 2)
    told.now += 5
    told.log("WorkerRegistered", worker=1, name="w1")


def ran_without_an_attempt(told: Told) -> None:
    told.whole(1)
    told.now += 5
    told.ran(1, 2)


def ran_elsewhere_than_the_log_says(told: Told) -> None:
    told.whole(1)
    told.evidence.executions[-1].worker = "w2"


def completed_and_never_ran(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ended(1)


def completed_and_never_came_to_its_end(told: Told) -> None:
    told.whole(1)
    told.evidence.executions[-1].exit_code = None


def completed_by_a_run_that_failed(told: Told) -> None:
    told.whole(1)
    told.evidence.executions[-1].exit_code = 3


def failed_though_it_was_to_complete(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, exit_code=None)
    told.ended(1, 1, "FAILED", "SIGNAL", -1)


def completed_though_it_has_no_end(told: Told) -> None:
    told.whole(1, "endless")


def cancelled_and_nobody_asked(told: Told) -> None:
    told.job(1)
    told.log("CancelRequested", job_id=1, indexes=[])


def given_up_after_too_few_losses(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ended(1, 1, "FAILED", "WORKER_LOST", -1)


def lost_five_times_by_name_and_four_in_truth(told: Told) -> None:
    """As a manager told it that kept counting the loss of what it had adopted."""
    told.job(1)
    for attempt in range(1, LOSSES_MAX):
        told.assigned(1, attempt)
        if attempt == 1:
            told.lost(1, attempt)
            told.log("Adopted", job_id=1, index=0, attempt=attempt)
        if attempt < LOSSES_MAX - 1:
            told.lost(1, attempt, worker=None)
    told.ended(1, LOSSES_MAX - 1, "FAILED", "WORKER_LOST", -1)


def failed_more_often_than_it_may(told: Told) -> None:
    told.job(1, "fails", retries=0)
    for attempt, task_state in ((1, "PENDING"), (2, "FAILED")):
        told.assigned(1, attempt)
        told.ran(1, attempt, exit_code=3)
        told.now += 2
        told.ended(1, attempt, "FAILED", exit_code=3, task_state=task_state)


def other_number_of_tasks(told: Told) -> None:
    told.sent(1, tasks=2)
    told.submitted(1)
    told.accepted(1)
    told.assigned(1)
    told.ran(1)
    told.ended(1)


def started_before_what_it_waits_for_had_ended(told: Told) -> None:
    told.job(1)
    told.job(2, after=AFTER_OK)
    told.assigned(2)
    told.assigned(1)
    told.ran(1)
    told.now += 2
    told.ran(2)
    told.ended(1)
    told.ended(2)


def started_beside_what_its_worker_said_was_lost(told: Told) -> None:
    told.job(1)
    told.assigned(1)
    told.ran(1, seconds=10, exit_code=None)
    told.user("cancel", job_id=1)
    told.log("CancelRequested", job_id=1, indexes=[])
    told.now += 5
    told.ended(1, 1, "LOST", "WORKER_LOST", -1, "CANCELLED")
    told.whole(2, after=[{**AFTER_OK[0], "condition": "ANY"}])


def started_for_real_before_what_it_waits_for(told: Told) -> None:
    told.whole(1)
    told.evidence.executions[-1].last += 5
    told.whole(2, after=AFTER_OK)


def server_that_died(told: Told) -> None:
    told.evidence.trouble.append("manager ended by itself with exit code 1")


VIOLATIONS: list[tuple[str, Callable[[Told], None]]] = [
    ("lost", acknowledged_and_not_in_the_log),
    ("lost", acknowledged_cancel_not_in_the_log),
    ("lost", acknowledged_and_then_unknown),
    ("doubled", request_made_two_jobs),
    ("doubled", repeated_submit_got_another_answer),
    ("doubled", job_that_nobody_asked_for),
    ("doubled", job_without_a_request),
    ("doubled", task_ended_twice),
    ("doubled", task_assigned_again_after_its_end),
    ("doubled", second_attempt_while_the_first_is_under_way),
    ("doubled", attempt_that_ran_twice),
    ("doubled", recalled_attempt_that_ran),
    ("doubled", two_at_once_though_the_worker_itself_said_lost),
    ("doubled", retry_beside_the_one_that_failed),
    ("doubled", adopted_though_its_task_ended),
    ("stuck", task_that_waits_for_ever),
    ("stuck", task_that_runs_for_ever),
    ("stuck", worker_that_did_not_come_back),
    ("orphaned", process_that_is_still_there),
    ("orphaned", given_up_and_never_stopped),
    ("unaccounted", ran_without_an_attempt),
    ("unaccounted", ran_elsewhere_than_the_log_says),
    ("unaccounted", completed_and_never_ran),
    ("unaccounted", completed_and_never_came_to_its_end),
    ("unaccounted", completed_by_a_run_that_failed),
    ("wrong", failed_though_it_was_to_complete),
    ("wrong", completed_though_it_has_no_end),
    ("wrong", cancelled_and_nobody_asked),
    ("wrong", given_up_after_too_few_losses),
    ("wrong", lost_five_times_by_name_and_four_in_truth),
    ("wrong", failed_more_often_than_it_may),
    ("wrong", other_number_of_tasks),
    ("wrong", started_before_what_it_waits_for_had_ended),
    ("wrong", started_for_real_before_what_it_waits_for),
    ("wrong", started_beside_what_its_worker_said_was_lost),
    ("wrong", server_that_died),
]


@pytest.mark.parametrize(
    ("kind", "happen"), VIOLATIONS, ids=[happen.__name__ for _, happen in VIOLATIONS]
)
def test_the_judge_finds(kind: str, happen: Callable[[Told], None]) -> None:
    told = Told()
    # What is well beside it stays so.
    told.whole(9)
    happen(told)
    assert set(told.kinds()) == {kind}


def test_there_is_a_case_for_each_kind() -> None:
    assert {kind for kind, _ in VIOLATIONS} == set(KINDS)


def test_the_story_of_a_job_has_all_three_witnesses_in_order() -> None:
    told = Told()
    told.whole(1)
    told.whole(2)
    story = [line.split(" ", 1)[1] for line in tell_story(1, told.evidence)]
    kinds = [line.split()[0].rstrip(":") for line in story]
    assert kinds.count("user") == 2
    assert kinds.count("run") == 2
    assert [line for line in story if "'job_id': 2" in line] == []
    assert "AttemptEnded" in story[-1]


def test_what_tasks_write_is_read(tmp_path: Path) -> None:
    file = tmp_path / "w1"
    file.write_text(
        "start 1 0 1 w1 77 10.25 -\nalive 1 0 1 w1 77 10.75 -\n"
        "start 2 3 1 w1 78 10.80 -\nend 1 0 1 w1 77 10.90 3\n"
    )
    first, second = read_executions([file])
    assert (first.key, first.start, first.last, first.exit_code) == ((1, 0, 1), 10.25, 10.9, 3)
    assert (second.key, second.last, second.exit_code) == ((2, 3, 1), 10.8, None)


@pytest.mark.parametrize(
    "text", ["start 1 0 1 w1 77\n", "alive 1 0 1 w1 77 10.25 -\n", "start 1 0 1 w1 7 1 -\n" * 2]
)
def test_what_no_task_writes_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "w1"
    file.write_text(text)
    with pytest.raises(EvidenceError, match="w1"):
        read_executions([file])


def test_the_judge_shares_no_code_with_titan() -> None:
    program = "import sys, tools.chaos.judge; print([m for m in sys.modules if 'titan' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
