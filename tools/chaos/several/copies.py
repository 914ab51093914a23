"""Whether every manager's copy of the log is the rows in PostgreSQL, record by record.

The rows are read by SQL and taken apart here; only a copy is read by the reader that every process
of Titan reads a log with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

import wal

_ROWS = "SELECT first_lsn, last_lsn, term, chain, body FROM titan_journal.journal ORDER BY 1"


class JournalRow(NamedTuple):
    """What was flushed at once."""

    first_lsn: int
    last_lsn: int
    term: int
    chain: int
    body: bytes


def read_rows(connection: psycopg.Connection[tuple[Any, ...]]) -> list[JournalRow]:
    """All rows. Raises psycopg.Error."""
    return [JournalRow(*row) for row in connection.execute(_ROWS)]


def check_rows(rows: Iterable[JournalRow]) -> list[str]:
    """What is wrong with the rows themselves, as sentences."""
    found = []
    before: JournalRow | None = None
    for row in rows:
        if before is not None and row.first_lsn != before.last_lsn + 1:
            found.append(f"the row of record {row.first_lsn} follows record {before.last_lsn}")
        if before is not None and row.term < before.term:
            found.append(
                f"the row of record {row.first_lsn} is of term {row.term}, the one before it of "
                f"{before.term}"
            )
        before = row
    return found


def read_records(rows: Iterable[JournalRow]) -> list[tuple[int, bytes]]:
    """All records of the rows, by LSN."""
    records = []
    for row in rows:
        count = row.last_lsn - row.first_lsn + 1
        place = 4 * count
        for number, length in enumerate(struct.unpack_from(f"<{count}I", row.body)):
            records.append((row.first_lsn + number, row.body[place : place + length]))
            place += length
    return records


def read_copy(directory: Path) -> list[tuple[int, bytes]] | str:
    """The same of the log in that data directory, or why it can't be read."""
    try:
        with wal.Reader(directory / "wal") as reader:
            return [(lsn, payload) for lsn, payload in reader]
    except (wal.WalError, OSError) as error:
        return f"its log can't be read: {error}"


def compare_copy(
    copied: list[tuple[int, bytes]] | str, records: list[tuple[int, bytes]], at_least_lsn: int
) -> str:
    """What is other in a copy than in the records of PostgreSQL; empty: nothing.

    These were read after it, so it may end before they do, but has that LSN at least.
    """
    if isinstance(copied, str):
        return copied
    if len(copied) > len(records):
        return f"it has record {copied[-1][0]}, PostgreSQL ends with {len(records)}"
    for wanted, found in zip(records, copied, strict=False):
        if wanted != found:
            return f"its record {found[0]} is not what PostgreSQL has as {wanted[0]}"
    last_lsn = copied[-1][0] if copied else 0
    return "" if last_lsn >= at_least_lsn else f"it ends with record {last_lsn} of {at_least_lsn}"
