"""How the task host cancels, recalls and suspends."""

from __future__ import annotations

from tests.worker.books import OK, cancel, emitted, recall, ring, running, spawned, wish
from tests.worker.builders import batch, key, launch
from titan.model import HeldState, Reason, ReportKind, State, Stop, StopMode
from titan.worker.host.actions import Emit, Journal, Purpose, Resume, Signal, StartTimer, Suspend
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.messages import Exit
from titan.worker.signals import SIGKILL, SIGTERM

# Stops ------------------------------------------------------------------------------------------


def test_cancelling_what_waits_drops_it() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1], slots=1))
    (report,) = emitted(book.stop(cancel(1), 2_000))
    assert (report.kind, report.key) == (ReportKind.ENDED, key(index=1))
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert report.start_us == 0
    assert spawned(book.exited(key(), OK, 2_000)) == []


def test_cancelling_what_runs_asks_first_and_kills_after_the_grace() -> None:
    book = running()
    assert book.stop(cancel(), 2_000) == [
        StartTimer(key(), 500, Purpose.GRACE),
        Signal(key(), SIGTERM),
    ]
    assert book.is_stopping(key())
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert (report.signal, report.detail) == (9, "killed by SIGKILL (signal 9)")


def test_cancelling_without_grace_kills_at_once() -> None:
    assert running().stop(cancel(grace_ms=0), 2_000) == [Signal(key(), SIGKILL)]


def test_cancelling_again_only_may_shorten_the_grace() -> None:
    book = running()
    book.stop(cancel(), 2_000)
    assert book.stop(cancel(grace_ms=100), 2_000) == [StartTimer(key(), 100, Purpose.GRACE)]
    assert book.stop(cancel(grace_ms=0), 2_000) == [Signal(key(), SIGKILL)]
    assert book.stop(cancel(), 2_000) == []
    assert ring(book, Purpose.GRACE) == []


def test_cancelling_with_another_signal_sends_that_and_the_first_grace_counts() -> None:
    book = running()
    interrupt = [Stop(key(), StopMode.CANCEL, 500, 2)]
    assert book.stop(interrupt, 2_000) == [
        StartTimer(key(), 500, Purpose.GRACE),
        Signal(key(), 2),
    ]
    # The manager repeats what it is not sure of.
    assert book.stop(interrupt, 2_000) == [StartTimer(key(), 500, Purpose.GRACE)]
    assert book.stop(cancel(), 2_000)[1:] == [Signal(key(), SIGTERM)]
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    assert book.stop(interrupt, 2_000) == []


def test_cancelling_with_sigkill_waits_for_nothing() -> None:
    kill = [Stop(key(), StopMode.CANCEL, 500, SIGKILL)]
    assert running().stop(kill, 2_000) == [Signal(key(), SIGKILL)]


def test_cancelling_between_spawn_and_its_answer_takes_effect_then() -> None:
    book = Bookkeeping()
    book.start(batch(launch()))
    book.stop(cancel(), 2_000)
    assert Signal(key(), SIGTERM) in book.started(key(), 100, 7, 3_000)


def test_a_grace_that_ends_after_the_attempt_does_nothing() -> None:
    book = running()
    book.stop(cancel(), 2_000)
    book.exited(key(), Exit(None, 15), 2_500)
    assert ring(book, Purpose.GRACE) == []


def test_cancelling_what_is_not_known_says_that_it_never_started() -> None:
    (report,) = emitted(Bookkeeping().stop(cancel(), 2_000))
    assert (report.state, report.detail) == (State.CANCELLED, "never started here")


def test_stopping_what_has_ended_unacknowledged_does_nothing() -> None:
    book = running()
    book.exited(key(), OK, 2_000)
    assert book.stop([*cancel(), *recall()], 3_000) == []


def test_recalling_what_waits_or_is_unknown_is_answered_and_what_runs_is_let_be() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1], slots=1))
    reports = emitted(book.stop([*recall(0), *recall(1), *recall(2)], 2_000))
    assert [(report.kind, report.key.index) for report in reports] == [
        (ReportKind.RECALLED, 1),
        (ReportKind.RECALLED, 2),
    ]
    assert [held.key.index for held in book.live()] == [0]


def test_a_recalled_attempt_is_not_started_by_a_start_that_comes_late() -> None:
    book = Bookkeeping()
    book.stop(recall(), 2_000)
    assert book.start(batch(launch())) == []


# Suspended --------------------------------------------------------------------------------------


def test_what_runs_is_suspended_and_goes_on_once_for_each_wish() -> None:
    book = running()
    assert book.stop(wish(StopMode.RESUME), 2_000) == []
    assert book.stop(wish(StopMode.SUSPEND), 2_000) == [Suspend(key())]
    assert book.stop(wish(StopMode.SUSPEND), 2_000) == []
    assert [held.state for held in book.live()] == [HeldState.RUNNING]
    assert book.stop(wish(StopMode.RESUME), 2_000) == [Resume(key())]
    assert book.stop(wish(StopMode.RESUME), 2_000) == []


def test_suspending_between_spawn_and_its_answer_takes_effect_then() -> None:
    book = Bookkeeping()
    book.start(batch(launch(time_limit_ms=9_000)))
    assert book.stop(wish(StopMode.SUSPEND), 2_000) == []
    assert book.started(key(), 100, 7, 3_000)[2:] == [
        StartTimer(key(), 9_000, Purpose.LIMIT),
        Suspend(key()),
    ]


def test_what_is_resumed_before_it_has_a_process_is_never_stopped() -> None:
    book = Bookkeeping()
    book.start(batch(launch()))
    assert book.stop([*wish(StopMode.SUSPEND), *wish(StopMode.RESUME)], 2_000) == []
    assert [type(each) for each in book.started(key(), 100, 7, 3_000)] == [Journal, Emit]


def test_suspending_what_waits_recalls_it_and_resuming_lets_it_wait() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1, 2], slots=1))
    assert book.stop(wish(StopMode.RESUME, 1), 2_000) == []
    (report,) = emitted(book.stop(wish(StopMode.SUSPEND, 1), 2_000))
    assert (report.kind, report.key) == (ReportKind.RECALLED, key(index=1))
    assert [held.key.index for held in book.live()] == [0, 2]


def test_suspending_and_resuming_what_has_ended_or_is_not_known_is_passed_over() -> None:
    book = running()
    book.exited(key(), OK, 3_000)
    for mode in (StopMode.SUSPEND, StopMode.RESUME):
        assert book.stop([*wish(mode), *wish(mode, 9)], 2_000) == []
    assert spawned(book.start(batch(launch(), indexes=[9]))) == [9]


def test_what_is_suspended_keeps_its_slot() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1], slots=1))
    assert spawned(book.stop(wish(StopMode.SUSPEND), 2_000)) == []
    assert spawned(book.exited(key(), Exit(None, 9), 3_000)) == [1]


def test_cancelling_what_is_suspended_lets_it_go_on_with_the_signal_before_it() -> None:
    book = running()
    book.stop(wish(StopMode.SUSPEND), 2_000)
    assert book.stop(cancel(), 2_000) == [
        StartTimer(key(), 500, Purpose.GRACE),
        Signal(key(), SIGTERM),
        Resume(key()),
    ]
    # It is to end: nothing may hold it up.
    assert book.stop(wish(StopMode.SUSPEND), 2_000) == []
    assert ring(book, Purpose.GRACE) == [Signal(key(), SIGKILL)]
    (report,) = emitted(book.exited(key(), Exit(None, 9), 3_000))
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)


def test_cancelling_what_is_suspended_before_it_has_a_process_does_not_stop_it() -> None:
    book = Bookkeeping()
    book.start(batch(launch()))
    book.stop([*wish(StopMode.SUSPEND), *cancel()], 2_000)
    assert book.started(key(), 100, 7, 3_000)[2:] == [Signal(key(), SIGTERM)]


def test_leaving_lets_what_is_suspended_go_on_so_that_it_can_end() -> None:
    book = running()
    book.stop(wish(StopMode.SUSPEND), 2_000)
    assert book.leave(500)[1:] == [Signal(key(), SIGTERM), Resume(key())]
