"""What the agent of a worker decides that its manager cannot call."""

from __future__ import annotations

from tests.worker.builders import batch, key, launch
from tests.worker.cores import host_state, register, registered, the
from titan.model import HeldState, Stop, StopMode
from titan.worker.agent.actions import PassStart, PassStop, Register, Say, SendHeartbeat
from titan.worker.agent.core import Core, Failure
from titan.worker.messages import Fetched


def fetching() -> tuple[Core, SendHeartbeat]:
    """An agent in session S1, and its first heartbeat."""
    core = Core(b"W", fetches=True)
    call = the(Register, core.host_connected(host_state())).call
    return core, the(SendHeartbeat, register(core, call))


def start(seq: int, job_id: int = 1) -> Fetched:
    return Fetched(waited=True, dispatch_seq=seq, start=batch(launch(job_id=job_id)))


def test_the_first_heartbeat_follows_the_registration_and_may_be_answered_late() -> None:
    _, beat = fetching()
    assert (beat.session, beat.wait_ms) == (b"S1", 3_000)
    # One that is called says that it lives, and waits for nothing.
    assert the(SendHeartbeat, registered().heartbeat_due()).wait_ms == 0


def test_the_next_heartbeat_follows_the_answer_and_tells_what_it_brought() -> None:
    core, beat = fetching()
    actions = core.heartbeat_taken(beat.call, start(1))
    assert [each.task_index for each in the(PassStart, actions).batch.starts] == [0]
    beat = the(SendHeartbeat, actions)
    assert [(each.key, each.state) for each in beat.held.attempts] == [(key(), HeldState.QUEUED)]
    assert beat.held.dispatch_seq == 1
    stops = (Stop(key(), StopMode.CANCEL, 5),)
    actions = core.heartbeat_taken(beat.call, Fetched(waited=True, dispatch_seq=2, stops=stops))
    assert the(PassStop, actions) == PassStop(stops)
    assert the(SendHeartbeat, actions).held.dispatch_seq == 2


def test_while_one_is_under_way_no_other_heartbeat_is_due() -> None:
    core, beat = fetching()
    assert core.heartbeat_due() == []
    assert the(SendHeartbeat, core.heartbeat_taken(beat.call, Fetched(waited=True)))


def test_an_answer_that_did_not_wait_or_failed_is_followed_when_the_next_is_due() -> None:
    core, beat = fetching()
    assert core.heartbeat_taken(beat.call, Fetched()) == []
    beat = the(SendHeartbeat, core.heartbeat_due())
    (said,) = core.failed(beat.call, Failure.UNREACHABLE, "no answer")
    assert isinstance(said, Say)
    assert the(SendHeartbeat, core.heartbeat_due())


def test_an_answer_that_comes_late_or_twice_brings_nothing() -> None:
    core, first = fetching()
    core.failed(first.call, Failure.UNREACHABLE, "no answer")
    second = the(SendHeartbeat, core.heartbeat_due())
    assert core.heartbeat_taken(first.call, start(1)) == []
    actions = core.heartbeat_taken(second.call, start(2))
    assert the(PassStart, actions)
    assert core.heartbeat_taken(second.call, start(3)) == []


def test_a_batch_that_was_taken_before_is_not_passed_on_again() -> None:
    core, beat = fetching()
    beat = the(SendHeartbeat, core.heartbeat_taken(beat.call, start(4)))
    actions = core.heartbeat_taken(beat.call, start(4))
    assert [type(each) for each in actions] == [SendHeartbeat]


def test_what_a_leaving_agent_is_sent_is_not_taken_nor_asked_for_at_once() -> None:
    core, beat = fetching()
    core.leave(10_000)
    assert core.heartbeat_taken(beat.call, start(1)) == []
    assert the(SendHeartbeat, core.heartbeat_due()).held.dispatch_seq == 0


def test_one_that_learns_that_it_cannot_be_called_registers_again_and_fetches() -> None:
    core = registered()
    core.start(b"S1", 1, batch(launch()))
    beat = the(SendHeartbeat, core.heartbeat_due())
    said, again = core.heartbeat_taken(beat.call, Fetched(cannot_call="connection refused"))
    assert isinstance(said, Say)
    assert "(connection refused)" in said.message
    assert isinstance(again, Register)
    assert [each.key for each in again.held.attempts] == [key()]
    assert core.fetches
    beat = the(SendHeartbeat, register(core, again.call, b"S2"))
    assert beat.wait_ms == 3_000
    # It is told once.
    assert not [
        each
        for each in core.heartbeat_taken(beat.call, Fetched(cannot_call="connection refused"))
        if isinstance(each, Say | Register)
    ]
