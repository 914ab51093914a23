"""The log for people: every event as an object of plain values, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import wal
from titan import events as ev
from titan.manager.directory import log_directory
from titan.queries.plain import plain_event


def dump_events(directory: Path) -> Iterator[dict[str, object]]:
    """Every durable event: lsn, time in Unix seconds, event, then its fields by name.

    Takes a data directory or its folder `wal`; reads a live one too. Raises
    wal.WalError, OSError, and EventError for a record that this version cannot read.
    """
    for lsn, payload in wal.Reader(log_directory(directory)):
        time_us, events = ev.decode_record(payload)
        for event in events:
            yield {
                "lsn": lsn,
                "time": time_us / 1e6,
                "event": type(event).__name__,
                **plain_event(event),
            }
