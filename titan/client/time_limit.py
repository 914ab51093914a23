"""A time limit as people ask for it: how long, how it ends, and what is told before."""

from __future__ import annotations

import signal
from typing import Final, NamedTuple

from titan import units
from titan.client.requests import GRACE_SECONDS, duration_seconds
from titan.client.signals import signal_number
from titan.errors import InvalidJob
from titan.model import GRACE_MS_MAX, TIME_LIMIT_MS_MAX

_HOW: Final = "write it as USR1@60s, which is a minute before the time limit"


class TimeLimit(NamedTuple):
    """The fields of a JobSpec message."""

    time_limit_ms: int = 0
    grace_ms: int = 0
    end_signal: int = 0
    end_signal_before_ms: int = 0


def time_limit_of(
    limit: float | str | None, grace: float | str | None, signal_before_end: str | None
) -> TimeLimit:
    """Seconds or text with a unit, and `USR1@60s`. Raises InvalidJob.

    The grace counts without a limit too, wherever Titan stops a task by itself: at a deadline, for
    a higher priority, after too many failures.
    """
    grace_ms = _milliseconds(GRACE_SECONDS if grace is None else grace)
    if not 0 <= grace_ms <= GRACE_MS_MAX:
        raise InvalidJob(f"a grace of {grace!r}: give at most a day")
    if limit is None:
        if signal_before_end is not None:
            raise InvalidJob("a signal before the end needs a time limit, such as 1h")
        return TimeLimit(0, grace_ms)
    limit_ms = _milliseconds(limit)
    if not 0 < limit_ms <= TIME_LIMIT_MS_MAX:
        raise InvalidJob(f"a time limit of {limit!r}: give 1ms to 3650d, or none at all")
    if signal_before_end is None:
        return TimeLimit(limit_ms, grace_ms)
    name, _, before = signal_before_end.partition("@")
    if not name or not before:
        raise InvalidJob(f"{signal_before_end!r} has no signal or no time: {_HOW}")
    before_ms = _milliseconds(before)
    if not 0 < before_ms < limit_ms:
        limit_text = units.format_duration(limit_ms / 1000)
        raise InvalidJob(
            f"{signal_before_end!r} has to come between the start and the time limit of "
            f"{limit_text}: give it less time than that, and more than 0"
        )
    return TimeLimit(limit_ms, grace_ms, _warning_number(name), before_ms)


def _milliseconds(duration: float | str) -> int:
    return round(duration_seconds(duration) * 1000)


def _warning_number(name: str) -> int:
    number = signal_number(name, _HOW)
    if number == signal.SIGKILL:
        raise InvalidJob(f"{name!r} is a signal that no task can act on: {_HOW}")
    return number
