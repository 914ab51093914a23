"""What lies where in a manager's data directory, also when only its log was named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from titan.snapshots import snapshot_directory

DESCRIPTION: Final = "titan.json"
"""What says that a directory is a manager's."""

MANIFEST: Final = "backup.json"
"""What says that it is a backup."""

LOCK: Final = "lock"

_LOG_NAME: Final = "wal"

# Any of them beside a log says that it is a manager's. The lock is there from a first start on,
# the others may be missing from a directory that is damaged.
_BESIDE_A_LOG: Final = (DESCRIPTION, LOCK, "snapshots")


class Places(NamedTuple):
    """The directories that belong together."""

    root: Path
    """The data directory."""
    log: Path
    snapshots: Path
    readers: Path

    @classmethod
    def of(cls, root: Path) -> Places:
        """Those of a data directory."""
        return cls(root, root / _LOG_NAME, snapshot_directory(root), root / "readers")

    @property
    def is_log_alone(self) -> bool:
        """Whether it is no manager's data directory, only a log."""
        return self.log == self.root


def find_places(directory: Path) -> Places:
    """Those of DIR or DIR/wal, whatever name leads there. A log of its own lies in itself.

    Whoever writes must hold the lock of the manager whose log it is, so a log is never told by its
    name alone: `.` and a link are DIR/wal, too, if that is what they are. Of a log that lies
    elsewhere, and in DIR is only a link, nothing tells whose it is but the link.
    """
    if (directory / _LOG_NAME).is_dir():
        return Places.of(directory)
    for root in (directory.parent, Path(os.path.realpath(directory)).parent):
        if _is_log_of(root, directory):
            return Places.of(root)
    if any(directory.glob("*.wal")):
        return Places.of(directory)._replace(log=directory)
    return Places.of(directory)


def _is_log_of(root: Path, directory: Path) -> bool:
    log = root / _LOG_NAME
    is_same = log.is_dir() and directory.is_dir() and log.samefile(directory)
    return is_same and any((root / name).exists() for name in _BESIDE_A_LOG)
