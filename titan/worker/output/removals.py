"""What output was removed when, so that who asks for it can be told.

Pure but for `load` and `store`. Output goes in the order of its ends, so that it is enough to
know up to which end all had been removed at which time: a few lines, however much was removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from bisect import bisect_left
from pathlib import Path
from typing import Final, NamedTuple

# A line each minute in which something was removed; then every second of the older ones goes.
LINES_MAX: Final = 1_000
_MINUTE_SECONDS: Final = 60


class Removal(NamedTuple):
    """By that time and for that option all was gone that had ended up to then."""

    until_s: int
    at_s: int
    option: str


class Removals:
    """The removals of one worker, in the order of time."""

    def __init__(self, path: Path) -> None:
        """With those that the file tells of; one that can't be read tells of none."""
        self._path = path
        self._lines: list[Removal] = []
        self._is_changed = False
        with contextlib.suppress(OSError, ValueError, TypeError):
            for line in path.read_text(encoding="utf-8").splitlines():
                self._lines.append(Removal(*json.loads(line)))

    def note(self, until_s: int, at_s: int, option: str) -> None:
        """What had ended up to `until_s` is removed."""
        self._is_changed = True
        last = self._lines[-1] if self._lines else Removal(0, 0, "")
        # What was found late had ended before others that are gone.
        removal = Removal(max(until_s, last.until_s), max(at_s, last.at_s), option)
        if removal.at_s // _MINUTE_SECONDS == last.at_s // _MINUTE_SECONDS:
            self._lines[-1] = removal
            return
        self._lines.append(removal)
        if len(self._lines) > LINES_MAX:
            # Those that stay cover for those before them.
            old = LINES_MAX // 2
            self._lines[:old] = self._lines[1:old:2]

    def find(self, end_s: int) -> Removal | None:
        """What removed the output of an attempt that ended then, None: nothing did."""
        place = bisect_left(self._lines, end_s, key=lambda line: line.until_s)
        return self._lines[place] if place < len(self._lines) else None

    def store(self) -> None:
        """Write it down if there is something new. Raises OSError.

        Not synced: after a crash of the machine a sentence lacks its date.
        """
        if not self._is_changed:
            return
        temporary = self._path.with_name(f"{self._path.name}.new")
        text = "".join(f"{json.dumps(line)}\n" for line in self._lines)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self._path)
        self._is_changed = False
