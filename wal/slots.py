"""Reader slots: where each reader is, for the owner of the log, who keeps what they still need.

A slot is a file of 64 bytes that its reader writes and the owner reads: a position header (see
layout.py) with a magic of its own, and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from wal.directory import StrPath, join
from wal.errors import Damaged, WalError
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, read_all, replace_file
from wal.layout import POSITION_HEADER_BYTES, decode_position_header, encode_position_header
from wal.record import Position

SLOT_VERSION = 1
SLOT_MAGIC = b"\x93WALSLT\n"

_SUFFIX = ".slot"
_NAME = re.compile(r"[a-z0-9-]{1,64}")


class Slot(NamedTuple):
    """A reader and the last record that it does not need any more."""

    name: str
    position: Position


def read_slots(
    directory: StrPath,
    *,
    on_warning: Callable[[str], object],
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> list[Slot]:
    """Return the slots in a directory by name; none if it is absent.

    One that cannot be read is left out and warned of: it holds nothing, and its reader must start
    anew if its records go. Raises OSError if the directory cannot be read.
    """
    path = os.fspath(directory)
    try:
        names = sorted(file_system.list_directory(path))
    except FileNotFoundError:
        return []
    slots = []
    for file_name in names:
        name = file_name.removesuffix(_SUFFIX)
        if name == file_name or not _NAME.fullmatch(name):
            continue
        try:
            slots.append(Slot(name, _read_position(file_system, join(path, file_name))))
        except FileNotFoundError:
            continue  # Removed since.
        except (WalError, OSError) as error:
            on_warning(f"a reader's slot that is not heeded: {error}")
    return slots


def write_slot(
    directory: StrPath,
    name: str,
    position: Position,
    *,
    file_system: FileSystem = OS_FILE_SYSTEM,
) -> None:
    """Make or move a slot, durably; the old place holds until the new one does.

    `name`: 1 to 64 of a to z, 0 to 9 and - (ValueError). One writer for each name. Makes the
    directory if it is absent. Raises OSError.
    """
    _check_name(name)
    header = encode_position_header(SLOT_MAGIC, SLOT_VERSION, position)
    path = os.fspath(directory)
    replace_file(file_system, path, name + _SUFFIX, f"{name}.tmp", [header])


def remove_slot(directory: StrPath, name: str, *, file_system: FileSystem = OS_FILE_SYSTEM) -> None:
    """Remove a slot, durably; nothing happens if it is absent. Raises ValueError, OSError."""
    _check_name(name)
    path = os.fspath(directory)
    with suppress(FileNotFoundError):
        file_system.unlink(join(path, name + _SUFFIX))
        file_system.fsync_directory(path)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a slot's name is 1 to 64 of a-z, 0-9 and -, not {name!r}")


def _read_position(file_system: FileSystem, path: str) -> Position:
    fd = file_system.open(path)
    try:
        data = read_all(file_system, fd, POSITION_HEADER_BYTES + 1, 0)
    finally:
        file_system.close(fd)
    position, _ = decode_position_header(data, path, SLOT_MAGIC, SLOT_VERSION, "a reader's slot")
    if len(data) > POSITION_HEADER_BYTES:
        raise Damaged(path, POSITION_HEADER_BYTES, "the end of the file", "more bytes")
    return position
