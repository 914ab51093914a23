"""What says that a data directory holds a copy of a journal: others may lead while it lies there.

A manager on files must not write on in it, which would begin a second history of one cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from titan import paths
from titan.errors import TitanError

NAME: Final = "journal.json"
FORMAT: Final = 1


class MarkUnreadable(TitanError):
    """The file is there and cannot be read; the text says why."""


class Mark(NamedTuple):
    """Of which journal the directory has a copy."""

    log_id: bytes
    journal: str
    """What its database is called, without a password."""
    is_partial: bool = False
    """It is being copied to be a directory of its own, and not all of it is there."""


def read_mark(data_directory: Path) -> Mark | None:
    """What the directory says; None: it is no copy of a journal. Raises MarkUnreadable."""
    path = data_directory / NAME
    try:
        found = paths.read_json(path)
        return None if found is None else _parse(found)
    except (OSError, ValueError) as error:
        raise MarkUnreadable(f"{path} cannot be read: {error}") from error


def write_mark(data_directory: Path, mark: Mark) -> None:
    """Says it, durably, unless it is said already. Raises OSError."""
    description = {
        "format": FORMAT,
        "log_id": mark.log_id.hex(),
        "journal": mark.journal,
        "is_partial": mark.is_partial,
    }
    path = data_directory / NAME
    try:
        is_there = paths.read_json(path) == description
    except ValueError:
        is_there = False
    if not is_there:
        paths.write_json(path, description)


def _parse(found: dict[str, Any]) -> Mark:
    if found.get("format") != FORMAT:
        raise ValueError(f"format {found.get('format')}, this version of Titan knows {FORMAT}")
    try:
        return Mark(
            bytes.fromhex(found["log_id"]), str(found["journal"]), bool(found["is_partial"])
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is not whole: {error!r}") from error
