"""Certificates that count no more although they have not expired: a list of their serials.

A line of the file is a serial in hexadecimal, as `titan certs list` and `openssl x509 -serial`
print it; what follows a `#` is for people. The file is replaced, and read again when it was.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from titan.paths import Stamp

FILE_NAME: Final = "revoked.txt"
# RFC 5280, 4.1.2.2: at most 20 octets.
_SERIAL: Final = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{1,40})")
_LOG: Final = logging.getLogger(__name__)


def parse_serial(text: str) -> int | None:
    """`2f1a…`, also `0x2F1A` and `2f:1a`; None: it is no serial."""
    found = _SERIAL.fullmatch(text.strip().replace(":", ""))
    return int(found[1], 16) if found else None


def format_serial(serial: int) -> str:
    """In hexadecimal, whole octets, as files of issued certificates are called."""
    digits = f"{serial:x}"
    return digits.zfill(len(digits) + len(digits) % 2)


def parse_list(text: str) -> tuple[frozenset[int], tuple[int, ...]]:
    """The serials, and the numbers of the lines that are none, from 1."""
    serials, broken = set(), []
    for number, line in enumerate(text.split("\n"), 1):
        given = line.partition("#")[0].strip()
        if not given:
            continue
        serial = parse_serial(given)
        if serial is None:
            broken.append(number)
        else:
            serials.add(serial)
    return frozenset(serials), tuple(broken)


class RevokedSerials:
    """The serials in some files. A file that is absent revokes nothing."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._lists = [_List(path) for path in paths]

    def is_revoked(self, serial: int) -> bool:
        """Whether one of the files has it now. A stat for each file."""
        return any(each.has(serial) for each in self._lists)


class _List:
    """One file. Whatever happens to it, nobody is let in again by a mistake.

    A line that is no serial may be one that was mistyped, perhaps by an editor that was closed in
    the middle of the others. So what was revoked before stays revoked until the whole file can be
    read, and what can be read of it is revoked as well. A file that was never read might name
    anybody, so then everybody is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Replaced at once by a new pair, so that threads see what belongs together. The serials
        # are None until the file was read or was absent.
        self._seen: tuple[Stamp | str | None, frozenset[int] | None] = ("not looked at", None)

    def has(self, serial: int) -> bool:
        serials = self._current()
        return serials is None or serial in serials

    def _current(self) -> frozenset[int] | None:
        stamp, serials = self._seen
        try:
            now: Stamp | None = Stamp.of(self._path.stat())
        except FileNotFoundError:
            now = None
        except OSError as error:
            return self._unreadable(str(error))
        if stamp == now:
            return serials
        if now is None:
            if serials:
                _LOG.warning("%s is gone: it revokes nothing any more", self._path)
            serials = frozenset()
        else:
            try:
                with self._path.open("rb") as file:
                    now = Stamp.of(os.fstat(file.fileno()))
                    text = file.read().decode("utf-8", "replace")
            except OSError as error:
                return self._unreadable(str(error))
            found, broken = parse_list(text)
            if broken:
                _LOG.warning(
                    "%s: line %d is no serial; what was revoked before stays revoked",
                    self._path,
                    broken[0],
                )
            serials = found | (serials or frozenset()) if broken else found
        self._seen = now, serials
        return serials

    def _unreadable(self, why: str) -> frozenset[int] | None:
        """What held before, and the reason in the log, once."""
        stamp, serials = self._seen
        if stamp != why:
            held = "everybody is refused" if serials is None else "what it said before holds"
            _LOG.error("the list of revoked certificates cannot be read: %s; %s", why, held)
            self._seen = why, serials
        return serials
