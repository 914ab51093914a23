"""Moments as users name them: of the past to the wire's Moment, to come as microseconds."""

from __future__ import annotations

import time
from datetime import datetime

from titan import units
from titan.errors import InvalidJob
from titan.model import TIME_US_MAX
from titan.rpc.v1 import manager_pb2

Moment = int | float | str | datetime
# Unix seconds, a datetime, or text as for --begin.
TimeToCome = float | str | datetime


def moment(at: Moment | None) -> manager_pb2.Moment | None:
    """A moment of the past: an int is an LSN, a float is Unix seconds, text is as for --at.

    None is now. Raises InvalidJob.
    """
    if at is None:
        return None
    if isinstance(at, str):
        try:
            at = parse_at(at, time.time())
        except ValueError as error:
            raise InvalidJob(str(error)) from error
    if isinstance(at, datetime):
        at = at.timestamp()
    if isinstance(at, int):
        return manager_pb2.Moment(lsn=_within_64_bits(at))
    return manager_pb2.Moment(time_us=_within_64_bits(round(at * 1e6)))


def parse_at(text: str, now: float) -> int | float:
    """An LSN, which is a bare integer, or a time in Unix seconds. Raises ValueError."""
    given = text.strip()
    return int(given) if given.isascii() and given.isdecimal() else units.parse_moment(given, now)


def time_to_come_us(at: TimeToCome, what: str) -> int:
    """Microseconds of Unix time; `what` is what the time is of. Raises InvalidJob."""
    if isinstance(at, str):
        try:
            at = units.parse_time_to_come(at, time.time())
        except ValueError as error:
            raise InvalidJob(f"{what}: {error}") from error
    try:
        seconds = at.timestamp() if isinstance(at, datetime) else at
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidJob(f"{what}: {at} is no time: {error}") from error
    # Neither infinity nor what is not a number is within.
    if not 0 < seconds <= TIME_US_MAX / 1e6:
        raise InvalidJob(f"{what}: {at!r} is no time in Unix seconds up to the year 9999")
    return round(seconds * 1e6)


def _within_64_bits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidJob(f"{number} is no moment")
    return number
