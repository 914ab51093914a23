"""The lease of what runs at most once: the bookkeeping of it, and a real host."""

from __future__ import annotations

import os
import signal

from tests.worker.books import cancel, emitted, spawned
from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import Reason, ReportKind, State
from titan.worker import processes, protocol
from titan.worker.host.actions import Action, Left, Signal, StartTimer
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.messages import Exit, StartBatch
from titan.worker.signals import SIGKILL

SECOND_US = 1_000_000
# On CLOCK_BOOTTIME; reports carry times of another clock.
UNTIL_US = 50 * SECOND_US
NOW_US = 7_000


def once(count: int = 1, slots: int = 1_000, class_id: int = 5, job_id: int = 1) -> StartBatch:
    """Tasks that are to run at most once."""
    shared = launch(job_id=job_id, class_id=class_id)._replace(at_most_once=True)
    return batch(shared, indexes=range(count), slots=slots)


def leased() -> Bookkeeping:
    """A host whose lease lasts for thirty seconds."""
    book = Bookkeeping()
    assert book.renew_lease(UNTIL_US, 20 * SECOND_US, NOW_US) == []
    return book


def running(count: int = 1, slots: int = 1_000) -> Bookkeeping:
    """The same, with so many tasks, of which as many run as there are slots."""
    book = leased()
    for index in spawned(book.start(once(count, slots), NOW_US)):
        book.started(key(index=index), 100 + index, 7, 1_000)
    return book


def killed(actions: list[Action]) -> list[int]:
    signals = [each for each in actions if isinstance(each, Signal)]
    assert all(each.signal == SIGKILL for each in signals)
    return [each.key.index for each in signals]


def recalled(actions: list[Action]) -> list[int]:
    reports = emitted(actions)
    assert all(each.end_us == NOW_US for each in reports)
    return [each.key.index for each in reports if each.kind is ReportKind.RECALLED]


def test_without_a_lease_nothing_starts_that_runs_at_most_once_and_it_is_handed_back() -> None:
    book = Bookkeeping()
    actions = book.start(once(2), NOW_US)
    assert (spawned(actions), recalled(actions)) == ([], [0, 1])
    assert list(book.live()) == []
    book.check_invariants()
    assert book.start(once(2), NOW_US) == [], "the same batch again"
    assert spawned(book.start(batch(launch(job_id=2)), NOW_US)) == [0], "others need none"


def test_at_the_end_of_the_lease_what_runs_is_killed_and_says_why() -> None:
    book = running()
    assert book.lease_due_us == UNTIL_US
    assert book.check_lease(UNTIL_US - 1, NOW_US) == []
    assert killed(book.check_lease(UNTIL_US, NOW_US)) == [0]
    assert not book.lease_due_us
    book.check_invariants()
    (report,) = emitted(book.exited(key(), Exit(None, SIGKILL), NOW_US))
    assert (report.state, report.reason) == (State.FAILED, Reason.WORKER_LOST)
    assert "the manager did not answer" in report.detail


def test_a_grace_that_is_under_way_is_over_with_the_lease() -> None:
    book = running()
    book.stop(cancel(grace_ms=600_000), NOW_US)
    assert killed(book.check_lease(UNTIL_US, NOW_US)) == [0]
    (report,) = emitted(book.exited(key(), Exit(None, SIGKILL), NOW_US))
    assert report.state is State.CANCELLED, "what came first counts"


def test_what_waits_is_handed_back_at_the_end_of_the_lease() -> None:
    book = running(3, slots=1)
    actions = book.check_lease(UNTIL_US, NOW_US)
    assert (killed(actions), recalled(actions)) == ([0], [1, 2])
    assert [each.key.index for each in book.live()] == [0]
    book.check_invariants()


def test_others_run_on_without_a_lease() -> None:
    book = running()
    book.start(batch(launch(job_id=2)), NOW_US)
    book.started(key(2), 200, 7, 1_000)
    assert [
        each.key for each in book.check_lease(UNTIL_US, NOW_US) if isinstance(each, Signal)
    ] == [key()]


def test_a_renewed_lease_lasts_longer_and_an_older_answer_does_not_shorten_it() -> None:
    book = running()
    assert book.renew_lease(UNTIL_US + SECOND_US, UNTIL_US - 1, NOW_US) == []
    assert book.renew_lease(UNTIL_US - SECOND_US, UNTIL_US - 1, NOW_US) == []
    assert book.lease_due_us == UNTIL_US + SECOND_US
    assert book.check_lease(UNTIL_US, NOW_US) == []


def test_a_host_that_stood_still_stops_what_ran_before_it_hears_of_a_new_lease() -> None:
    book = running(2, slots=1)
    actions = book.renew_lease(UNTIL_US + 60 * SECOND_US, UNTIL_US + 30 * SECOND_US, NOW_US)
    assert (killed(actions), recalled(actions)) == ([0], [1])
    assert spawned(book.start(once(job_id=3, class_id=6), NOW_US)) == [0], "what is new may run"


def test_an_answer_to_what_was_sent_too_long_ago_is_no_lease() -> None:
    book = Bookkeeping()
    book.renew_lease(UNTIL_US, UNTIL_US, NOW_US)
    assert recalled(book.start(once(), NOW_US)) == [0]


def test_what_was_about_to_be_spawned_when_the_lease_ended_is_handed_back() -> None:
    book = leased()
    assert spawned(book.start(once(), NOW_US)) == [0]
    assert book.may_begin(key())
    assert book.check_lease(UNTIL_US, NOW_US) == [], "there is no process to be killed"
    # Also with a new lease: the manager may have given it up meanwhile.
    book.renew_lease(UNTIL_US + 60 * SECOND_US, UNTIL_US + SECOND_US, NOW_US)
    assert not book.may_begin(key())
    assert recalled(book.not_leased(key(), NOW_US)) == [0]
    assert list(book.live()) == []
    book.check_invariants()


def test_what_was_cancelled_before_its_spawn_is_not_begun_to_be_killed() -> None:
    book = leased()
    book.start(once(), NOW_US)
    book.stop(cancel(), NOW_US)
    assert not book.may_begin(key())
    (report,) = emitted(book.not_leased(key(), NOW_US))
    assert (report.state, report.start_us) == (State.CANCELLED, 0)


def test_a_host_that_leaves_lets_nothing_run_beyond_its_lease() -> None:
    book = running()
    book.leave(600_000)
    assert killed(book.check_lease(UNTIL_US, NOW_US)) == [0]


def test_a_host_that_leaves_hands_back_what_never_began_before_it_says_so() -> None:
    book = running(3, slots=1)
    book.start(batch(launch(job_id=2, class_id=6), slots=0), NOW_US)
    actions = book.leave(500, NOW_US)
    assert recalled(actions) == [1, 2]
    assert [each.key.job_id for each in emitted(actions)] == [1, 1], "others are not told of"
    following = book.exited(key(), Exit(None, SIGKILL), NOW_US)
    assert (emitted(following), following[-1]) == ([], Left())
    book.check_invariants()
    alone = leased()
    alone.start(once(slots=0), NOW_US)
    *actions, last = alone.leave(500, NOW_US)
    assert (recalled(actions), last) == ([0], Left())


def test_what_was_about_to_be_spawned_when_its_host_left_is_handed_back() -> None:
    book = leased()
    assert spawned(book.start(once(), NOW_US)) == [0]
    assert [each for each in book.leave(500, NOW_US) if not isinstance(each, StartTimer)] == []
    assert not book.may_begin(key())
    *actions, last = book.not_leased(key(), NOW_US)
    assert (recalled(actions), last) == ([0], Left())


# A real host ------------------------------------------------------------------------------------


# For a host that does not stand still for so long to hear that the lease lasts longer.
LEASE_SECONDS = 8.0


def lease(host: HostDriver, seconds: float) -> int:
    """Until when it lasts."""
    until_us = processes.boottime_us() + int(seconds * 1e6)
    host.send(protocol.Lease(until_us))
    return until_us


def wait_output_leased(host: HostDriver) -> tuple[bytes, int]:
    """What job 1 writes, under a lease that is renewed till then; and until when it lasts."""
    until_us = lease(host, LEASE_SECONDS)

    def written() -> bytes:
        nonlocal until_us
        output = host.output(key())
        if output.endswith(b"\n"):
            return output
        until_us = lease(host, LEASE_SECONDS)
        return b""

    output = wait_for(written, "output")
    return output, until_us


def run_once(host: HostDriver, *command: str, job_id: int = 1) -> None:
    host.run_launch(launch(*command, job_id=job_id)._replace(at_most_once=True))


def test_a_host_without_an_agent_kills_the_whole_tree_at_the_end_of_the_lease(
    host: HostDriver,
) -> None:
    host.connect()
    lease(host, LEASE_SECONDS)
    run_once(host, "sh", "-c", "trap '' TERM; sleep 60 & echo $$ $!; wait")
    pids = [int(each) for each in wait_output_leased(host)[0].split()]
    host.run("sh", "-c", "echo $$; exec sleep 60", job_id=2)
    other = int(host.wait_output(key(2)))
    host.disconnect()
    wait_for(lambda: not any(map(is_running, pids)) or None, "the end of the tree")
    assert is_running(other), "it may run without the manager"
    welcome = host.connect()
    (end,) = [each for each in welcome.reports if each.kind is ReportKind.ENDED]
    assert (end.key, end.state, end.reason) == (key(), State.FAILED, Reason.WORKER_LOST)
    assert end.signal == SIGKILL


def test_a_lease_that_is_renewed_outlives_the_first_agent(host: HostDriver) -> None:
    host.connect()
    lease(host, 600)
    run_once(host, "sh", "-c", "echo $$; exec sleep 60")
    pid = int(host.wait_output(key()))
    host.connect()
    lease(host, 0.1)
    # An older answer changes nothing, and what comes is started under the lease that there was.
    run_once(host, "true", job_id=2)
    assert host.wait_end(key(2)).state is State.COMPLETED
    assert is_running(pid)


def test_a_host_that_wakes_up_late_stops_it_before_it_reads_of_a_new_lease(
    host: HostDriver,
) -> None:
    welcome = host.connect()
    lease(host, LEASE_SECONDS)
    run_once(host, "sh", "-c", "echo $$; exec sleep 60")
    output, until_us = wait_output_leased(host)
    pid = int(output)
    os.kill(welcome.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: processes.boottime_us() > until_us or None, "the end of the lease")
        assert is_running(pid)
        lease(host, 600)
    finally:
        os.kill(welcome.pid, signal.SIGCONT)
    assert host.wait_end(key()).reason is Reason.WORKER_LOST
    assert not is_running(pid)


def test_a_host_that_is_told_to_leave_hands_back_before_it_has_left(host: HostDriver) -> None:
    host.connect()
    lease(host, 600)
    host.send_batch(once(slots=0))
    host.send(protocol.Leave(60_000))
    host.wait_until(lambda: host.left)
    assert [(each.kind, each.key) for each in host.reports] == [(ReportKind.RECALLED, key())]


def test_a_host_that_has_no_lease_hands_back(host: HostDriver) -> None:
    host.connect()
    run_once(host, "true")
    report = host.wait_until(
        lambda: next((each for each in host.reports if each.kind is ReportKind.RECALLED), None)
    )
    assert report.key == key()
