"""Array SPECs as users write them: `0-99`, `0-99:2`, `1,5,7-9`, `0-999%50`.

Pure. A SPEC becomes ranges, never a list of indexes: ten million tasks are one range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import gcd
from typing import Final

from titan.model import ARRAY_TASKS_MAX, IndexRange

# Every index is exact in JSON readers that know only doubles.
INDEX_MAX: Final = 2**53 - 1
# Longer ones are lists that somebody generated, and should be several jobs.
RANGES_MAX: Final = 10_000

_LIMIT = re.compile(r"[0-9]{1,9}")
_PART = re.compile(r"([0-9]{1,16})(?:-([0-9]{1,16})(?::([0-9]{1,16}))?)?")


def parse_array(text: str) -> tuple[IndexRange, ...]:
    """The ranges of a SPEC, sorted by their start. Raises ValueError with a sentence."""
    parts = text.strip().split(",")
    if len(parts) > RANGES_MAX:
        raise ValueError(f"an array of {len(parts):,} parts; {RANGES_MAX:,} is the most")
    ranges = sorted(_parse_part(part.strip(), text) for part in parts)
    count = sum(len(part.indexes) for part in ranges)
    if count > ARRAY_TASKS_MAX:
        raise ValueError(f"an array of {count:,} tasks; {ARRAY_TASKS_MAX:,} is the most")
    _check_distinct(ranges, text)
    return tuple(ranges)


def parse_array_and_limit(text: str) -> tuple[tuple[IndexRange, ...], int]:
    """The ranges of `0-999%50`, and how many of its tasks may be under way at once; 0: any."""
    spec, percent, limit = text.partition("%")
    ranges = parse_array(spec)
    if not percent:
        return ranges, 0
    if _LIMIT.fullmatch(limit.strip()) is None:
        raise ValueError(f"{text!r} has no limit behind its %: write it as {spec}%50")
    if int(limit) == 0:
        raise ValueError(f"{text!r}: with a limit of 0 no task would ever start")
    return ranges, int(limit)


def parse_indexes(indexes: Iterable[int]) -> tuple[IndexRange, ...]:
    """The same from a `range` or any other indexes."""
    if isinstance(indexes, range):
        ordered = indexes if indexes.step > 0 else indexes[::-1]
        if not ordered:
            raise ValueError("an array of no tasks")
        step = f":{ordered.step}" if ordered.step > 1 else ""
        return parse_array(f"{ordered[0]}-{ordered[-1]}{step}")
    return parse_array(",".join(_runs(sorted(indexes))))


def format_array(ranges: Iterable[IndexRange]) -> str | None:
    """The SPEC of the ranges; None for a plain job."""
    return ",".join(_format_part(part) for part in ranges) or None


def _parse_part(part: str, text: str) -> IndexRange:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{text!r} is no array: write it as 0-99, 0-99:2 or 1,5,7-9")
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if step == 0:
        raise ValueError(f"{text!r}: a step of 0 never gets from {first} to {last}")
    if last < first:
        raise ValueError(f"{text!r}: {last} comes before {first}; write {last}-{first}")
    if last > INDEX_MAX:
        raise ValueError(f"{text!r}: {last} is too high; {INDEX_MAX} is the highest index")
    # The canonical stop: equal sets of indexes are equal ranges.
    last -= (last - first) % step
    return IndexRange(first, last + 1, step if last > first else 1)


def _check_distinct(ranges: list[IndexRange], text: str) -> None:
    """Raises ValueError if two of the sorted ranges share an index."""
    open_ranges: list[IndexRange] = []
    for part in ranges:
        open_ranges = [other for other in open_ranges if other.stop > part.start]
        for other in open_ranges:
            shared = _find_shared(other.indexes, part.indexes)
            if shared is not None:
                raise ValueError(f"{text!r} names index {shared} twice")
        open_ranges.append(part)


def _find_shared(one: range, other: range) -> int | None:
    """The least index in both: the Chinese remainder theorem, for two moduli."""
    divisor = gcd(one.step, other.step)
    if (other.start - one.start) % divisor:
        return None
    modulus = other.step // divisor
    steps = (other.start - one.start) // divisor * pow(one.step // divisor, -1, modulus) % modulus
    shared = one.start + steps * one.step
    least = max(one.start, other.start)
    period = one.step * modulus
    if shared < least:
        shared += -(-(least - shared) // period) * period
    return shared if shared < min(one.stop, other.stop) else None


def _runs(indexes: list[int]) -> list[str]:
    runs: list[str] = []
    start = 0
    for place in range(1, len(indexes) + 1):
        if place == len(indexes) or indexes[place] != indexes[place - 1] + 1:
            first, last = indexes[start], indexes[place - 1]
            runs.append(str(first) if first == last else f"{first}-{last}")
            start = place
    if not runs:
        raise ValueError("an array of no tasks")
    return runs


def _format_part(part: IndexRange) -> str:
    indexes = part.indexes
    if len(indexes) == 1:
        return str(part.start)
    step = f":{part.step}" if part.step > 1 else ""
    return f"{indexes[0]}-{indexes[-1]}{step}"
