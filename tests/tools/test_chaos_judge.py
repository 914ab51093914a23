"""The judge of `make chaos` finds each kind of violation, and takes what is allowed for no one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.chaos.evidence import Evidence, EvidenceError, Execution, read_executions
from tools.chaos.judge import KINDS, LINGER_SECONDS, LOSSES_MAX, judge, tell_story, tell_verdict

BOOT = 1_000_000.0


class Told:
    """A run by hand: workers w1 and w2, and by default no job. The clock shows `now`."""

    def __init__(self) -> None:
        self.evidence = Evidence(boot_time=BOOT)
        self.events: list[dict[str, Any]] = []
        self.evidence.events = self.events
        self.lsn = 0
        self.now = 100.0
        for number in (1, 2):
            self.log("WorkerRegistered", worker=number, name=f"w{number}")

    def log(self, what: str, /, *, same_record: bool = False, **fields: Any) -> None:
        self.lsn += 0 if same_record else 1
        self.events.append({"lsn": self.lsn, "time": BOOT + self.now, "event": what, **fields})

    def user(self, what: str, **fields: Any) -> None:
        self.evidence.users.append({"what": what, "time": BOOT + self.now, **fields})

    def sent(self, job_id: int, kind: str = "short", tasks: int = 1, retries: int = 0) -> None:
        told = {"kind": kind, "tasks": tasks, "retries": retries}
        self.user("submit", request_id=f"r{job_id}", jobs=[told])

    def accepted(self, job_id: int) -> None:
        self.user("accepted", request_id=f"r{job_id}", job_ids=[job_id])

    def submitted(self, job_id: int, tasks: int = 1, after: Any = ()) -> None:
        array = [[0, tasks, 1]] if tasks > 1 else []
        scheduling = {"after": after} if after else {}
        self.log("JobSubmitted", job_id=job_id, array=array, scheduling=scheduling)
        self.log(
            "RequestAccepted",
            same_record=True,
            request_id=f"r{job_id}",
            first_job_id=job_id,
            jobs=1,
        )

    def job(self, job_id: int, kind: str = "short", tasks: int = 1, **options: Any) -> None:
        """Sent, accepted and in the log."""
        self.sent(job_id, kind, tasks, options.pop("retries", 0))
        self.submitted(job_id, tasks, **options)
        self.accepted(job_id)

    def assigned(self, job_id: int, attempt: int = 1, worker: int = 1, index: int = 0) -> None:
        self.log("TaskAssigned", job_id=job_id, index=index, attempt=attempt, worker=worker)

    def ended(
        self,
        job_id: int,
        attempt: int = 1,
        state: str = "COMPLETED",
        reason: str = "EXIT",
        exit_code: int = 0,
        task_state: str = "",
        index: int = 0,
    ) -> None:
        self.log(
            "AttemptEnded",
            job_id=job_id,
            index=index,
            attempt=attempt,
            state=state,
            reason=reason,
            exit_code=exit_code,
            task_state=task_state or state,
        )

    def lost(self, job_id: int, attempt: int = 1, *, worker: int | None = 1) -> None:
        """With its silent worker; None: by that one's own word."""
        self.ended(job_id, attempt, "LOST", "WORKER_LOST", -1, "PENDING")
        if worker is not None:
            self.log("WorkerLost", same_record=True, worker=worker)

    def ran(
        self,
        job_id: int,
        attempt: int = 1,
        worker: int = 1,
        seconds: float = 1.0,
        exit_code: int | None = 0,
        index: int = 0,
    ) -> Execution:
        """From now on, for so long; the clock goes on for whoever sets it."""
        run = Execution(
            key=(job_id, index, attempt),
            worker=f"w{worker}",
            pid=len(self.evidence.executions) + 1,
            start=self.now,
            last=self.now + seconds,
            exit_code=exit_code,
        )
        self.evidence.executions.append(run)
        return run

    def whole(self, job_id: int, kind: str = "short", **options: Any) -> None:
        """A job that was submitted, ran once and COMPLETED."""
        self.job(job_id, kind, **options)
        self.assigned(job_id)
        self.ran(job_id)
        self.now += 2
        self.ended(job_id)

    def kinds(self) -> list[str]:
        """Of what the judge finds."""
        return [each.kind for each in judge(self.evidence).violations]


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


AFTER_OK = [{"job_id": 1, "condition": "OK", "index": -1}]


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
