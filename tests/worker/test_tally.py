"""What an agent counts of what its host reports."""

from __future__ import annotations

from titan.model import AttemptKey, HeldAttempt, HeldState, Reason, ReportKind, State
from titan.worker.agent.tally import Tally
from titan.worker.messages import Report

FIRST, SECOND, THIRD = (AttemptKey(1, 1, index, 1) for index in range(3))


def ended(seq: int, key: AttemptKey, state: State, start_us: int = 1_000_000) -> Report:
    """It ran for two seconds, if it ran."""
    return Report(
        seq, ReportKind.ENDED, key, state, Reason.EXIT, start_us=start_us, end_us=3_000_000
    )


def test_an_attempt_has_started_once_whether_its_start_was_told_or_its_end_alone() -> None:
    tally = Tally()
    held = {
        FIRST: HeldAttempt(FIRST, HeldState.QUEUED, 0),
        THIRD: HeldAttempt(THIRD, HeldState.QUEUED, 0),
    }
    tally.note_reports([Report(1, ReportKind.STARTED, FIRST, start_us=1_000_000)], held.get)
    held[FIRST] = HeldAttempt(FIRST, HeldState.RUNNING, 1_000_000)
    tally.note_reports([ended(2, FIRST, State.COMPLETED)], held.get)
    tally.note_reports(
        [
            Report(3, ReportKind.STARTED, SECOND, start_us=1_000_000),
            ended(4, SECOND, State.COMPLETED),
            ended(5, THIRD, State.FAILED),
        ],
        held.get,
    )
    assert tally.starts == 3
    assert {(state, reason): count for state, reason, count in tally.ends} == {
        (State.COMPLETED, Reason.EXIT): 2,
        (State.FAILED, Reason.EXIT): 1,
    }
    assert tally.run_seconds.read().total == 6.0


def test_what_never_ran_has_ended_and_not_started() -> None:
    tally = Tally()
    tally.note_reports(
        [ended(1, FIRST, State.CANCELLED, start_us=0), Report(2, ReportKind.RECALLED, SECOND)],
        lambda _: None,
    )
    assert tally.starts == sum(tally.run_seconds.read().counts) == 0
    assert [state for state, *_ in tally.ends] == [State.CANCELLED, State.RECALLED]


def test_a_report_that_is_told_again_counts_once_and_what_was_before_the_agent_never() -> None:
    tally = Tally()
    before, meanwhile, after = (
        ended(seq, key, State.COMPLETED) for seq, key in enumerate((FIRST, SECOND, THIRD), 1)
    )
    tally.note_host([before], 1, lambda _: None)
    # It had gathered that one when the agent came.
    tally.note_reports([before], lambda _: None)
    assert tally.starts == 0
    tally.note_reports([meanwhile], lambda _: None)
    # The next host has not heard that it was taken, and one ended while there was no link.
    tally.note_host([meanwhile, after], 3, lambda _: None)
    tally.note_reports([meanwhile, after], lambda _: None)
    assert tally.starts == sum(count for *_, count in tally.ends) == 2


def test_calls_that_fail_are_counted_by_what_that_means() -> None:
    tally = Tally()
    for failure in ("unreachable", "refused", "unreachable"):
        tally.note_failure(failure)
    assert tally.failures == {"unreachable": 2, "refused": 1}
