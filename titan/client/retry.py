"""What becomes of a call that failed: asked again, after how long, or raised. Pure but for a lot.

A call that was sent is repeated, because every call may be: reads change nothing,
writes carry a request id or can only be true once. Whoever waits passes the time in.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc

from titan.errors import (
    AccessDenied,
    Busy,
    ManagerUnreachable,
    OutputUnavailable,
    StillReading,
    TitanError,
)
from titan.rpc.status import error_of
from titan.rpc.v1 import manager_pb2

RETRY_FOR_SECONDS: Final = 30.0
FOR_EVER: Final = float("inf")
# An answer may take so long, however little of the time for repeating is left.
ATTEMPT_SECONDS_MIN: Final = 1.0
# A call without an answer for so long is sent again; bulk submits take a second or two.
ATTEMPT_SECONDS: Final = 10.0
# Of several managers the others are asked so often, while the one that is called says nothing, who
# leads by now, and have so long for the answer: one that stands still or can't be reached any more
# holds nobody up for much longer than it leads.
LOOK_SECONDS: Final = 1.0
# To a question about the past the manager says after a minute that it is still reading.
PAST_SECONDS: Final = 70.0
# A manager that says that it is still reading is asked again for so long. It has waited itself
# before it says so, and gives up on what takes longer.
STILL_READING_SECONDS_MAX: Final = 900.0
# Between two tries. The channel has a back-off of its own for connecting.
PAUSE_FIRST_SECONDS: Final = 0.05
PAUSE_MAX_SECONDS: Final = 1.0
# The same after the manager said that it is busy, of which up to a half is drawn by lot: those that
# it refused at one moment are not to come back at one.
BUSY_PAUSE_FIRST_SECONDS: Final = 0.2
BUSY_PAUSE_MAX_SECONDS: Final = 4.0
# A manager draws its token when it starts, and may serve a moment before the file has it.
ACCESS_TRIES_MAX: Final = 5
ACCESS_PAUSE_SECONDS: Final = 0.1
# Longer than the default silence after which the manager gives a worker's tasks to another.
WORKER_PATIENCE_SECONDS: Final = 60.0

TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # The server cut it off, as one that stops does.
        grpc.StatusCode.CANCELLED,
    }
)
AWAY: Final = grpc.StatusCode.UNAVAILABLE
# A watch that fell behind is cut with this, and goes on from its last LSN.
CUT_WATCH: Final = grpc.StatusCode.RESOURCE_EXHAUSTED


class Failure(NamedTuple):
    """How a call ended."""

    status: grpc.StatusCode
    details: str
    is_still_reading: bool = False
    """The manager is there, and reads its log for the answer."""
    is_busy: bool = False
    """The manager is there, and has too much to do; nothing of the call was done."""
    leader: str | None = None
    """It is there, and does not lead: the address of the one that does, empty where it knows none.
    None: it said nothing of that."""

    @property
    def is_answer(self) -> bool:
        """Whether it was the manager that said so."""
        return self.is_still_reading or self.is_busy or self.leader is not None


class Policy(NamedTuple):
    """For how long calls are repeated; FOR_EVER for commands that wait."""

    address: str
    """Several with commas between: the time is one for all."""
    retry_for_seconds: float = RETRY_FOR_SECONDS


class Repeats:
    """The tries of one call, or of one stream."""

    def __init__(
        self,
        policy: Policy,
        now: float,
        *,
        repeat_hint: str = "",
        answer_seconds: float = ATTEMPT_SECONDS,
        is_stream: bool = False,
    ) -> None:
        """`repeat_hint` says of a write how it is repeated safely; empty for a read.

        `answer_seconds` is how long an answer may take. A stream may have been silent for long
        before it fails: the time for repeating begins then.
        """
        self._is_stream = is_stream
        self._has_failed = False
        self._answer_seconds = answer_seconds
        self._policy = policy
        self._repeat_hint = repeat_hint
        self._begin = now
        self._end = now + policy.retry_for_seconds
        self._refusals = 0
        self._busy = 0
        self.failures = 0
        self.tried: Final[set[str]] = set()
        """The addresses that did not do since the last answer or pause."""

    def attempt_seconds(self, now: float) -> float:
        """The deadline of the next try."""
        if self._answer_seconds > ATTEMPT_SECONDS:
            # To ask again sooner would only make the manager begin again.
            return self._answer_seconds
        return max(ATTEMPT_SECONDS_MIN, min(ATTEMPT_SECONDS, self._end - now))

    def succeeded(self, now: float) -> None:
        """A stream gave something: what fails later is a new failure."""
        self.failures = 0
        self._has_failed = False
        self._refusals = 0
        self._busy = 0
        self._end = now + self._policy.retry_for_seconds

    def pause_after(self, failure: Failure, now: float, *, at_once: bool = False) -> float:
        """Seconds to wait before the next try. Raises the error when there is none.

        `at_once`: the next try goes to another address, which has not been tried since the last.
        """
        if failure.is_still_reading:
            if now >= self._begin + STILL_READING_SECONDS_MAX:
                raise StillReading(failure.details)
            # It was an answer: what fails later is a new failure.
            self.succeeded(now)
            return PAUSE_FIRST_SECONDS
        if failure.is_busy:
            pause = _busy_pause_seconds(self._busy)
            self._busy += 1
            if now + pause >= self._end:
                raise Busy(failure.details)
            return pause
        if failure.status not in TRANSIENT:
            raise error_of(failure.status, failure.details)
        if failure.status is not grpc.StatusCode.DEADLINE_EXCEEDED:
            # Whether the one that comes back is busy nobody knows.
            self._busy = 0
        if self._is_stream and not self._has_failed:
            self._end = now + self._policy.retry_for_seconds
        self._has_failed = True
        if at_once and (now < self._end or failure.status is AWAY):
            # Another token, too. Who was not there has taken no time.
            self._refusals = 0
            return 0.0
        pause = _pause_seconds(self.failures)
        self.failures += 1
        if now + pause >= self._end:
            raise self._late_while_busy() if self._busy else self._unreachable(failure)
        return pause

    def pause_after_refusal(self, *, is_renewed: bool, is_final: bool = False) -> float | None:
        """Seconds until a call refused for its token is sent again; None: not again.

        `is_renewed` tells that the files have another token or certificate now; `is_final` that
        nobody will write them in a moment, as a manager does that starts.
        """
        self._refusals += 1
        # Of certificates one more: they may have been read between the call and its refusal.
        if self._refusals > (1 if is_final and not is_renewed else ACCESS_TRIES_MAX):
            return None
        return 0.0 if is_renewed else ACCESS_PAUSE_SECONDS

    def _late_while_busy(self) -> Busy:
        message = f"{self._whom()} was busy and then did not answer in time"
        return Busy(message + self._maybe_accepted(), maybe_accepted=bool(self._repeat_hint))

    def _unreachable(self, failure: Failure) -> ManagerUnreachable:
        waited = f" within {self._policy.retry_for_seconds:g} s" if self.failures > 1 else ""
        message = f"{self._whom()} did not answer{waited}"
        if "," in self._policy.address:
            message = f"none of the managers answered as the one that leads{waited}"
        elif failure.leader is not None:
            message = f"{self._whom()} did not lead{waited}"
        if failure.details:
            message += f" ({failure.details})"
        if failure.leader is not None:
            message += self._advice(failure.leader)
        return ManagerUnreachable(
            message + self._maybe_accepted(), maybe_accepted=bool(self._repeat_hint)
        )

    def _advice(self, leader: str) -> str:
        """What may help where those that were asked do not lead."""
        known = self._policy.address.split(",")
        if leader and leader not in known:
            return f"; name that one, too: --manager {','.join((*known, leader))}"
        return "" if self._repeat_hint else "; some questions a standby answers, too: --stale"

    def _whom(self) -> str:
        are_several = "," in self._policy.address
        return "the manager" if are_several else f"the manager at {self._policy.address}"

    def _maybe_accepted(self) -> str:
        """What is said of a write whose last try had no answer."""
        return f"; this may have been accepted; {self._repeat_hint}" if self._repeat_hint else ""


class LedElsewhere(Exception):
    """A call was given up before it was answered: `leader` leads by now, and not who was called."""

    def __init__(self, silent: str, leader: str) -> None:
        super().__init__(f"{silent} does not answer, and {leader} leads")
        self.leader = leader

    @property
    def failure(self) -> Failure:
        """What became of the call."""
        return Failure(AWAY, str(self), leader=self.leader)


def leader_told_by(address: str, answer: manager_pb2.GetStatsResponse, silent: str) -> str:
    """Who leads instead of the silent one, by what another answers; empty: it knows nobody."""
    leader = answer.leader if answer.stands_by else address
    return "" if leader == silent else leader


def safe_with(request_id: bytes) -> str:
    """How a write that carries such an id is repeated safely."""
    return f"it is safe to repeat with --request-id {request_id.hex()}"


class WorkerPatience:
    """Whether a stream of output that failed is opened again.

    The manager says that a worker is away with FAILED_PRECONDITION. UNAVAILABLE may be
    the manager's own absence; so the caller asks it something else then, and if that is
    answered, it is the worker all the same.
    """

    def __init__(self, patience_seconds: float) -> None:
        """`patience_seconds`: how long to wait for a worker; 0: one more try."""
        self._patience_seconds = patience_seconds
        self._failures = 0
        self._since = 0.0

    def received(self) -> None:
        """Something came."""
        self._failures = 0

    def pause_after(self, failure: Failure, now: float, *, manager_was_away: bool) -> float:
        """Seconds to wait before the next try. Raises OutputUnavailable, TitanError."""
        is_said = failure.status is grpc.StatusCode.FAILED_PRECONDITION
        if not is_said and failure.status not in TRANSIENT:
            raise error_of(failure.status, failure.details)
        if manager_was_away or not self._failures:
            self._since = now
        self._failures = 1 if manager_was_away else self._failures + 1
        is_certain = is_said or self._failures > 1
        if is_certain and now - self._since >= self._patience_seconds:
            raise OutputUnavailable(failure.details)
        return _pause_seconds(self._failures)


def access_denied(address: str, tried: str, *, has_token: bool) -> AccessDenied:
    """The sentence for a call that the manager refused for its token."""
    what = "the access token is not right" if has_token else "no access token was found"
    return AccessDenied(
        f"the manager at {address} refused the call: {what} (tried {tried}). It is the file "
        "access.json in the data directory of the manager, readable by its user: "
        "give it with --access FILE"
    )


def no_answer(said: Sequence[tuple[str, str]]) -> TitanError:
    """The sentence for a first connection that was not made: the addresses, and why."""
    if len(said) > 1:
        each_why = "; ".join(f"{address}: {why}" for address, why in said)
        return ManagerUnreachable(f"none of the managers answers ({each_why})")
    ((address, why),) = said
    return ManagerUnreachable(
        f"no manager answers at {address}: {why}. Start one with `titan dev`, or name it with "
        "--manager HOST:PORT"
    )


def _pause_seconds(failures: int) -> float:
    return min(PAUSE_MAX_SECONDS, PAUSE_FIRST_SECONDS * 2.0 ** min(failures, 10))


def _busy_pause_seconds(times: int) -> float:
    pause = min(BUSY_PAUSE_MAX_SECONDS, BUSY_PAUSE_FIRST_SECONDS * 2.0 ** min(times, 10))
    return pause * random.uniform(0.5, 1.0)
