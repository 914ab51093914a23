"""From a log to the state: replay."""

from __future__ import annotations

from collections.abc import Iterable

from titan import events as ev
from titan.state.cluster import ClusterState


class UnknownRecord(Exception):
    """A record of the log cannot be replayed; the text says which and what to do."""


def replay(records: Iterable[tuple[int, bytes]], state: ClusterState) -> int:
    """Applies records, as LSN and payload, and returns how many they were.

    Raises UnknownRecord, IllegalEvent.
    """
    count = 0
    decode, apply_record = ev.decode_record, state.apply_record
    for lsn, payload in records:
        try:
            time_us, events = decode(payload)
        except ev.EventError as error:
            raise unknown_record(lsn, error, state) from error
        apply_record(lsn, time_us, events)
        count += 1
    return count


def unknown_record(lsn: int, error: ev.EventError, state: ClusterState) -> UnknownRecord:
    """The sentence for a record that could not be decoded."""
    if isinstance(error, ev.NewerEvent):
        return UnknownRecord(
            f"record {lsn} was written by a later version of Titan ({error}); "
            f"the last to start on this log before it was {state.version or 'unknown'}: "
            "use that version or a later one"
        )
    return UnknownRecord(f"record {lsn}: {error}")
