"""Sizes, durations, cpus and moments as people write them, to numbers and back.

Pure text and numbers; what time it is, the caller says. Every `parse_x` raises
ValueError with a sentence that says what would have been right; a bare number other
than 0 is refused where a unit decides its meaning, because guessing wrong costs a job.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
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
# In microseconds, the longest first.
_DURATION_UNITS: Final[dict[str, int]] = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}

# ASCII digits only, and not megabytes of them. `re` compiles a pattern when it is first used: all
# of them take longer than a short command may.
_NUMBER = r"(?:[0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})"
_SIZE = rf"({_NUMBER})\s*([A-Za-z]+)"
_BARE = _NUMBER
_DURATION_PART = rf"({_NUMBER})(ms|[dhms])"
_CLOCK = r"([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_OF_DAY = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_MOMENT = rf"{_DATE}(?:[T ]{_TIME_OF_DAY}\s?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?)?"
_TODAY = _TIME_OF_DAY
# From 1973 on and before 5138: fewer digits are a slip, more are milliseconds.
_UNIX_SECONDS = r"[0-9]{9,11}(?:\.[0-9]{1,9})?"
_BEFORE_NOW = r"-\s*(.+)|(.+?)\s+ago"
_AFTER_NOW = r"(?:now\s*)?\+\s*(.+)"


def parse_size(text: str) -> int:
    """`4GiB`, `512M`, `1.5G`, `1GB` in bytes: K M G T and KiB … are 1024-based, KB … 1000-based."""
    given = text.strip()
    if match := re.fullmatch(_SIZE, given):
        unit = _SIZE_UNITS.get(match[2].upper())
        if unit is not None:
            return _within(_times(match[1], unit)[0], SIZE_BYTES_MAX, text, "more than 1024P")
    if re.fullmatch(_BARE, given):
        if _times(given, 1) == (0, 0):
            return 0
        raise ValueError(f"{text!r} has no unit: add a unit, such as {given}M or {given}G")
    raise ValueError(f"{text!r} is no size: write a number and a unit, such as 512M or 4GiB")


def format_size(size_bytes: int) -> str:
    """The size in the largest 1024-based unit that is not above it, to three decimals: `1.5G`."""
    for power in range(len(_PREFIXES), 0, -1):
        unit = 1024**power
        if abs(size_bytes) >= unit:
            return f"{_thousandths(round(size_bytes * 1000 / unit))}{_PREFIXES[power - 1]}"
    return f"{size_bytes}B" if size_bytes else "0"


def parse_duration(text: str) -> float:
    """`90s`, `10m`, `2h`, `1d`, `1h30m`, `1:30:00`, `500ms` in seconds."""
    given = text.strip()
    if match := re.fullmatch(_CLOCK, given):
        seconds = int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
        return float(_within(seconds, DURATION_SECONDS_MAX, text, "more than a century"))
    if re.fullmatch(_BARE, given):
        if _times(given, 1) == (0, 0):
            return 0.0
        raise ValueError(f"{text!r} has no unit: add a unit, such as {given}s or {given}m")
    parts = re.findall(_DURATION_PART, given)
    units = [unit for _, unit in parts]
    in_order = units == [unit for unit in _DURATION_UNITS if unit in units]
    if not parts or "".join(number + unit for number, unit in parts) != given or not in_order:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 10m, 2h, 1h30m or 1:30:00")
    total_us = sum(_times(number, _DURATION_UNITS[unit])[0] for number, unit in parts)
    return _within(total_us, DURATION_SECONDS_MAX * 1_000_000, text, "more than a century") / 1e6


def format_duration(seconds: float) -> str:
    """The duration to the millisecond, in the form that is read back: `1h30m`, `0.4s`."""
    if seconds < 0:
        raise ValueError(f"{seconds!r} seconds are no duration")
    minutes, rest_ms = divmod(round(seconds * 1000), 60_000)
    parts = []
    for unit, size in (("d", 1440), ("h", 60), ("m", 1)):
        count, minutes = divmod(minutes, size)
        if count:
            parts.append(f"{count}{unit}")
    if rest_ms:
        parts.append(f"{_thousandths(rest_ms)}s")
    return "".join(parts) or "0s"


def format_age(seconds: float) -> str:
    """The duration in at most two units, for a column: `45s`, `3m20s`, `2d4h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    for unit, size, smaller, smaller_size in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= size:
            count, rest = divmod(whole, size)
            rest //= smaller_size
            return f"{count}{unit}{rest}{smaller}" if rest else f"{count}{unit}"
    raise AssertionError("a minute or more has minutes")


def parse_moment(text: str, now: float) -> float:
    """A moment in Unix seconds; `now` is what "ago" and a time of day count from.

    `2026-11-20 14:02[:03]`, `2026-11-20` and `14:02` are local time, the latter the last time
    that it was so late; ISO 8601 with a zone, Unix seconds, `1h ago`, `-1h` and `now` too.
    """
    given = text.strip()
    if given == "now":
        return now
    if re.fullmatch(_UNIX_SECONDS, given):
        return float(given)
    if match := re.fullmatch(_BEFORE_NOW, given):
        return now - parse_duration(match[1] or match[2])
    moment = _find_calendar_moment(text, now, days=-1)
    if moment is None:
        raise ValueError(
            f"{text!r} is no time: write it as 2026-11-20 14:02, 14:02, 1h ago or Unix seconds"
        )
    return moment


def parse_since(text: str, now: float) -> float:
    """The same, where `7d` is a week ago, too."""
    given = text.strip()
    # Nothing else ends so.
    if given[-1:] in "dhms" and given[:1].isdigit():
        return now - parse_duration(given)
    return parse_moment(given, now)


def parse_time_to_come(text: str, now: float) -> float:
    """A moment to come in Unix seconds; what has passed is not refused here.

    `now+1h` and `2h` count from `now`, `16:00` is the next time that it is so late,
    `2026-12-01T12:00` and `2026-12-01` (its beginning) are local time; ISO 8601 with a zone and
    Unix seconds too.
    """
    given = text.strip()
    if given == "now":
        return now
    if re.fullmatch(_UNIX_SECONDS, given):
        return float(given)
    if match := re.fullmatch(_AFTER_NOW, given):
        return now + parse_duration(match[1])
    moment = _find_calendar_moment(text, now, days=1)
    if moment is not None:
        return moment
    if re.fullmatch(_BARE, given) or re.fullmatch(_CLOCK, given) or re.match(_DURATION_PART, given):
        return now + parse_duration(given)
    raise ValueError(
        f"{text!r} is no time: write it as now+1h, 2h, 16:00, 2026-12-01 or 2026-12-01T12:00"
    )


def _find_calendar_moment(text: str, now: float, *, days: int) -> float | None:
    """A date, or a time of day: the last one up to now, with days 1 the first one after it."""
    given = text.strip()
    try:
        if re.fullmatch(_TODAY, given):
            today = datetime.fromtimestamp(now).astimezone().date().isoformat()
            moment = datetime.fromisoformat(f"{today}T{given}")
            has_passed = moment.timestamp() <= now
            if has_passed if days > 0 else not has_passed:
                moment += timedelta(days=days)
            return moment.timestamp()
        if re.fullmatch(_MOMENT, given):
            return datetime.fromisoformat(given.replace(" ", "T", 1).replace(" ", "")).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is no time: {error}") from error
    return None


def parse_cpus(text: str) -> int:
    """`2` or `0.5` in thousandths; three decimals, more than 0."""
    given = text.strip()
    if not re.fullmatch(_BARE, given):
        raise ValueError(f"{text!r} is no number of cpus: write it as 2 or 0.5")
    milli, rest = _times(given, 1000)
    if rest:
        raise ValueError(f"{text!r} has too many decimals: cpus are counted in thousandths")
    if not milli:
        raise ValueError("0 cpus would run nothing: ask for a part of one, such as 0.1")
    return _within(milli, CPUS_MAX * 1000, text, "more than a million cpus")


def parse_cpus_limit(text: str) -> int:
    """As `parse_cpus`; `none` and `0` are 0, which is no limit."""
    return 0 if text.strip() in ("none", "0") else parse_cpus(text)


def format_cpus(cpus_milli: int) -> str:
    """Thousandths as people write them: `2`, `0.5`."""
    return _thousandths(cpus_milli)


def _times(number: str, unit: int) -> tuple[int, int]:
    """A decimal number times a unit: the whole, and what is left, which is 0 if it is exact."""
    whole, _, decimals = number.partition(".")
    scale: int = 10 ** len(decimals)
    return divmod(int(whole + decimals) * unit, scale)


def _within(value: int, limit: int, text: str, words: str) -> int:
    if value > limit:
        raise ValueError(f"{text!r} is {words}: is there a digit or a unit too many?")
    return value


def _thousandths(value: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), 1000)
    return f"{sign}{whole}.{rest:03}".rstrip("0").rstrip(".")
