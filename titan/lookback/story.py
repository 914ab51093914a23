"""All that happened to a job, read from the log.

Most records of a log are about other jobs, so one is decoded only if the bytes of the job's
number are in it: that keeps the speed near that of reading the log. It is told in pages, and
a page ends after some seconds too, so that no length of a log is too long for its reader.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.errors import OutOfRange
from titan.lookback.past import READ_RECORDS
from titan.queries.mentions import find_mentions, tells_of
from titan.queries.plain import plain_event
from titan.queries.stories import Story
from titan.rpc.v1 import manager_pb2

# A page ends with the record that reaches the first, with the event that reaches the second, and
# wherever it is when so many seconds went by: whoever waits hears that it goes on.
PAGE_EVENTS: Final = 2_000
PAGE_BYTES: Final = 4 * 1024 * 1024
PAGE_SECONDS: Final = 3.0


def read_story(directory: Path, story: Story) -> Iterator[tuple[int, int, list[ev.Event]]]:
    """LSN, time and events of every record that tells of the job, in order.

    Also of records that tell nothing of it, without events, now and then: how far the log was
    read. Raises wal.WalError, EventError.
    """
    may_tell = find_mentions(story.job_id)
    first_lsn = max(story.after_lsn + 1, find_first_lsn(directory))
    with wal.Reader(directory, from_lsn=first_lsn) as reader:
        while records := reader.read(READ_RECORDS):
            for lsn, payload in records:
                if story.last_lsn and lsn > story.last_lsn:
                    return
                if not may_tell(payload):
                    continue
                time_us, events = ev.decode_record(payload)
                told = [each for each in events if tells_of(each, story.job_id, story.indexes)]
                if told:
                    yield lsn, time_us, told
                    if any(type(each) is ev.JobsForgotten for each in told):
                        return
            yield records[-1].lsn, 0, []


def page_of_story(
    directory: Path, story: Story, *, clock: Callable[[], float] = time.monotonic
) -> tuple[manager_pb2.GetEventsResponse, Story | None]:
    """The next events, and what is left to be told; None: that was all.

    The answer's `lsn` is the last record of which all is told. Raises OutOfRange when nothing is
    left of a story that is older than the log.
    """
    page = manager_pb2.GetEventsResponse(lsn=story.after_lsn)
    size_bytes, end = 0, clock() + PAGE_SECONDS
    for lsn, time_us, events in read_story(directory, story):
        begin = story.told if lsn == story.after_lsn + 1 else 0
        for number, event in enumerate(events[begin:], begin + 1):
            message = event_message(lsn, time_us, event)
            page.events.append(message)
            if len(page.events) == story.limit:
                page.lsn = lsn if number == len(events) else lsn - 1
                return page, None
            size_bytes += message.ByteSize()
            if size_bytes >= PAGE_BYTES and number < len(events):
                page.lsn = lsn - 1
                return page, _rest(story, page, told=number)
        page.lsn = lsn
        if len(page.events) >= PAGE_EVENTS or size_bytes >= PAGE_BYTES or clock() >= end:
            return page, _rest(story, page)
    first_lsn = find_first_lsn(directory)
    if not page.events and not story.has_begun and story.since_lsn + 1 < first_lsn:
        raise OutOfRange(
            f"what the log told of job {story.job_id} is gone: it begins with LSN {first_lsn}"
        )
    return page, None


def _rest(story: Story, page: manager_pb2.GetEventsResponse, told: int = 0) -> Story:
    return story._replace(
        after_lsn=page.lsn,
        told=told,
        limit=story.limit - len(page.events) if story.limit else 0,
        has_begun=story.has_begun or bool(page.events),
    )


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
