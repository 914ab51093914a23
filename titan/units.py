"""Sizes, durations and cpus as people write them, to integers and back.

Pure text and numbers. Every `parse_x` raises ValueError with a sentence that says
what would have been right; a bare number other than 0 is refused where a unit
decides its meaning, because guessing wrong costs a job.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

# Beyond these it is a slip of the keyboard: an exbibyte, a million cpus, a century.
SIZE_BYTES_MAX: Final = 1 << 60
CPUS_MAX: Final = 1_000_000
DURATION_SECONDS_MAX: Final = 100 * 365 * 86_400

_PREFIXES = "KMGTP"
_SIZE_UNITS: Final[dict[str, int]] = (
    {"B": 1}
    | {prefix: 1024**power for power, prefix in enumerate(_PREFIXES, 1)}
    | {f"{prefix}IB": 1024**power for power, prefix in enumerate(_PREFIXES, 1)}
    | {f"{prefix}B": 1000**power for power, prefix in enumerate(_PREFIXES, 1)}
)
_DURATION_UNITS: Final[dict[str, Decimal]] = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}

# ASCII only and short: Decimal takes other digits, exponents, "NaN" and megabytes of zeros.
_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_SIZE = re.compile(rf"({_NUMBER})\s*([A-Za-z]+)")
_BARE = re.compile(_NUMBER)
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|[dhms])")
_CLOCK = re.compile(r"([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])")


def parse_size(text: str) -> int:
    """`4GiB`, `512M`, `1.5G`, `1GB` in bytes: K M G T and KiB … are 1024-based, KB … 1000-based."""
    given = text.strip()
    if match := _SIZE.fullmatch(given):
        unit = _SIZE_UNITS.get(match[2].upper())
        if unit is not None:
            return int(_within(Decimal(match[1]) * unit, SIZE_BYTES_MAX, text, "more than 1024P"))
    if _BARE.fullmatch(given):
        if Decimal(given) == 0:
            return 0
        raise ValueError(f"{text!r} has no unit: add a unit, such as {given}M or {given}G")
    raise ValueError(f"{text!r} is no size: write a number and a unit, such as 512M or 4GiB")


def format_size(size_bytes: int) -> str:
    """The size in the largest 1024-based unit that is not above it, to three decimals: `1.5G`."""
    for power in range(len(_PREFIXES), 0, -1):
        unit = 1024**power
        if abs(size_bytes) >= unit:
            return f"{_decimals(Decimal(size_bytes) / unit)}{_PREFIXES[power - 1]}"
    return f"{size_bytes}B" if size_bytes else "0"


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `2h`, `1d`, `1h30m`, `1:30:00`, `500ms` in seconds."""
    given = text.strip()
    if match := _CLOCK.fullmatch(given):
        seconds = Decimal(int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]))
        return float(_within(seconds, DURATION_SECONDS_MAX, text, "more than a century"))
    if _BARE.fullmatch(given):
        if Decimal(given) == 0:
            return 0.0
        raise ValueError(f"{text!r} has no unit: add a unit, such as {given}s or {given}m")
    parts = _DURATION_PART.findall(given)
    units = [unit for _, unit in parts]
    in_order = units == [unit for unit in _DURATION_UNITS if unit in units]
    if not parts or "".join(number + unit for number, unit in parts) != given or not in_order:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 10m, 2h, 1h30m or 1:30:00")
    total = sum((Decimal(number) * _DURATION_UNITS[unit] for number, unit in parts), Decimal(0))
    return float(_within(total, DURATION_SECONDS_MAX, text, "more than a century"))


def format_duration(seconds: float) -> str:
    """The duration to the millisecond, in the form that is read back: `1h30m`, `0.4s`."""
    if seconds < 0:
        raise ValueError(f"{seconds!r} seconds are no duration")
    milliseconds = round(seconds * 1000)
    whole, rest = divmod(milliseconds, 60_000)
    parts = []
    for unit, minutes in (("d", 1440), ("h", 60), ("m", 1)):
        count, whole = divmod(whole, minutes)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{_decimals(Decimal(rest) / 1000)}s")
    return "".join(parts) or "0s"


def format_age(seconds: float) -> str:
    """The duration in at most two units, for a column: `45s`, `3m20s`, `2d4h`."""
    whole = max(0, int(seconds))
    units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
    for place, (unit, size) in enumerate(units):
        if whole < size and unit != "s":
            continue
        count, rest = divmod(whole, size)
        if rest and place + 1 < len(units):
            smaller, smaller_size = units[place + 1]
            if rest >= smaller_size:
                return f"{count}{unit}{rest // smaller_size}{smaller}"
        return f"{count}{unit}"
    raise AssertionError("seconds take whatever is left")


def parse_cpus(text: str) -> int:
    """`2` or `0.5` in thousandths; three decimals, more than 0."""
    given = text.strip()
    if not _BARE.fullmatch(given):
        raise ValueError(f"{text!r} is no number of cpus: write it as 2 or 0.5")
    milli = Decimal(given) * 1000
    if milli != int(milli):
        raise ValueError(f"{text!r} has too many decimals: cpus are counted in thousandths")
    if not milli:
        raise ValueError("0 cpus would run nothing: ask for a part of one, such as 0.1")
    return int(_within(milli, CPUS_MAX * 1000, text, "more than a million cpus"))


def format_cpus(cpus_milli: int) -> str:
    """Thousandths as people write them: `2`, `0.5`."""
    return _decimals(Decimal(cpus_milli) / 1000)


def _within(value: Decimal, limit: int, text: str, words: str) -> Decimal:
    if value > limit:
        raise ValueError(f"{text!r} is {words}: is there a digit or a unit too many?")
    return value


def _decimals(value: Decimal) -> str:
    text = f"{value:.3f}"
    return text.rstrip("0").rstrip(".")
