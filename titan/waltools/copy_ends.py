"""What a place must be able to do that a log is copied from, or to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import wal
from titan.errors import TitanError


class CopyRefused(TitanError):
    """It cannot be done; the text says why and what to do."""


class Source(Protocol):
    """Where a log is copied from. No manager runs on it while it is open."""

    name: str
    base: wal.Position
    """The position before the first record that is kept."""
    end: wal.Position

    def frames(self, after: wal.Position) -> Iterator[wal.PackedFrame]:
        """Those behind a place that `check_place` has found."""

    def check_place(self, position: wal.Position) -> None:
        """Raises wal.RecordsGone or wal.PositionMismatch unless a frame ends there with it."""

    def snapshots(self) -> list[int]:
        """The LSNs of all that there are."""

    def check_snapshot(self, lsn: int) -> wal.Position | None:
        """Its position; None: it cannot be used. Of what it holds not all need be checked."""

    def snapshot(self, position: wal.Position) -> Iterator[bytes]:
        """The bytes of the file."""

    def slots(self) -> list[wal.Slot]:
        """Where readers are."""

    def close(self) -> None:
        """Lets it go as it is."""


class Target(Protocol):
    """Where it is copied to. No manager starts on it until it is finished."""

    name: str
    end: wal.Position | None
    """None: there is nothing yet."""

    def begin(self, base: wal.Position, origin: str) -> None:
        """From now on it has an empty log that goes on after that position, as a part of a copy."""

    def resume(self, origin: str) -> None:
        """From now on what is there is a part of a copy."""

    def add(self, frames: Sequence[wal.PackedFrame]) -> None:
        """Adds what comes next, durably. Raises CopyRefused."""

    def snapshots(self) -> list[int]:
        """The LSNs of those that are there, whole."""

    def put_snapshot(self, position: wal.Position, chunks: Iterator[bytes]) -> bool:
        """Adds one, durably; False: it cannot be used and is not there."""

    def slots(self) -> list[wal.Slot]:
        """Where readers are by now."""

    def put_slot(self, slot: wal.Slot) -> None:
        """Makes or moves one, durably."""

    def finish(self) -> None:
        """All is there: a manager may start on it."""

    def close(self) -> None:
        """Lets it go; if it is not finished, no manager starts on it and it can be gone on with."""
