"""Moments of the past as users name them, to the wire's Moment."""

from __future__ import annotations

import time
from datetime import datetime

from titan import units
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2

Moment = int | float | str | datetime


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


def _within_64_bits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise InvalidJob(f"{number} is no moment")
    return number
