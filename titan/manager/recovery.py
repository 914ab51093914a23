"""From a log to the state: replay."""

from __future__ import annotations

from collections.abc import Iterable

import wal
from titan import events as ev
from titan.state.cluster import ClusterState


class UnknownRecord(Exception):
    """A record of the log cannot be replayed; the text says which and what to do."""


def replay(records: Iterable[wal.Record], state: ClusterState) -> int:
    """Applies the records to the state and returns how many they were. Raises UnknownRecord."""
    count = 0
    decode, apply_record = ev.decode_record, state.apply_record
    for lsn, payload in records:
        try:
            time_us, events = decode(payload)
        except ev.NewerEvent as error:
            raise UnknownRecord(
                f"record {lsn} was written by a later version of Titan ({error}); "
                f"the last to start on this log before it was {state.version or 'unknown'}: "
                "use that version or a later one"
            ) from error
        except ev.EventError as error:
            raise UnknownRecord(f"record {lsn}: {error}") from error
        apply_record(lsn, time_us, events)
        count += 1
    return count
