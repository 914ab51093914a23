"""What the task host decides."""

from __future__ import annotations

from typing import Any

from tests.worker.builders import batch, key, launch
from titan.model import HeldAttempt, HeldState, Reason, ReportKind, State, Stop, StopMode
from titan.worker.host.actions import (
    Action,
    DropLimit,
    Emit,
    Journal,
    Left,
    Purpose,
    Resume,
    Signal,
    Spawn,
    StartTimer,
    Suspend,
)
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.host.records import (
    AcknowledgedRecord,
    ClusterRecord,
    EndRecord,
    ForgottenRecord,
    IntentRecord,
    ProcessRecord,
    recover,
)
from titan.worker.host.verdict import Doom
from titan.worker.messages import DeviceIds, Exit, Report
from titan.worker.signals import SIGKILL, SIGTERM

OK = Exit(0, None)


def spawned(actions: list[Action]) -> list[int]:
    """The indexes of the attempts that are to be spawned."""
    return [action.key.index for action in actions if isinstance(action, Spawn)]


def emitted(actions: list[Action]) -> list[Report]:
    return [action.report for action in actions if isinstance(action, Emit)]


def running(count: int = 1, slots: int = 1_000, **limit: Any) -> Bookkeeping:
    """A host on which indexes 0 … count-1 of job 1 run as processes 100, 101, …"""
    book = Bookkeeping()
    book.start(batch(launch(**limit), indexes=range(count), slots=slots))
    for index in range(count):
        book.started(key(index=index), 100 + index, 7, 1_000)
    return book


def ring(book: Bookkeeping, purpose: Purpose, after_ms: int | None = None) -> list[Action]:
    """That timer of index 0 is over; by default as it was launched."""
    attempt = book.find(key())
    if after_ms is None and attempt is not None:
        shared = attempt.launch
        after_ms = {
            Purpose.GRACE: shared.grace_ms,
            Purpose.LIMIT: shared.time_limit_ms,
            Purpose.WARNING: shared.time_limit_ms - shared.end_signal_before_ms,
        }[purpose]
    return book.timer_over(StartTimer(key(), after_ms or 0, purpose))


def wish(mode: StopMode, index: int = 0, time_limit_ms: int = 0) -> list[Stop]:
    return [Stop(key(index=index), mode, 0, time_limit_ms=time_limit_ms)]


def cancel(index: int = 0, grace_ms: int = 500) -> list[Stop]:
    return [Stop(key(index=index), StopMode.CANCEL, grace_ms)]


def recall(index: int = 0) -> list[Stop]:
    return [Stop(key(index=index), StopMode.RECALL, 0)]


def test_a_start_is_written_down_before_it_is_spawned() -> None:
    book = Bookkeeping()
    todo = batch(launch())
    assert book.start(todo) == [
        Journal(IntentRecord(key())),
        Spawn(key(), todo.launches[0], todo.environments[0]),
    ]
    assert list(book.live()) == [HeldAttempt(key(), HeldState.QUEUED, 0)]


def test_all_intents_of_a_batch_come_before_its_first_spawn() -> None:
    actions = Bookkeeping().start(batch(launch(), indexes=range(3)))
    assert [type(action) for action in actions] == [Journal] * 3 + [Spawn] * 3


def test_the_life_of_an_attempt_is_reported_in_numbered_steps() -> None:
    book = Bookkeeping()
    book.start(batch(launch()))
    started = Report(1, ReportKind.STARTED, key(), start_us=1_000)
    assert book.started(key(), 100, 7, 1_000) == [
        Journal(ProcessRecord(key(), 100, 7)),
        Emit(started),
    ]
    assert list(book.live()) == [HeldAttempt(key(), HeldState.RUNNING, 1_000)]
    ended = Report(
        *(2, ReportKind.ENDED, key(), State.COMPLETED, Reason.EXIT, 0, None),
        *(1_000, 3_000, 10, 20, 4096, ""),
    )
    assert book.exited(key(), Exit(0, None, 10, 20, 4096), 3_000) == [
        Journal(EndRecord(ended)),
        Emit(ended),
    ]
    assert list(book.live()) == []
    assert list(book.reports) == [started, ended]
    assert not book.is_idle
    assert book.acknowledge(2) == [Journal(AcknowledgedRecord(2))]
    assert book.is_idle


def test_an_end_says_what_the_process_said() -> None:
    for how, state, reason, detail in [
        (Exit(0, None), State.COMPLETED, Reason.EXIT, ""),
        (Exit(3, None), State.FAILED, Reason.EXIT, "exit code 3"),
        (Exit(None, 11), State.FAILED, Reason.SIGNAL, "killed by SIGSEGV (signal 11)"),
        (Exit(None, 40), State.FAILED, Reason.SIGNAL, "killed by signal 40"),
    ]:
        (report,) = emitted(running().exited(key(), how, 2_000))
        assert (report.state, report.reason, report.detail) == (state, reason, detail)
        assert (report.exit_code, report.signal) == how[:2]


def test_an_attempt_never_ends_before_it_started_even_if_the_clock_was_set_back() -> None:
    (report,) = emitted(running().exited(key(), OK, 500))
    assert (report.start_us, report.end_us) == (1_000, 1_000)


def test_what_could_not_be_launched_has_failed_without_a_start() -> None:
    book = Bookkeeping()
    book.start(batch(launch()))
    (report,) = emitted(book.not_launched(key(), "no such program", 2_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert (report.start_us, report.end_us, report.detail) == (0, 2_000, "no such program")


# Slots ------------------------------------------------------------------------------------------


def test_more_than_the_slots_wait_and_start_in_order_as_others_end() -> None:
    book = Bookkeeping()
    assert spawned(book.start(batch(launch(), indexes=range(4), slots=2))) == [0, 1]
    for index in (0, 1):
        book.started(key(index=index), 100 + index, 7, 1_000)
    assert spawned(book.exited(key(index=1), OK, 2_000)) == [2]
    book.started(key(index=2), 102, 7, 2_000)
    assert spawned(book.exited(key(index=0), OK, 2_000)) == [3]
    book.started(key(index=3), 103, 7, 2_000)
    assert spawned(book.exited(key(index=2), OK, 2_000)) == []


def test_a_later_batch_raises_and_lowers_how_many_may_run() -> None:
    book = Bookkeeping()
    assert spawned(book.start(batch(launch(), indexes=range(4), slots=1))) == [0]
    assert spawned(book.start(batch(launch(), indexes=[4], slots=3))) == [1, 2]
    for index in range(3):
        book.started(key(index=index), 100 + index, 7, 1_000)
    assert spawned(book.start(batch(launch(), indexes=[5], slots=1))) == []
    assert spawned(book.exited(key(index=0), OK, 2_000)) == []
    assert spawned(book.exited(key(index=1), OK, 2_000)) == []
    assert spawned(book.exited(key(index=2), OK, 2_000)) == [3]


def test_slots_beyond_the_attempts_there_are_not_kept_for_later_ones() -> None:
    book = running(1, slots=5)
    # The manager would have said so, if a second one might run beside the first.
    assert spawned(book.start(batch(launch(), indexes=[1], slots=1))) == []


def test_the_slots_of_one_class_are_not_those_of_another() -> None:
    book = Bookkeeping()
    launches = (launch(job_id=1, class_id=1), launch(job_id=2, class_id=2))
    actions = book.start(batch(*launches, indexes=range(2), slots={1: 1, 2: 2}))
    assert [action.key for action in actions if isinstance(action, Spawn)] == [
        *(key(1, 0), key(2, 0), key(2, 1)),
    ]


def test_the_launch_error_of_one_lets_the_next_start() -> None:
    book = Bookkeeping()
    book.start(batch(launch(), indexes=range(2), slots=1))
    assert spawned(book.not_launched(key(), "no", 2_000)) == [1]


# Devices ----------------------------------------------------------------------------------------


def devices_of(actions: list[Action]) -> dict[int, DeviceIds]:
    """What the attempts that are to be spawned get, by their indexes."""
    return {each.key.index: each.devices for each in actions if isinstance(each, Spawn)}


def with_gpus(*ids: str) -> Bookkeeping:
    book = Bookkeeping()
    assert book.offer_devices((("gpu", ids),)) == []
    return book


ONE_GPU = (("gpu", 1),)


def test_a_start_says_which_devices_the_attempt_has_until_it_ends() -> None:
    book = with_gpus("0", "1")
    todo = batch(launch(named=ONE_GPU), indexes=range(3), slots=2)
    assert devices_of(book.start(todo)) == {0: (("gpu", ("0",)),), 1: (("gpu", ("1",)),)}
    book.started(key(index=1), 101, 7, 1_000)
    assert devices_of(book.exited(key(index=1), OK, 2_000)) == {2: (("gpu", ("1",)),)}
    assert devices_of(book.not_launched(key(), "no", 2_000)) == {}
    assert devices_of(book.start(batch(launch(named=ONE_GPU, job_id=2)))) == {0: (("gpu", ("0",)),)}


def test_who_asks_for_none_is_told_so() -> None:
    assert devices_of(with_gpus("0").start(batch(launch()))) == {0: (("gpu", ()),)}


def test_no_two_have_a_device_whatever_the_manager_allows_and_the_first_to_wait_gets_it() -> None:
    book = with_gpus("0")
    first, second = launch(named=ONE_GPU), launch(named=ONE_GPU, class_id=2, job_id=2)
    assert spawned(book.start(batch(first, indexes=range(3)))) == [0]
    assert spawned(book.start(batch(second, indexes=[7]))) == []
    assert [held.state for held in book.live()] == [HeldState.QUEUED] * 4
    # What needs none need not wait.
    other = launch(job_id=3, class_id=3)
    assert spawned(book.start(batch(other))) == [0]
    book.started(key(), 100, 7, 1_000)
    assert devices_of(book.exited(key(), OK, 2_000)) == {1: (("gpu", ("0",)),)}
    # The first class has waited for longer.
    assert spawned(book.not_launched(key(index=1), "no", 2_000)) == [2]
    assert spawned(book.not_launched(key(index=2), "no", 2_000)) == [7]


def test_who_waits_for_a_device_comes_before_those_of_the_class_that_had_it() -> None:
    book = with_gpus("0")
    first, second = launch(named=ONE_GPU), launch(named=ONE_GPU, class_id=2, job_id=2)
    assert spawned(book.start(batch(first, indexes=range(3), slots=1))) == [0]
    assert spawned(book.start(batch(second, indexes=[7]))) == []
    assert spawned(book.not_launched(key(), "no", 2_000)) == [7]
    assert spawned(book.not_launched(key(2, 7), "no", 2_000)) == [1]


def test_more_devices_let_those_start_that_wait_for_some() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(3)))
    assert devices_of(book.offer_devices((("gpu", ("5", "6")),))) == {
        1: (("gpu", ("5",)),),
        2: (("gpu", ("6",)),),
    }


def test_who_waits_for_a_device_can_be_cancelled_and_recalled() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(4)))
    reports = emitted(book.stop([*cancel(1), *recall(2), *wish(StopMode.SUSPEND, 3)], 2_000))
    assert [report.kind for report in reports] == [
        *(ReportKind.ENDED, ReportKind.RECALLED, ReportKind.RECALLED)
    ]
    book.check_invariants()
    assert spawned(book.not_launched(key(), "no", 2_000)) == []
    assert book.leave(0) == [Left()]


def test_what_is_suspended_keeps_its_devices() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(2)))
    book.started(key(), 100, 7, 1_000)
    assert spawned(book.stop(wish(StopMode.SUSPEND), 2_000)) == []
    assert spawned(book.exited(key(), Exit(None, 9), 2_000)) == [1]


# Repeats ----------------------------------------------------------------------------------------


def test_a_start_that_comes_again_is_ignored_while_it_waits_runs_or_is_unacknowledged() -> None:
    book = Bookkeeping()
    todo = batch(launch(), indexes=range(2), slots=1)
    book.start(todo)
    assert spawned(book.start(todo)) == []
    book.started(key(), 100, 7, 1_000)
    assert spawned(book.start(todo)) == []
    book.exited(key(), OK, 2_000)
    assert spawned(book.start(todo)) == []
    assert [held.key.index for held in book.live()] == [1]


def test_an_acknowledgement_that_comes_again_changes_nothing() -> None:
    book = running()
    book.acknowledge(1)
    assert book.acknowledge(1) == []


def test_an_acknowledgement_keeps_the_reports_after_it() -> None:
    book = running()
    book.exited(key(), OK, 2_000)
    book.acknowledge(1)
    assert [report.seq for report in book.reports] == [2]


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


# Leaving ----------------------------------------------------------------------------------------


def test_leaving_drops_what_waits_and_stops_what_runs_without_a_report() -> None:
    book = running(1, slots=1)
    book.start(batch(launch(), indexes=[1], slots=1))
    assert book.leave(500) == [StartTimer(key(), 500, Purpose.GRACE), Signal(key(), SIGTERM)]
    assert [held.key.index for held in book.live()] == [0]
    assert book.start(batch(launch(), indexes=[2])) == []
    assert book.stop(cancel(7), 2_000) == []
    assert book.exited(key(), Exit(None, 15), 3_000) == [Journal(ForgottenRecord(key())), Left()]


def test_leaving_with_nothing_is_done_at_once() -> None:
    assert Bookkeeping().leave(500) == [Left()]


def test_leaving_again_without_grace_kills() -> None:
    book = running()
    book.leave(500)
    assert book.leave(0) == [Signal(key(), SIGKILL)]


# The journal ------------------------------------------------------------------------------------


def test_a_journal_tells_what_ran_and_what_is_unacknowledged() -> None:
    book = Bookkeeping()
    records = [
        action.record
        for actions in (
            book.join(b"C"),
            book.start(batch(launch(), indexes=range(4))),
            *(book.started(key(index=index), 100 + index, 7, 1_000) for index in range(3)),
            book.exited(key(index=0), OK, 2_000),
            book.exited(key(index=1), OK, 2_000),
            book.acknowledge(4),
        )
        for action in actions
        if isinstance(action, Journal)
    ]
    recovered = recover(records)
    assert recovered.cluster_id == b"C"
    assert [report.key.index for report in recovered.ends] == [1]
    assert [(each.key.index, each.process) for each in recovered.unfinished] == [
        (2, ProcessRecord(key(index=2), 102, 7)),
        (3, None),
    ]
    assert records[recovered.unfinished[1].intent] == IntentRecord(key(index=3))
    fresh = recover(book.records())
    assert (fresh.cluster_id, fresh.ends) == (recovered.cluster_id, recovered.ends)
    assert [each[0] for each in fresh.unfinished] == [each[0] for each in recovered.unfinished]


def test_a_new_instance_reports_the_ends_of_the_old_one_as_its_first() -> None:
    old = running(2)
    old.acknowledge(2)
    old.exited(key(index=1), Exit(3, None), 2_000)
    book = Bookkeeping(recover(old.records()))
    (report,) = book.reports
    assert (report.seq, report.key.index, report.exit_code) == (1, 1, 3)
    assert list(book.live()) == []
    assert book.start(batch(launch(), indexes=[1])) == []


def test_the_cluster_is_written_down_once() -> None:
    book = Bookkeeping()
    assert book.join(b"C") == [Journal(ClusterRecord(b"C"))]
    assert book.join(b"C") == []


def test_an_end_may_wait_to_be_told_for_half_the_time_that_those_behind_it_take() -> None:
    book = Bookkeeping()
    book.start(batch(launch(), indexes=range(7), slots=2))
    waits = []
    for index in range(7):
        book.started(key(index=index), 100 + index, 7, 1_000)
        actions = book.exited(key(index=index), OK, 3_000)
        waits += [action.wait_us for action in actions if isinstance(action, Emit)]
    # 4, 3, 2, 1 and 0 wait behind the two that run, and then one runs alone.
    assert waits == [2_000, 1_000, 1_000, 0, 0, 0, 0]


def test_one_that_had_little_to_do_does_not_shorten_the_wait_of_the_others() -> None:
    book = Bookkeeping()
    book.start(batch(launch(), indexes=range(20), slots=1))
    waits = []
    for index, end_us in enumerate((9_000, 1_800, 9_000)):
        book.started(key(index=index), 100 + index, 7, 1_000)
        actions = book.exited(key(index=index), OK, end_us)
        waits += [action.wait_us for action in actions if isinstance(action, Emit)]
    # 18 wait behind one of 8 ms, 17 behind an average of 7.1 ms, 16 behind one of 7.2 ms.
    assert waits == [18 * 8_000 // 2, 17 * 7_100 // 2, 16 * 7_212 // 2]


def test_what_could_not_be_launched_is_told_at_once() -> None:
    book = Bookkeeping()
    book.start(batch(launch(), indexes=range(9), slots=2))
    emits = [each for each in book.not_launched(key(), "no", 5_000) if isinstance(each, Emit)]
    assert [each.wait_us for each in emits] == [0]


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


def test_what_the_kernel_killed_something_of_ran_out_of_memory_even_if_it_exits_with_0() -> None:
    (report,) = emitted(running().exited(key(), Exit(0, None, oom="over 16M"), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.OOM)
    assert report.detail == "over 16M"


def test_a_note_explains_a_failure_and_nothing_else() -> None:
    (report,) = emitted(running().exited(key(), Exit(2, None, note="no more processes"), 3_000))
    assert report.detail == "exit code 2; no more processes"
    (report,) = emitted(running().exited(key(), Exit(0, None, note="no more processes"), 3_000))
    assert (report.state, report.detail) == (State.COMPLETED, "")
