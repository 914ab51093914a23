"""What managers ask of the journal's server, and what it answers; see `server.py`."""

from __future__ import annotations

from typing import NamedTuple

import wal
from titan.journal.rows import Row


class Append(NamedTuple):
    """Rows are accepted from whoever has the lease's term, behind the last row alone."""

    term: int
    before: wal.Position
    row: Row


class Take(NamedTuple):
    """The lease, if it is over."""

    holder: str
    us: int


class Renew(NamedTuple):
    """The lease goes on for so long from now."""

    term: int
    us: int


class ReadLease(NamedTuple):
    """Who has the lease, and for how long."""


class ReadRows(NamedTuple):
    """The rows behind a position."""

    after: wal.Position | None
    """None: only where the log begins."""


Statement = Append | Take | Renew | ReadLease | ReadRows


class Lease(NamedTuple):
    """A state of the lease, by the server's clock."""

    term: int = 0
    holder: str = ""
    expires_us: int = 0


class Done(NamedTuple):
    """A statement that changes something was done, or changed nothing."""

    is_done: bool
    term: int = 0
    warned: bool = False
    """The wait for the synchronous standby was cancelled: it may be lost yet."""


class LeaseFound(NamedTuple):
    """The lease, as it stands."""

    term: int
    holder: str
    left_us: int


class RowsFound(NamedTuple):
    """Rows in their order, not always all of them."""

    log_id: bytes
    rows: tuple[Row, ...]


class Full(NamedTuple):
    """Nothing was written: there is no room."""


class Diverged(NamedTuple):
    """The position is not in this journal."""
