"""Resource limits as people write them: `nofile=1024:4096`, `core=0`, `fsize=10G`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from titan import units
from titan.errors import InvalidJob
from titan.model import ULIMITS

Ulimits = tuple[tuple[str, int, int], ...]
Value = int | str | tuple[int | str, int | str]

# In bytes, seconds and microseconds; all others are counts.
_SIZES: Final = frozenset({"as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"})
_SECONDS: Final = frozenset({"cpu"})
_MICROSECONDS: Final = frozenset({"rttime"})
_UNLIMITED: Final = "unlimited"


def ulimits_of(wanted: Mapping[str, Value]) -> Ulimits:
    """(name, soft, hard) for each, sorted; -1 is unlimited. Raises InvalidJob.

    A value alone is both. As text it is read like `parse_ulimits` does.
    """
    pairs = {
        name: value if isinstance(value, tuple) else (value, value)
        for name, value in wanted.items()
    }
    return tuple(sorted(_limit(name, *pair) for name, pair in pairs.items()))


def parse_ulimits(texts: Iterable[str]) -> dict[str, Value]:
    """From NAME=SOFT[:HARD]; the last of a name counts. Raises InvalidJob."""
    wanted: dict[str, Value] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise InvalidJob(
                f"{text!r} is no limit: write it as NAME=SOFT[:HARD], such as nofile=1024:4096"
            )
        soft, colon, hard = value.partition(":")
        wanted[name] = (soft, hard if colon else soft)
    return wanted


def format_ulimits(ulimits: Ulimits) -> list[str]:
    """As they are written: `nofile=1024:4096`."""
    return [
        f"{name}={_text(name, soft)}" + (f":{_text(name, hard)}" if hard != soft else "")
        for name, soft, hard in ulimits
    ]


def _limit(name: str, soft: int | str, hard: int | str) -> tuple[str, int, int]:
    if name not in ULIMITS:
        raise InvalidJob(f"{name!r} is no resource limit; there are: {', '.join(ULIMITS)}")
    low, high = _number(name, soft), _number(name, hard)
    if high != -1 and not 0 <= low <= high:
        raise InvalidJob(f"{name}={soft}:{hard} has a soft limit above the hard one")
    return name, low, high


def _number(name: str, value: int | str) -> int:
    if isinstance(value, int):
        if value < -1:
            raise InvalidJob(f"{name}={value}: a limit is 0 or more, or -1 for none")
        return value
    if value in (_UNLIMITED, "-1"):
        return -1
    try:
        if name in _SIZES:
            return units.parse_size(value)
        if name in _SECONDS:
            return round(units.parse_duration(value))
        if name in _MICROSECONDS:
            return round(units.parse_duration(value) * 1e6)
    except ValueError as error:
        raise InvalidJob(f"{name}={value}: {error}, or {_UNLIMITED}") from error
    if value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    raise InvalidJob(f"{name}={value}: {value!r} is no number; write one, or {_UNLIMITED}")


def _text(name: str, value: int) -> str:
    if value < 0:
        return _UNLIMITED
    if name in _SIZES:
        return units.format_size(value)
    if name in _SECONDS:
        return units.format_duration(value)
    if name in _MICROSECONDS:
        return units.format_duration(value / 1e6)
    return str(value)
