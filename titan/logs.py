"""How Titan's servers log: one line each on stderr, in UTC, key=value at the end.

    2026-11-20T14:03:11.123Z INFO registered worker_id=5f0c session=77ab

Values go into `extra={"fields": {…}}`, or simply into the message: what is worth a field
is what somebody will search for.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from titan.escapes import printable

_GONE: Final = "ExecuteBatchError raised in core by servicer method"
LEVELS: Final = ("debug", "info", "warning", "error")


class LineFormatter(logging.Formatter):
    """A record as one line; a traceback, if there is one, on the lines after it.

    Whatever stands in a value, nothing of it looks like a second record: a line that does not begin
    with a space is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{seconds}.{int(record.msecs):03d}Z {record.levelname} {record.getMessage()}"
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line += "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        lines = [printable(line)]
        if record.exc_info:
            # What was raised may hold somebody's words, too.
            text = self.formatException(record.exc_info)
            lines += [f"  {printable(each)}" for each in text.splitlines()]
        return "\n".join(lines)


def set_up(level: str) -> None:
    """Log to stderr from `level` (one of LEVELS, any case) upwards. Raises ValueError."""
    if level.lower() not in LEVELS:
        raise ValueError(f"{level!r} is no log level; use one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.addFilter(_is_of_use)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def _is_of_use(record: logging.LogRecord) -> bool:
    """Not what gRPC says, with a traceback, of each call whose caller is gone before its answer.

    Whoever tears his connections could fill the log with that.
    """
    is_own = record.name.partition(".")[0] == "titan"
    return is_own or not record.getMessage().startswith(_GONE)


def _shown(value: object) -> str:
    text = str(value)
    if text and not any(character.isspace() or character in '"=' for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
