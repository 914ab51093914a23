"""What the agent decides."""

from __future__ import annotations

from tests.worker.builders import batch, key, launch
from tests.worker.cores import ended, host_state, register, registered, started, the
from titan.model import Held, HeldAttempt, HeldState, Stop, StopMode
from titan.worker.agent.actions import (
    BeatEvery,
    KeepIdentity,
    Level,
    PassAcknowledged,
    PassCluster,
    PassLease,
    PassStart,
    PassStop,
    Register,
    Say,
    SendHeartbeat,
    SendReports,
)
from titan.worker.agent.core import (
    RETRY_MAX_US,
    RETRY_REFUSED_US,
    Core,
    Failure,
    HostState,
    Verdict,
)
from titan.worker.agent.report_queue import BATCH_REPORTS_MAX

# The lease --------------------------------------------------------------------------------------


def test_an_answer_is_a_lease_from_the_moment_that_its_question_was_sent() -> None:
    assert Core(b"W").lease_renewed(5) == [PassLease(20_000_005)]
    assert Core(b"W", lease_us=7).lease_renewed(5) == [PassLease(12)]


# Registration -----------------------------------------------------------------------------------


def test_a_new_worker_registers_with_nothing_and_keeps_the_id_it_is_given() -> None:
    core = Core(b"")
    assert core.host_connected(host_state()) == [
        Register(1, 0, b"", b"I", 3, b"", Held((), 0, 0), 0, False, ""),
    ]
    assert register(core, 1) == [KeepIdentity(b"W"), PassCluster(b"C"), BeatEvery(3_000)]
    assert (core.session, core.worker_id) == (b"S1", b"W")


def test_it_registers_with_all_that_the_host_holds_and_then_reports_again() -> None:
    core = Core(b"W")
    live = (HeldAttempt(key(index=1), HeldState.RUNNING, 900),)
    call = the(Register, core.host_connected(host_state(ended(7), live=live)))
    assert call.cluster_id == b"C"
    assert call.held == Held((*live, HeldAttempt(key(), HeldState.ENDED, 1_000)), 0, 7)
    assert call.acknowledged_seq == 6
    assert register(core, call.call) == [
        BeatEvery(3_000),
        SendReports(2, 0, b"S1", 7, 7, (ended(7),)),
    ]


def test_sessions_that_take_no_report_are_not_asked_for_in_a_tight_loop() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([ended(1)]))
    delays = []
    for _ in range(4):
        again = the(Register, core.failed(call.call, Failure.UNREGISTERED, "some are missing"))
        delays.append(again.delay_us)
        call = the(SendReports, register(core, again.call, b"S2"))
    assert delays == [0, 100_000, 200_000, 400_000]
    core.reports_taken(call.call, 1)
    call = the(SendReports, core.host_reported([ended(2)]))
    assert the(Register, core.failed(call.call, Failure.UNREGISTERED, "")).delay_us == 0


def test_a_host_that_holds_nothing_belongs_to_no_cluster() -> None:
    core = Core(b"W")
    state = HostState(instance=b"I", cluster_id=b"old", live=(), reports=(), report_seq=4)
    assert the(Register, core.host_connected(state)).cluster_id == b""
    assert PassCluster(b"C") in register(core, 1)


def test_a_changed_id_is_kept_and_told() -> None:
    core = Core(b"other")
    actions = register(core, the(Register, core.host_connected(host_state())).call)
    assert KeepIdentity(b"W") in actions
    assert the(Say, actions).level == Level.WARNING


def test_an_unreachable_manager_is_tried_for_ever_ever_more_slowly_and_told_once() -> None:
    core = Core(b"W")
    actions = core.host_connected(host_state())
    delays = []
    said: list[Say] = []
    for _ in range(8):
        call = the(Register, actions)
        delays.append(call.delay_us)
        actions = core.failed(call.call, Failure.UNREACHABLE, "no answer")
        said += [action for action in actions if isinstance(action, Say)]
    assert delays[:4] == [0, 100_000, 200_000, 400_000]
    assert delays[-1] == RETRY_MAX_US
    assert [say.level for say in said] == [Level.WARNING]
    assert said[0].message.startswith("cannot reach the manager: no answer")
    actions = register(core, the(Register, actions).call)
    assert the(Say, actions).message == "the manager answers"


def test_a_manager_that_was_there_is_said_to_be_lost_and_to_be_back() -> None:
    core = registered()
    beat = the(SendHeartbeat, core.heartbeat_due())
    actions = core.failed(beat.call, Failure.UNREACHABLE, "no answer")
    assert the(Say, actions).message.startswith("lost the manager: no answer")
    beat = the(SendHeartbeat, core.heartbeat_due())
    assert the(Say, core.heartbeat_taken(beat.call)).message == "the manager is back"


def test_a_refused_registration_is_told_and_asked_again_slowly() -> None:
    core = Core(b"W")
    call = the(Register, core.host_connected(host_state())).call
    actions = core.failed(call, Failure.REFUSED, "it holds attempts of cluster X")
    assert "it holds attempts of cluster X" in the(Say, actions).message
    assert the(Say, actions).level == Level.ERROR
    assert the(Register, actions).delay_us == RETRY_REFUSED_US


def test_a_lost_session_is_registered_again_whoever_notices() -> None:
    core = registered()
    beat = the(SendHeartbeat, core.heartbeat_due())
    actions = core.failed(beat.call, Failure.UNREGISTERED, "")
    assert the(Register, actions).delay_us == 0
    assert not core.is_registered
    register(core, the(Register, actions).call, b"S2")
    report = the(SendReports, core.host_reported([started(1)]))
    assert report.session == b"S2"
    assert the(Register, core.failed(report.call, Failure.UNREGISTERED, ""))


def test_a_late_answer_to_an_old_registration_changes_nothing() -> None:
    core = Core(b"W")
    first = the(Register, core.host_connected(host_state())).call
    second = the(Register, core.failed(first, Failure.UNREACHABLE, "")).call
    assert register(core, first, b"old") == []
    assert not core.awaits(first)
    register(core, second, b"new")
    assert core.session == b"new"


def test_another_host_is_another_registration() -> None:
    core = registered()
    core.start(b"S1", 1, batch(launch()))
    assert core.host_lost() == []
    assert not core.is_registered
    assert core.heartbeat_due() == []
    state = HostState(instance=b"J", cluster_id=b"C", live=(), reports=(), report_seq=0)
    call = the(Register, core.host_connected(state))
    assert (call.instance, call.held) == (b"J", Held((), 0, 0))


# The manager's calls ----------------------------------------------------------------------------


def test_a_batch_is_passed_on_once() -> None:
    core = registered()
    todo = batch(launch())
    assert core.start(b"S1", 1, todo) == (Verdict.ACCEPTED, [PassStart(todo)])
    assert core.start(b"S1", 1, todo) == (Verdict.ACCEPTED, [])
    assert core.held() == Held((HeldAttempt(key(), HeldState.QUEUED, 0),), 1, 0)


def test_starts_and_stops_share_their_numbers() -> None:
    core = registered()
    stops = (Stop(key(), StopMode.CANCEL, 0),)
    assert core.stop(b"S1", 4, stops) == (Verdict.ACCEPTED, [PassStop(stops)])
    assert core.start(b"S1", 3, batch(launch())) == (Verdict.ACCEPTED, [])
    assert core.held() == Held((), 4, 0)


def test_another_session_is_refused_and_a_session_to_come_is_waited_for() -> None:
    core = registered()
    assert core.start(b"S0", 9, batch(launch())) == (Verdict.UNKNOWN_SESSION, [])
    assert core.start(b"", 9, batch(launch())) == (Verdict.UNKNOWN_SESSION, [])
    core = Core(b"W")
    core.host_connected(host_state())
    assert core.start(b"S1", 1, batch(launch())) == (Verdict.REGISTERING, [])


def test_batches_are_numbered_anew_in_each_session() -> None:
    core = registered()
    core.start(b"S1", 5, batch(launch()))
    beat = the(SendHeartbeat, core.heartbeat_due())
    again = the(Register, core.failed(beat.call, Failure.UNREGISTERED, ""))
    assert again.held.dispatch_seq == 0
    register(core, again.call, b"S2")
    verdict, actions = core.start(b"S2", 1, batch(launch(job_id=2)))
    assert (verdict, len(actions)) == (Verdict.ACCEPTED, 1)


def test_a_heartbeat_tells_what_is_held_and_is_not_sent_twice_at_once() -> None:
    core = registered()
    core.start(b"S1", 1, batch(launch(), indexes=range(3)))
    core.host_reported([started(1, 0), started(2, 1), ended(3, 1)])
    beat = the(SendHeartbeat, core.heartbeat_due())
    assert beat.held == Held(
        (
            HeldAttempt(key(index=0), HeldState.RUNNING, 1_000),
            HeldAttempt(key(index=1), HeldState.ENDED, 1_000),
            HeldAttempt(key(index=2), HeldState.QUEUED, 0),
        ),
        1,
        3,
    )
    assert core.heartbeat_due() == []
    assert core.heartbeat_taken(beat.call) == []
    assert the(SendHeartbeat, core.heartbeat_due())


# Reports ----------------------------------------------------------------------------------------


def test_one_batch_is_on_its_way_and_the_next_takes_what_gathers_meanwhile() -> None:
    core = registered()
    first = the(SendReports, core.host_reported([started(1)]))
    assert core.host_reported([ended(2)]) == []
    assert core.host_reported([started(3, 1)]) == []
    actions = core.reports_taken(first.call, 1)
    assert actions[0] == PassAcknowledged(1)
    second = the(SendReports, actions)
    assert (second.first_seq, second.last_seq) == (2, 3)
    assert second.reports == (ended(2), started(3, 1))
    assert core.reports_taken(second.call, 3) == [PassAcknowledged(3)]
    assert core.unacknowledged_count == 0


def test_a_start_whose_end_is_in_the_batch_is_left_out_but_counted() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([started(1), started(2, 1), ended(3, 1)]))
    assert (call.first_seq, call.last_seq) == (1, 3)
    assert call.reports == (started(1), ended(3, 1))


def test_an_end_leaves_the_mirror_when_it_is_acknowledged_and_not_before() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([ended(1)]))
    held = core.find_held(key())
    assert held is not None
    assert held.state == HeldState.ENDED
    core.reports_taken(call.call, 1)
    assert core.find_held(key()) is None


def test_a_late_batch_does_not_bring_back_what_has_ended() -> None:
    core = registered()
    both = batch(launch(), indexes=(0, 1))
    core.start(b"S1", 1, both)
    call = the(SendReports, core.host_reported([ended(1)]))
    # The manager had made two more batches before it took the report.
    core.reports_taken(call.call, 1, 3)
    for dispatch_seq in (2, 3):
        assert core.start(b"S1", dispatch_seq, both) == (
            Verdict.ACCEPTED,
            [PassStart(batch(launch(), indexes=(1,)))],
        )
    assert core.find_held(key()) is None
    # No later one has it, so nothing has to be remembered.
    assert core.start(b"S1", 4, both) == (Verdict.ACCEPTED, [PassStart(both)])


def test_a_batch_whose_answer_got_lost_goes_again_as_it_was() -> None:
    core = registered()
    first = the(SendReports, core.host_reported([started(1)]))
    core.host_reported([ended(2)])
    again = the(SendReports, core.failed(first.call, Failure.UNREACHABLE, ""))
    assert again.delay_us > 0
    assert again[3:] == first[3:]
    assert core.reports_taken(first.call, 1) == []


def test_after_registering_again_the_batch_goes_out_in_the_new_session() -> None:
    core = registered()
    first = the(SendReports, core.host_reported([started(1)]))
    again = the(Register, core.failed(first.call, Failure.UNREGISTERED, ""))
    assert again.held.report_seq == 1
    call = the(SendReports, register(core, again.call, b"S2"))
    assert (call.session, call[3:]) == (b"S2", first[3:])


def test_a_batch_that_is_taken_in_part_goes_on_after_that_part() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([started(1), started(2, 1), ended(3)]))
    actions = core.reports_taken(call.call, 1)
    assert actions[0] == PassAcknowledged(1)
    rest = the(SendReports, actions)
    assert (rest.first_seq, rest.last_seq, rest.reports) == (2, 3, (started(2, 1), ended(3)))


def test_a_manager_that_takes_nothing_is_not_asked_in_a_tight_loop() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([started(1)]))
    again = the(SendReports, core.reports_taken(call.call, 0))
    assert again.delay_us > 0


def test_a_refused_report_is_told_and_kept() -> None:
    core = registered()
    call = the(SendReports, core.host_reported([started(1)]))
    actions = core.failed(call.call, Failure.REFUSED, "no such field")
    assert the(Say, actions).level == Level.ERROR
    assert the(SendReports, actions).delay_us == RETRY_REFUSED_US


def test_a_batch_has_a_limit() -> None:
    core = registered()
    reports = [started(seq, seq) for seq in range(1, BATCH_REPORTS_MAX + 11)]
    call = the(SendReports, core.host_reported(reports))
    assert len(call.reports) == BATCH_REPORTS_MAX
    long = [report._replace(detail="x" * 400_000) for report in reports[:5]]
    call = the(SendReports, registered().host_reported(long))
    assert len(call.reports) == 2


def test_a_report_that_comes_twice_is_sent_once() -> None:
    core = Core(b"W")
    call = the(Register, core.host_connected(host_state(started(1))))
    assert core.host_reported([started(1), ended(2)]) == []
    sent = the(SendReports, register(core, call.call))
    assert (sent.first_seq, sent.last_seq, sent.reports) == (1, 2, (ended(2),))
