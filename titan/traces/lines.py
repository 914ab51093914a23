"""Lines of a workload: numbers in the columns, and what is odd about them.

Pure. What can't be used is never an error but a line among the odd ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Generic, TypeVar

from titan.model import TIME_LIMIT_MS_MAX

SECOND_US: Final = 1_000_000
# So many odd lines of a kind are named; the others are counted.
EXAMPLES_MAX: Final = 3
LEFT_OUT: Final = "left out"

# A run may not take longer than a job's time limit, and a submit may come three centuries late:
# all sums of them are far from the ends of what the log has room for.
RUN_US_MAX: Final = TIME_LIMIT_MS_MAX * 1000
SUBMIT_US_MAX: Final = 10_000_000_000 * SECOND_US
# ASCII digits only, and few of them. Some converters write times with decimals.
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,15})\.([0-9]{1,15})")
_SHOWN_MAX: Final = 20

Kind = TypeVar("Kind", bound=StrEnum)


class Unusable(Exception, Generic[Kind]):
    """Of this line no job can be made."""

    def __init__(self, kind: Kind, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


class NotANumber(ValueError):
    """The text goes on after "line 7"."""


class OddLines(Generic[Kind]):
    """How many lines were odd in which way, and the first few of each."""

    def __init__(self, treatment: Mapping[Kind, tuple[str, str]], unit: str = "line") -> None:
        """`treatment` says of each kind what is done with such a line, and what is odd about it."""
        self.counts = dict.fromkeys(treatment, 0)
        self._treatment = treatment
        self._unit = unit
        self._examples: dict[Kind, list[str]] = {each: [] for each in treatment}

    def add(self, kind: Kind, line: int, why: str) -> None:
        """Another one; `why` goes on after "line 7"."""
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES_MAX:
            self._examples[kind].append(f"{self._unit} {line} {why}")

    def sentences(self) -> list[str]:
        """One for each kind that there was."""
        told = []
        for kind, count in self.counts.items():
            if count:
                treatment, text = self._treatment[kind]
                named = [*self._examples[kind], *(["…"] if count > EXAMPLES_MAX else [])]
                lines = self._unit if count == 1 else f"{self._unit}s"
                told.append(f"{count} {lines} {treatment}, {text}: {'; '.join(named)}")
        return told


def integer(text: str, column: str) -> int:
    """Raises NotANumber."""
    if not _INTEGER.fullmatch(text):
        raise _not_a_number(text, column)
    return int(text)


def time_us(text: str, column: str) -> int:
    """Microseconds of a number of seconds. Raises NotANumber."""
    if _INTEGER.fullmatch(text):
        return int(text) * SECOND_US
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise _not_a_number(text, column)
    found_us = int(match[2]) * SECOND_US + int(match[3][:6].ljust(6, "0"))
    return -found_us if match[1] else found_us


def optional_number(text: str) -> int:
    """-1 where it is none, or below 1."""
    return max(int(text), -1) or -1 if _INTEGER.fullmatch(text) else -1


def format_seconds(time_us: int) -> str:
    """`12`, or `12.5` where it is not a whole second."""
    seconds, rest_us = divmod(abs(time_us), SECOND_US)
    sign = "-" if time_us < 0 else ""
    return f"{sign}{seconds}" + (f".{rest_us:06}".rstrip("0") if rest_us else "")


def _not_a_number(text: str, column: str) -> NotANumber:
    shown = text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
    return NotANumber(f"has {shown!r} as its {column}")
