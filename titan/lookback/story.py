"""All that happened to a job, read from the log.

Most records of a log are about other jobs, so one is decoded only if the bytes of the job's
number are in it: that keeps the speed near that of reading the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.errors import OutOfRange
from titan.lookback.past import READ_RECORDS, record_time
from titan.model import IndexRange
from titan.queries.mentions import find_mentions, tells_of
from titan.queries.plain import plain_event
from titan.rpc.v1 import manager_pb2

# A page ends with the record that reaches one of them.
PAGE_EVENTS: Final = 2_000
PAGE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A job's story, or a part of it."""

    job_id: int
    indexes: tuple[IndexRange, ...] = ()
    """Empty: all tasks."""
    after_lsn: int = 0
    last_lsn: int = 0
    """0: to the end of the log, or of the job's story."""
    last_time_us: int = 0
    """0: whenever."""


def read_story(directory: Path, wanted: Wanted) -> Iterator[tuple[int, int, list[ev.Event]]]:
    """LSN, time and events of every record that tells of the job, in order.

    Also of records that tell nothing of it, without events, now and then: how far the log was
    read. Raises wal.WalError, EventError.
    """
    may_tell = find_mentions(wanted.job_id)
    first_lsn = max(wanted.after_lsn + 1, find_first_lsn(directory))
    with wal.Reader(directory, from_lsn=first_lsn) as reader:
        while records := reader.read(READ_RECORDS):
            for lsn, payload in records:
                if wanted.last_lsn and lsn > wanted.last_lsn:
                    return
                if not may_tell(payload):
                    continue
                time_us, events = ev.decode_record(payload)
                if wanted.last_time_us and time_us > wanted.last_time_us:
                    return
                told = [each for each in events if tells_of(each, wanted.job_id, wanted.indexes)]
                if told:
                    yield lsn, time_us, told
                    if any(type(each) is ev.JobsForgotten for each in told):
                        return
            last = records[-1]
            if wanted.last_time_us and record_time(last.payload) > wanted.last_time_us:
                return
            yield last.lsn, 0, []


def page_of_story(
    directory: Path, wanted: Wanted, limit: int
) -> tuple[manager_pb2.GetEventsResponse, bool]:
    """The next events, at least those of one record; and whether there may be more.

    The answer's `lsn` is where the next page goes on from. Raises OutOfRange when nothing is
    left of a story that is older than the log.
    """
    page = manager_pb2.GetEventsResponse(lsn=wanted.after_lsn)
    size_bytes = 0
    for lsn, time_us, events in read_story(directory, wanted):
        for event in events:
            message = event_message(lsn, time_us, event)
            size_bytes += len(message.fields)
            page.events.append(message)
            if len(page.events) == limit:
                page.lsn = lsn
                return page, False
        page.lsn = lsn
        if len(page.events) >= PAGE_EVENTS or size_bytes >= PAGE_BYTES:
            return page, True
    first_lsn = find_first_lsn(directory)
    if not page.events and wanted.after_lsn + 1 < first_lsn:
        raise OutOfRange(
            f"what the log told of job {wanted.job_id} is gone: it begins with LSN {first_lsn}"
        )
    return page, False


def find_first_lsn(directory: Path) -> int:
    """The oldest record that is kept. Raises wal.NotALog."""
    segments = wal.list_segments(directory)
    if not segments:
        raise wal.NotALog(str(directory), "no segment in the directory")
    return segments[0].first_lsn


def event_message(lsn: int, time_us: int, event: ev.Event) -> manager_pb2.Event:
    """An event on the wire."""
    return manager_pb2.Event(
        lsn=lsn,
        time_us=time_us,
        event=type(event).__name__,
        fields=json.dumps(plain_event(event)),
    )
