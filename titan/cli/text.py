"""Text for people: safe, local, coloured only where colour is wanted."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any, Final, TextIO

# C0 and C1 controls, and the line and paragraph separators: what can move a cursor, break a
# column or speak to the terminal in somebody else's name. Lone surrogates can't be printed.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
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


def printable(text: str) -> str:
    """The text with everything that a terminal would act upon shown as an escape."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    return _ESCAPES.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


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
