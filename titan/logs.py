"""How Titan's servers log: one line each on stderr, as text or as JSON, in UTC.

    2026-11-20T14:03:11.123Z INFO worker registered worker=w1 address=10.0.0.7:4711 lsn=12
    {"time":"2026-11-20T14:03:11.123Z","level":"INFO","logger":"titan.events",
     "message":"worker registered","worker":"w1","address":"10.0.0.7:4711","lsn":12}

(the second is one line, too.) What is worth a field is what somebody will search for: it goes
into a `LogLine`, `_log.info(LogLine("worker registered", worker=name))`, which becomes text only
when it is written. Sentences for people remain strings.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from math import isfinite
from typing import Final

from titan.escapes import printable

_GONE: Final = "ExecuteBatchError raised in core by servicer method"
LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
# What each line of JSON begins with.
_HEAD: Final = ("time", "level", "logger", "message", "traceback")


class LogLine:
    """A message with fields; as a string they stand behind it as key=value."""

    __slots__ = ("fields", "message")

    def __init__(self, message: str, /, **fields: object) -> None:
        """The message is the action and no sentence about its fields; None is a field left out."""
        assert not any(name in fields for name in _HEAD), fields
        self.message = message
        self.fields = {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        """As in a log of text."""
        return self.message + "".join(
            f" {name}={_shown(value)}" for name, value in self.fields.items()
        )


class LineFormatter(logging.Formatter):
    """A record as one line of text; a traceback, if there is one, on the lines after it.

    Whatever stands in a value, nothing of it looks like a second record: a line that does not begin
    with a space is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        lines = [printable(f"{_time_of(record)} {record.levelname} {record.getMessage()}")]
        if record.exc_info:
            # What was raised may hold somebody's words, too.
            text = self.formatException(record.exc_info)
            lines += [f"  {printable(each)}" for each in text.splitlines()]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """A record as one object on one line: time, level, logger, message, then its fields.

    Numbers and booleans stay what they are, all else is a string, in which what a terminal acts
    upon is escaped as in text: programs print what they read. ASCII, so that no locale breaks it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        line = record.msg if isinstance(record.msg, LogLine) else None
        item: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(line.message if line is not None else record.getMessage()),
        }
        if line is not None:
            item |= {name: _plain(value) for name, value in line.fields.items()}
        if record.exc_info:
            text = self.formatException(record.exc_info)
            item["traceback"] = "\n".join(map(printable, text.splitlines()))
        return json.dumps(item, separators=(",", ":"))


_FORMATTERS: Final[dict[str, type[logging.Formatter]]] = {
    "text": LineFormatter,
    "json": JsonFormatter,
}


def set_up(level: str, format: str = "text") -> None:  # noqa: A002 - as the option is called
    """Log to stderr from `level` (one of LEVELS, any case) upwards, in one of FORMATS.

    Raises ValueError.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"{level!r} is no log level; use one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise ValueError(f"{format!r} is no log format; use one of {', '.join(FORMATS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[format]())
    handler.addFilter(_is_of_use)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether it says something of Titan, or something that is wrong.

    Not what gRPC says, with a traceback, of each call whose caller is gone before its answer:
    whoever tears his connections could fill the log with that. Nor what libraries say of
    themselves at debug level, such as asyncio of its selector.
    """
    if record.name.partition(".")[0] == "titan":
        return True
    return record.levelno > logging.DEBUG and not record.getMessage().startswith(_GONE)


def _time_of(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _shown(value: object) -> str:
    text = str(value)
    if text and not any(character.isspace() or character in '"=' for character in text):
        return printable(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return printable(f'"{escaped}"')


def _plain(value: object) -> object:
    # JSON has no number for what is none, or is infinite.
    is_number = isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value))
    return value if is_number else printable(str(value))
