"""What becomes of a failed call, with the time as an argument."""

import grpc
import pytest

from titan.client import retry
from titan.errors import (
    Busy,
    InvalidJob,
    ManagerUnreachable,
    NoRoom,
    NotFound,
    OutputUnavailable,
    StillReading,
)

POLICY = retry.Policy("127.0.0.1:1", 30.0)
AWAY = retry.Failure(grpc.StatusCode.UNAVAILABLE, "connection reset")
WORKER_AWAY = retry.Failure(grpc.StatusCode.FAILED_PRECONDITION, "w1 is away")
BUSY = retry.Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "300 calls wait", is_busy=True)
LATE = retry.Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")


def test_a_call_is_repeated_with_growing_pauses_until_its_time_is_over() -> None:
    repeats = retry.Repeats(POLICY, now=100.0)
    now, pauses = 100.0, []

    def fail_until_raised() -> None:
        nonlocal now
        while True:
            pauses.append(repeats.pause_after(AWAY, now))
            now += pauses[-1]

    with pytest.raises(ManagerUnreachable, match=r"did not answer within 30 s \(connection reset"):
        fail_until_raised()
    assert pauses == sorted(pauses)
    assert pauses[0] == retry.PAUSE_FIRST_SECONDS
    assert pauses[-1] == retry.PAUSE_MAX_SECONDS
    assert 128.5 < now <= 130.0


def test_a_write_that_may_have_arrived_says_how_it_is_repeated() -> None:
    repeats = retry.Repeats(retry.Policy("a:1", 0), now=0.0, repeat_hint="repeat it with X")
    with pytest.raises(ManagerUnreachable, match="may have been accepted; repeat it") as caught:
        repeats.pause_after(LATE, 10.0)
    assert caught.value.maybe_accepted


def test_a_read_that_failed_was_never_accepted() -> None:
    with pytest.raises(ManagerUnreachable) as caught:
        retry.Repeats(retry.Policy("a:1", 0), now=0.0).pause_after(AWAY, 1.0)
    assert not caught.value.maybe_accepted


def test_a_manager_that_is_still_reading_is_asked_again_and_was_not_away() -> None:
    reading = retry.Failure(grpc.StatusCode.UNAVAILABLE, "5 segments are left", True)
    repeats = retry.Repeats(POLICY, now=0.0)
    now = 0.0
    while now < retry.STILL_READING_SECONDS_MAX:
        assert repeats.pause_after(reading, now) <= retry.PAUSE_FIRST_SECONDS
        assert repeats.attempt_seconds(now) == retry.ATTEMPT_SECONDS
        assert repeats.failures == 0
        now += 5.0
    # One that is away then has all its time, and is away.
    assert repeats.pause_after(AWAY, now) == retry.PAUSE_FIRST_SECONDS
    with pytest.raises(StillReading, match="5 segments are left"):
        repeats.pause_after(reading, now)


def test_a_busy_manager_is_asked_again_ever_later_and_not_by_all_at_one_moment() -> None:
    assert len({_busy_pauses(3) for _ in range(10)}) > 1
    pauses = _busy_pauses(12)
    for turn, pause in enumerate(pauses):
        longest = min(retry.BUSY_PAUSE_MAX_SECONDS, retry.BUSY_PAUSE_FIRST_SECONDS * 2**turn)
        assert longest / 2 <= pause <= longest


def test_a_manager_that_stays_busy_is_given_up_with_its_own_words() -> None:
    repeats = retry.Repeats(POLICY, now=0.0, repeat_hint="repeat it with X")
    repeats.pause_after(BUSY, 10.0)
    # Nothing of it was done, so there is nothing that may have been accepted.
    with pytest.raises(Busy, match=r"^300 calls wait$"):
        repeats.pause_after(BUSY, 30.0)


def test_a_manager_that_was_busy_and_then_gave_no_answer_in_time_is_busy() -> None:
    repeats = retry.Repeats(POLICY, now=0.0, repeat_hint="repeat it with X")
    repeats.pause_after(BUSY, 19.0)
    # The last try ran out of the caller's time.
    with pytest.raises(Busy, match=r"was busy and .* may have been accepted; repeat it") as caught:
        repeats.pause_after(LATE, 30.0)
    assert caught.value.maybe_accepted
    # A read never is.
    repeats = retry.Repeats(POLICY, now=0.0)
    repeats.pause_after(BUSY, 19.0)
    with pytest.raises(Busy, match=r"was busy and .* in time$") as caught:
        repeats.pause_after(LATE, 30.0)
    assert not caught.value.maybe_accepted
    # One that is gone is not busy, whatever it was before; nor is one that has been heard since.
    repeats = retry.Repeats(POLICY, now=0.0)
    repeats.pause_after(BUSY, 19.0)
    with pytest.raises(ManagerUnreachable):
        repeats.pause_after(AWAY, 30.0)
    repeats = retry.Repeats(POLICY, now=0.0)
    repeats.pause_after(BUSY, 19.0)
    repeats.succeeded(20.0)
    with pytest.raises(ManagerUnreachable):
        repeats.pause_after(LATE, 50.0)


def test_a_manager_without_room_is_not_asked_again() -> None:
    full = BUSY._replace(is_busy=False, details="the disk is full")
    with pytest.raises(NoRoom, match="disk is full") as caught:
        retry.Repeats(POLICY, now=0.0).pause_after(full, 0.0)
    assert not isinstance(caught.value, Busy)


def _busy_pauses(count: int) -> tuple[float, ...]:
    repeats = retry.Repeats(POLICY, now=0.0)
    return tuple(repeats.pause_after(BUSY, 0.0) for _ in range(count))


def test_for_ever_never_gives_up() -> None:
    repeats = retry.Repeats(retry.Policy("a:1", retry.FOR_EVER), now=0.0)
    for turn in range(1000):
        assert repeats.pause_after(AWAY, turn * 1e6) <= retry.PAUSE_MAX_SECONDS


@pytest.mark.parametrize(
    ("status", "kind"),
    [(grpc.StatusCode.NOT_FOUND, NotFound), (grpc.StatusCode.INVALID_ARGUMENT, InvalidJob)],
)
def test_what_asking_again_would_not_change_is_raised_at_once(
    status: grpc.StatusCode, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="so it is"):
        retry.Repeats(POLICY, now=0.0).pause_after(retry.Failure(status, "so it is"), 0.0)


def test_a_try_has_a_deadline_within_the_time_that_is_left() -> None:
    repeats = retry.Repeats(POLICY, now=0.0)
    assert repeats.attempt_seconds(0.0) == retry.ATTEMPT_SECONDS
    assert repeats.attempt_seconds(27.0) == 3.0
    assert repeats.attempt_seconds(30.0) == retry.ATTEMPT_SECONDS_MIN


def test_a_stream_that_gave_something_has_all_its_time_again() -> None:
    repeats = retry.Repeats(POLICY, now=0.0)
    repeats.pause_after(AWAY, 29.0)
    repeats.succeeded(29.5)
    assert repeats.pause_after(AWAY, 50.0) == retry.PAUSE_FIRST_SECONDS


def test_a_call_refused_for_its_token_is_sent_again_at_once_with_another_one() -> None:
    repeats = retry.Repeats(POLICY, now=0.0)
    assert repeats.pause_after_refusal(is_renewed=True) == 0.0


def test_a_token_that_stays_wrong_is_given_up_soon() -> None:
    repeats = retry.Repeats(POLICY, now=0.0)
    pauses = [repeats.pause_after_refusal(is_renewed=False) for _ in range(6)]
    assert pauses[-1] is None
    assert sum(pause or 0 for pause in pauses) < 1


def test_a_worker_that_is_away_is_told_at_once_to_who_has_no_patience() -> None:
    with pytest.raises(OutputUnavailable, match="w1 is away"):
        retry.WorkerPatience(0).pause_after(WORKER_AWAY, 0.0, manager_was_away=False)


def test_an_absence_that_may_be_the_managers_is_tried_again_once() -> None:
    patience = retry.WorkerPatience(0)
    patience.pause_after(AWAY, 0.0, manager_was_away=False)
    with pytest.raises(OutputUnavailable):
        patience.pause_after(AWAY, 0.1, manager_was_away=False)


def test_a_worker_has_its_time_from_the_managers_return() -> None:
    patience = retry.WorkerPatience(10)
    patience.pause_after(WORKER_AWAY, 0.0, manager_was_away=False)
    patience.pause_after(AWAY, 9.0, manager_was_away=True)
    patience.pause_after(WORKER_AWAY, 18.0, manager_was_away=False)
    with pytest.raises(OutputUnavailable):
        patience.pause_after(WORKER_AWAY, 19.5, manager_was_away=False)


def test_a_worker_that_gave_something_has_all_its_time_again() -> None:
    patience = retry.WorkerPatience(10)
    patience.pause_after(WORKER_AWAY, 0.0, manager_was_away=False)
    patience.received()
    patience.pause_after(WORKER_AWAY, 50.0, manager_was_away=False)
    patience.pause_after(WORKER_AWAY, 59.0, manager_was_away=False)


def test_other_ends_of_a_stream_are_not_waited_out() -> None:
    failure = retry.Failure(grpc.StatusCode.NOT_FOUND, "no such task")
    with pytest.raises(NotFound):
        retry.WorkerPatience(60).pause_after(failure, 0.0, manager_was_away=False)


def last_words(policy: retry.Policy, leader: str, repeat_hint: str = "") -> str:
    """What is said when a manager has answered to the end that it does not lead."""
    failure = retry.Failure(grpc.StatusCode.UNAVAILABLE, "it stands by", leader=leader)
    repeats = retry.Repeats(policy, now=0.0, repeat_hint=repeat_hint)
    repeats.pause_after(failure, 0.0)
    with pytest.raises(ManagerUnreachable) as raised:
        repeats.pause_after(failure, 30.0)
    return str(raised.value)


def test_a_standby_asked_alone_is_said_not_to_lead_and_the_one_that_does_is_to_be_named() -> None:
    assert last_words(POLICY, "127.0.0.1:2") == (
        "the manager at 127.0.0.1:1 did not lead within 30 s (it stands by); "
        "name that one, too: --manager 127.0.0.1:1,127.0.0.1:2"
    )


def test_where_none_leads_a_read_may_be_had_from_a_standby() -> None:
    both = retry.Policy("127.0.0.1:1,127.0.0.1:2", 30.0)
    assert last_words(both, "").endswith("; some questions a standby answers, too: --stale")
    assert "--stale" not in last_words(both, "", repeat_hint="it is safe to repeat")
    assert "name that one" not in last_words(both, "127.0.0.1:2")
