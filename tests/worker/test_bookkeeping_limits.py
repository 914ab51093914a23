"""What the task host does when a limit is reached, of time or another."""

from __future__ import annotations

from tests.worker.books import OK, cancel, emitted, ring, running, spawned, wish
from tests.worker.builders import batch, key, launch
from titan.model import Reason, State, StopMode
from titan.worker.host.actions import DropLimit, Emit, Journal, Left, Purpose, Signal, StartTimer
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.records import ForgottenRecord
from titan.worker.host.verdict import Doom
from titan.worker.messages import Exit
from titan.worker.signals import SIGKILL, SIGTERM

# Time limits ------------------------------------------------------------------------------------


def test_a_time_limit_counts_from_the_start_of_the_process() -> None:
    book = Bookkeeping()
    book.start(batch(launch(time_limit_ms=9_000, end_signal=10, end_signal_before_ms=2_000)))
    assert book.started(key(), 100, 7, 1_000)[2:] == [
        StartTimer(key(), 7_000, Purpose.WARNING),
        StartTimer(key(), 9_000, Purpose.LIMIT),
    ]


def test_without_a_time_limit_there_is_no_timer() -> None:
    book = Bookkeeping()
    book.start(batch(launch(grace_ms=10_000)))
    assert [type(each) for each in book.started(key(), 100, 7, 1_000)] == [Journal, Emit]


def test_what_runs_into_its_limit_is_asked_to_end_killed_after_the_grace_and_has_timed_out() -> (
    None
):
    book = running(time_limit_ms=5_400_000, grace_ms=700)
    assert ring(book, Purpose.LIMIT) == [
        StartTimer(key(), 700, Purpose.GRACE),
        Signal(key(), SIGTERM),
    ]
    assert book.is_stopping(key())
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)
    assert (report.signal, report.detail) == (9, "ran into its time limit of 1h30m")


def test_it_has_timed_out_however_it_exits() -> None:
    for how in (OK, Exit(3, None), Exit(None, 15)):
        book = running(time_limit_ms=250, grace_ms=700)
        ring(book, Purpose.LIMIT)
        (report,) = emitted(book.exited(key(), how, 3_000))
        assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)
        assert (report.exit_code, report.signal) == how[:2]
        assert report.detail == "ran into its time limit of 0.25s"


def test_without_a_grace_a_limit_kills_at_once() -> None:
    book = running(time_limit_ms=1)
    assert ring(book, Purpose.LIMIT) == [Signal(key(), SIGKILL)]


def test_a_limit_that_comes_after_the_end_changes_nothing() -> None:
    book = running(time_limit_ms=100, end_signal=10, end_signal_before_ms=50)
    (report,) = emitted(book.exited(key(), OK, 2_000))
    assert report.state is State.COMPLETED
    assert ring(book, Purpose.WARNING) == []
    assert ring(book, Purpose.LIMIT) == []
    assert list(book.reports)[1:] == [report]


def test_what_was_cancelled_before_its_limit_ends_cancelled_and_no_later_than_by_the_limit() -> (
    None
):
    book = running(time_limit_ms=100, grace_ms=50)
    book.stop(cancel(grace_ms=10_000), 2_000)
    assert ring(book, Purpose.LIMIT) == [StartTimer(key(), 50, Purpose.GRACE)]
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert report.detail == "killed by SIGKILL (signal 9)"


def test_what_is_cancelled_after_its_limit_has_timed_out_all_the_same() -> None:
    book = running(time_limit_ms=100, grace_ms=5_000)
    ring(book, Purpose.LIMIT)
    assert book.stop(cancel(grace_ms=0), 2_000) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)


def test_the_signal_before_the_end_is_sent_and_is_no_end() -> None:
    book = running(time_limit_ms=100, end_signal=10, end_signal_before_ms=50)
    assert ring(book, Purpose.WARNING) == [Signal(key(), 10)]
    assert not book.is_stopping(key())
    (report,) = emitted(book.exited(key(), Exit(None, 10), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.SIGNAL)


def test_what_was_told_to_end_is_not_warned_of_the_end() -> None:
    book = running(time_limit_ms=100, end_signal=10, end_signal_before_ms=50)
    book.stop(cancel(), 2_000)
    assert ring(book, Purpose.WARNING) == []


def test_a_limit_while_leaving_is_handed_back_as_everything_else() -> None:
    book = running(time_limit_ms=100, grace_ms=5)
    book.leave(500)
    assert ring(book, Purpose.LIMIT) == [StartTimer(key(), 5, Purpose.GRACE)]
    assert book.exited(key(), Exit(None, 9), 3_000) == [Journal(ForgottenRecord(key())), Left()]


# Other time limits ------------------------------------------------------------------------------


def test_another_limit_takes_the_place_of_the_first_and_so_does_the_signal_before_it() -> None:
    book = running(time_limit_ms=9_000, grace_ms=700, end_signal=10, end_signal_before_ms=2_000)
    assert book.stop(wish(StopMode.LIMIT, time_limit_ms=5_000), 2_000) == [
        StartTimer(key(), 3_000, Purpose.WARNING),
        StartTimer(key(), 5_000, Purpose.LIMIT),
    ]
    # Those of the first may be over before the new ones are started.
    assert ring(book, Purpose.WARNING, 7_000) == []
    assert ring(book, Purpose.LIMIT, 9_000) == []
    assert ring(book, Purpose.WARNING, 3_000) == [Signal(key(), 10)]
    assert ring(book, Purpose.LIMIT, 5_000) == [
        StartTimer(key(), 700, Purpose.GRACE),
        Signal(key(), SIGTERM),
    ]
    (report,) = emitted(book.exited(key(), OK, 9_000))
    assert (report.reason, report.detail) == (Reason.TIMEOUT, "ran into its time limit of 5s")


def test_the_same_limit_again_changes_nothing() -> None:
    book = running(time_limit_ms=9_000)
    assert book.stop(wish(StopMode.LIMIT, time_limit_ms=9_000), 2_000) == []
    book.stop(wish(StopMode.LIMIT, time_limit_ms=5_000), 2_000)
    assert book.stop(wish(StopMode.LIMIT, time_limit_ms=5_000), 2_000) == []


def test_a_limit_that_is_taken_away_is_never_over() -> None:
    book = running(time_limit_ms=9_000)
    assert book.stop(wish(StopMode.LIMIT), 2_000) == [DropLimit(key())]
    assert book.stop(wish(StopMode.LIMIT), 2_000) == []
    assert ring(book, Purpose.LIMIT, 9_000) == []
    assert not book.is_stopping(key())


def test_what_had_no_limit_can_get_one() -> None:
    assert running().stop(wish(StopMode.LIMIT, time_limit_ms=5_000), 2_000) == [
        StartTimer(key(), 5_000, Purpose.LIMIT)
    ]


def test_another_limit_of_what_waits_or_is_being_spawned_counts_from_its_start() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1], slots=1))
    assert book.stop(wish(StopMode.LIMIT, 1, time_limit_ms=5_000), 2_000) == []
    book.exited(key(), OK, 3_000)
    assert book.stop(wish(StopMode.LIMIT, 1, time_limit_ms=6_000), 3_000) == []
    actions = book.started(key(index=1), 101, 7, 4_000)
    assert actions[2:] == [StartTimer(key(index=1), 6_000, Purpose.LIMIT)]


def test_another_limit_of_what_has_ended_or_is_not_known_is_passed_over() -> None:
    book = running()
    book.exited(key(), OK, 3_000)
    limits = [wish(StopMode.LIMIT, index, time_limit_ms=5)[0] for index in (0, 9)]
    assert book.stop(limits, 2_000) == []
    assert spawned(book.start(batch(launch(), indexes=[9]))) == [9]


def test_a_longer_limit_does_not_save_what_has_timed_out() -> None:
    book = running(time_limit_ms=9_000, grace_ms=700)
    ring(book, Purpose.LIMIT)
    book.stop(wish(StopMode.LIMIT, time_limit_ms=90_000), 2_000)
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 9_000))
    assert (report.reason, report.detail) == (Reason.TIMEOUT, "ran into its time limit of 9s")


def test_what_broke_a_limit_while_suspended_is_killed() -> None:
    book = running()
    book.stop(wish(StopMode.SUSPEND), 2_000)
    assert book.condemn(key(), Doom(Reason.OOM, "too much"))[0] == Signal(key(), SIGKILL)


def test_a_limit_that_was_due_when_it_was_about_to_stand_still_is_over_when_it_goes_on() -> None:
    book = running(time_limit_ms=100, end_signal=10, end_signal_before_ms=50)
    book.stop(wish(StopMode.SUSPEND), 2_000)
    warning = StartTimer(key(), 50, Purpose.WARNING)
    assert book.timer_over(warning) == [warning]
    limit = StartTimer(key(), 100, Purpose.LIMIT)
    assert book.timer_over(limit) == [limit]
    book.stop(wish(StopMode.RESUME), 2_000)
    assert book.timer_over(warning) == [Signal(key(), 10)]
    assert book.timer_over(limit) == [Signal(key(), SIGKILL)]


def test_what_broke_a_limit_is_killed_at_once_and_failed_for_it_however_it_exits() -> None:
    for how in (OK, Exit(3, None), Exit(None, 9)):
        book = running()
        assert book.condemn(key(), Doom(Reason.OOM, "too much")) == [Signal(key(), SIGKILL)]
        assert book.condemn(key(), Doom(Reason.OUTPUT_LIMIT, "later")) == []
        (report,) = emitted(book.exited(key(), how, 3_000))
        assert (report.state, report.reason) == (State.FAILED, Reason.OOM)
        assert (report.exit_code, report.signal) == (how.exit_code, how.signal)
        assert report.detail == "too much"


def test_what_broke_a_limit_after_it_was_cancelled_is_cancelled_and_killed() -> None:
    book = running()
    book.stop(cancel(grace_ms=10_000), 2_000)
    assert book.condemn(key(), Doom(Reason.OOM, "too much")) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9, oom="told by the kernel"), 3_000))
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)


def test_what_broke_a_limit_and_is_cancelled_then_has_failed() -> None:
    book = running()
    book.condemn(key(), Doom(Reason.OUTPUT_LIMIT, "too much"))
    assert book.stop(cancel(grace_ms=10_000), 2_000) == []
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.OUTPUT_LIMIT)


def test_what_is_not_here_cannot_break_a_limit() -> None:
    assert Bookkeeping().condemn(key(), Doom(Reason.OOM, "too much")) == []
