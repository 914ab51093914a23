"""What lies where in a manager's data directory, also when only its log was named."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from titan.manager.directory import log_directory
from titan.snapshots import snapshot_directory


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
        return cls(root, root / "wal", snapshot_directory(root), root / "readers")


def find_places(directory: Path) -> Places:
    """Those of DIR or DIR/wal. A log of its own lies in itself; it has nothing beside it."""
    log = log_directory(directory)
    if log != directory or directory.name != "wal":
        return Places.of(directory)._replace(log=log)
    return Places.of(directory.parent)._replace(log=directory)
