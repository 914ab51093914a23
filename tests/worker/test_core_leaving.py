"""How the agent leaves and drains."""

from __future__ import annotations

import pytest

from tests.worker.builders import batch, key, launch
from tests.worker.cores import ended, host_state, register, registered, started, the
from titan.model import ReportKind
from titan.worker.agent.actions import (
    Deregister,
    PassLeave,
    Quit,
    Register,
    Say,
    SendHeartbeat,
    SendReports,
)
from titan.worker.agent.core import DRAINED_GRACE_MS, Core, Failure, Verdict
from titan.worker.messages import Report

# Leaving ----------------------------------------------------------------------------------------


def test_leaving_stops_reports_what_was_over_deregisters_and_quits() -> None:
    core = registered()
    core.start(b"S1", 1, batch(launch()))
    report = the(SendReports, core.host_reported([started(1)]))
    assert core.leave(10_000) == [PassLeave(10_000)]
    assert core.start(b"S1", 2, batch(launch(job_id=2))) == (Verdict.LEAVING, [])
    assert core.host_left() == []
    call = the(Deregister, core.reports_taken(report.call, 1))
    assert call.session == b"S1"
    assert core.deregistered(call.call) == [Quit()]


def test_what_the_host_hands_back_when_it_leaves_is_told_before_the_good_bye() -> None:
    core = registered()
    core.start(b"S1", 1, batch(launch()))
    core.leave(10_000)
    assert core.start(b"S1", 2, batch(launch(job_id=2))) == (Verdict.LEAVING, [])
    call = the(SendReports, core.host_reported([Report(1, ReportKind.RECALLED, key())])).call
    assert core.host_left() == []
    assert the(Deregister, core.reports_taken(call, 1)).dispatch_seq == 1


def test_leaving_twice_passes_the_shorter_grace_on() -> None:
    core = registered()
    core.leave(10_000)
    assert core.leave(0) == [PassLeave(0)]


@pytest.mark.parametrize("how", ["refused", "given up", "host lost"])
def test_leaving_ends_even_if_the_manager_or_the_host_does_not_answer(how: str) -> None:
    core = registered()
    core.leave(10_000)
    if how == "host lost":
        assert core.host_lost() == [Quit()]
        return
    call = the(Deregister, core.host_left()).call
    if how == "refused":
        assert core.failed(call, Failure.UNREACHABLE, "") == [Quit()]
    else:
        assert core.give_up() == [Quit()]
    assert core.give_up() == []


def test_without_a_host_there_is_nothing_to_hand_back() -> None:
    assert Core(b"W").leave(10_000) == [Quit()]


# Draining ---------------------------------------------------------------------------------------


def holding() -> Core:
    """An agent with one task that has started, which the manager knows."""
    core = registered()
    core.start(b"S1", 1, batch(launch()))
    call = the(SendReports, core.host_reported([started(1)]))
    core.reports_taken(call.call, 1)
    return core


def test_a_drain_tells_the_manager_at_once_and_leaves_when_nothing_is_held() -> None:
    core = holding()
    beat = the(SendHeartbeat, core.drain())
    assert beat.is_stopping
    assert core.heartbeat_taken(beat.call) == []
    assert core.drain() == [], "once is enough"
    sent = the(SendReports, core.host_reported([ended(2)]))
    assert the(PassLeave, core.reports_taken(sent.call, 2)) == PassLeave(DRAINED_GRACE_MS)
    call = the(Deregister, core.host_left())
    assert core.deregistered(call.call) == [Quit()]


def test_what_comes_before_the_manager_knows_is_run() -> None:
    core = registered()
    beat = the(SendHeartbeat, core.drain())
    verdict, _ = core.start(b"S1", 1, batch(launch()))
    assert verdict == Verdict.ACCEPTED
    assert core.heartbeat_taken(beat.call) == []
    recalled = Report(1, ReportKind.RECALLED, key())
    sent = the(SendReports, core.host_reported([recalled]))
    assert the(PassLeave, core.reports_taken(sent.call, 1)) == PassLeave(DRAINED_GRACE_MS)
    assert core.start(b"S1", 2, batch(launch(job_id=2))) == (Verdict.LEAVING, [])


def test_a_heartbeat_that_was_on_its_way_does_not_count_as_told() -> None:
    core = registered()
    earlier = the(SendHeartbeat, core.heartbeat_due())
    assert [each for each in core.drain() if not isinstance(each, Say)] == []
    told = the(SendHeartbeat, core.heartbeat_taken(earlier.call))
    assert (earlier.is_stopping, told.is_stopping) == (False, True)
    assert the(PassLeave, core.heartbeat_taken(told.call))


def test_a_registration_tells_it_too() -> None:
    core = Core(b"W")
    core.host_connected(host_state())
    core.drain()
    failed = core.failed(1, Failure.UNREACHABLE, "refused")
    assert "ends once" in the(Say, failed).message
    again = the(Register, failed)
    assert again.is_stopping
    assert the(PassLeave, register(core, again.call)) == PassLeave(DRAINED_GRACE_MS)


def test_a_drain_waits_for_a_manager_that_is_away() -> None:
    core = holding()
    core.heartbeat_taken(the(SendHeartbeat, core.drain()).call)
    sent = the(SendReports, core.host_reported([ended(2)]))
    lost = core.failed(sent.call, Failure.UNREACHABLE, "gone")
    assert "this worker ends once the manager knows" in the(Say, lost).message
    again = the(SendReports, lost)
    assert core.failed(again.call, Failure.UNREGISTERED, "") != []
    call = core.awaits(again.call + 1)
    assert call, "it registers, and tells it again"


def test_a_drain_that_begins_while_the_manager_is_away_says_that_it_waits() -> None:
    core = holding()
    core.failed(the(SendHeartbeat, core.heartbeat_due()).call, Failure.UNREACHABLE, "gone")
    assert "this worker ends once the manager knows" in the(Say, core.drain()).message


def test_an_empty_worker_does_not_go_while_the_manager_is_away() -> None:
    core = registered()
    beat = the(SendHeartbeat, core.drain())
    core.failed(beat.call, Failure.UNREACHABLE, "gone")
    beat = the(SendHeartbeat, core.heartbeat_due())
    assert the(PassLeave, core.heartbeat_taken(beat.call)) == PassLeave(DRAINED_GRACE_MS)


def test_a_leave_cuts_a_drain_short() -> None:
    core = holding()
    core.drain()
    assert core.leave(10_000) == [PassLeave(10_000)]
    assert not core.is_draining
    beat = core.heartbeat_due()
    assert beat == [], "one is on its way"
    assert core.host_left() != []


def test_whoever_leaves_says_so_in_its_heartbeats() -> None:
    core = holding()
    core.leave(10_000)
    assert the(SendHeartbeat, core.heartbeat_due()).is_stopping


def test_a_drain_goes_on_with_another_host() -> None:
    core = holding()
    core.drain()
    assert core.host_lost() == []
    call = the(Register, core.host_connected(host_state()))
    assert call.is_stopping
    assert the(PassLeave, register(core, call.call, b"S2")) == PassLeave(DRAINED_GRACE_MS)
