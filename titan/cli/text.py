"""Text for people: safe, local, coloured only where colour is wanted."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Final, TextIO

from titan.escapes import printable

__all__ = [
    "coloured_state",
    "is_terminal",
    "local_time",
    "print_json",
    "printable",
    "wants_colour",
]

_COLOURS: Final = {
    "PENDING": 33,
    "SCHEDULED": 33,
    "RUNNING": 36,
    "COMPLETED": 32,
    "FAILED": 31,
    "CANCELLED": 35,
    "LOST": 31,
    "HEALTHY": 32,
    "UNHEALTHY": 33,
    "DISCONNECTED": 31,
}


def local_time(time_seconds: float | None) -> str:
    """Local time to the second; "-" while there is none."""
    if time_seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_seconds))


def is_terminal(stream: TextIO) -> bool:
    """Whether people look at it, with a terminal that can more than print."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def wants_colour(stream: TextIO) -> bool:
    """On a terminal, unless NO_COLOR is set: https://no-color.org."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def coloured_state(text: str, stream: TextIO) -> str:
    """A state, possibly with words behind it, in its colour."""
    code = _COLOURS.get(text.split(maxsplit=1)[0] if text.strip() else "")
    if code is None or not wants_colour(stream):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """One line for programs, indented for people. ASCII: it passes through any terminal."""
    print(json.dumps(value, indent=2 if sys.stdout.isatty() else None))
