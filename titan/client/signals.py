"""Signals as people name them: USR1, SIGUSR1, 10. Pure."""

from __future__ import annotations

import signal

from titan.errors import InvalidJob
from titan.model import SIGNAL_MAX


def signal_number(name: str | int, how: str) -> int:
    """The number of a signal that a program can be sent; `how` says how to write it.

    Raises InvalidJob, for SIGSTOP too: who is stopped does not end.
    """
    if isinstance(name, int):
        number = name
    elif name.isascii() and name.isdecimal() and len(name) < 9:
        number = int(name)
    else:
        known = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals}
        number = known.get(name.upper().removeprefix("SIG"), 0)
    if not 1 <= number <= SIGNAL_MAX:
        raise InvalidJob(f"{name!r} is no signal: {how}, or with a number of 1 to {SIGNAL_MAX}")
    if number == signal.SIGSTOP:
        raise InvalidJob(f"{name!r} is a signal that no task can act on: {how}")
    return number
