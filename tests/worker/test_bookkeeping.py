"""What the task host decides."""

from __future__ import annotations

from tests.worker.books import OK, cancel, emitted, running, spawned
from tests.worker.builders import batch, key, launch
from titan.model import HeldAttempt, HeldState, Reason, ReportKind, State
from titan.worker.host.actions import Emit, Journal, Left, Purpose, Signal, Spawn, StartTimer
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
from titan.worker.messages import Exit, Report
from titan.worker.signals import SIGKILL, SIGTERM


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


def test_what_the_kernel_killed_something_of_ran_out_of_memory_even_if_it_exits_with_0() -> None:
    (report,) = emitted(running().exited(key(), Exit(0, None, oom="over 16M"), 3_000))
    assert (report.state, report.reason) == (State.FAILED, Reason.OOM)
    assert report.detail == "over 16M"


def test_a_note_explains_a_failure_and_nothing_else() -> None:
    (report,) = emitted(running().exited(key(), Exit(2, None, note="no more processes"), 3_000))
    assert report.detail == "exit code 2; no more processes"
    (report,) = emitted(running().exited(key(), Exit(0, None, note="no more processes"), 3_000))
    assert (report.state, report.detail) == (State.COMPLETED, "")
