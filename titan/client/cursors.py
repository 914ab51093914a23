"""Where a stream is: what to ask when it is opened again, and what of it is new. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from titan.client.output import OutputChunk
from titan.model import TASK_ENDS
from titan.rpc.v1 import manager_pb2

STREAM_NAMES: Final = {manager_pb2.STDOUT: "stdout", manager_pb2.STDERR: "stderr"}


class WatchCursor:
    """A watch of some jobs, or with no ids of all."""

    def __init__(
        self, job_ids: Iterable[int] = (), after_lsn: int = 0, *, interval_ms: int = 0
    ) -> None:
        """`interval_ms`: at least so long between two answers; what changes is merged."""
        self.job_ids = sorted(set(job_ids))
        self.lsn = after_lsn
        self._interval_ms = interval_ms

    def request(self) -> manager_pb2.WatchJobsRequest:
        """Asks for what changed after the last thing seen."""
        return manager_pb2.WatchJobsRequest(
            job_ids=self.job_ids, after_lsn=self.lsn, interval_ms=self._interval_ms
        )

    def take(self, response: manager_pb2.WatchJobsResponse) -> list[manager_pb2.Job]:
        """The jobs that changed."""
        self.lsn = max(self.lsn, response.lsn)
        return list(response.jobs)


class EventsCursor:
    """What happened to a job.

    An answer's LSN is the last record of which all was told. What came behind it is sent again
    when the stream is opened again, and passed over.
    """

    def __init__(self, request: manager_pb2.GetEventsRequest) -> None:
        self._request = manager_pb2.GetEventsRequest()
        self._request.CopyFrom(request)
        # Of what lies behind the request's LSN: how many events were seen, how many are to come
        # that were.
        self._seen = 0
        self._repeated = 0

    def request(self) -> manager_pb2.GetEventsRequest:
        """Asks for what follows the last record seen."""
        self._repeated = self._seen
        request = manager_pb2.GetEventsRequest()
        request.CopyFrom(self._request)
        return request

    def take(self, response: manager_pb2.GetEventsResponse) -> manager_pb2.GetEventsResponse:
        """The answer with what of it was not seen yet."""
        new = response.events[self._repeated :]
        self._repeated -= len(response.events) - len(new)
        self._seen += len(new)
        if response.lsn > self._request.after_lsn:
            self._request.after_lsn = response.lsn
            self._seen = sum(each.lsn > response.lsn for each in response.events)
            self._repeated = 0
        return manager_pb2.GetEventsResponse(events=new, lsn=response.lsn)


class Ends:
    """Which of some jobs have ended."""

    def __init__(self, job_ids: Iterable[int]) -> None:
        self.open_ids = set(job_ids)
        self.ended: dict[int, manager_pb2.Job] = {}

    def take(self, jobs: Iterable[manager_pb2.Job]) -> list[manager_pb2.Job]:
        """Those of them that have ended now."""
        news = [job for job in jobs if job.job_id in self.open_ids and has_ended(job)]
        for job in news:
            self.open_ids.discard(job.job_id)
            self.ended[job.job_id] = job
        return news


def has_ended(job: manager_pb2.Job) -> bool:
    """Whether its state is one that never changes."""
    return int(job.state) in TASK_ENDS


class OutputCursor:
    """The output of one task: over all its attempts, or of one of them."""

    def __init__(
        self,
        job_id: int,
        index: int,
        *,
        attempt: int = 0,
        streams: Sequence[str] = (),
        tail_lines: int = 0,
        follow: bool = False,
    ) -> None:
        """`attempt` 0 is the latest; no `streams` are both."""
        self.job_id = job_id
        self.index = index
        self._only_attempt = attempt
        self._attempt = attempt
        self._streams = [number for number, name in STREAM_NAMES.items() if name in streams]
        self._tail_lines = tail_lines
        self._follow = follow
        self._offsets: dict[str, int] = {}
        self._is_pinned = False
        self._is_replay = False

    def request(self) -> manager_pb2.StreamOutputRequest:
        """Asks for what follows the last byte seen.

        An offset means something in one attempt only, so that one is named with it.
        """
        self._is_pinned = not self._only_attempt and bool(self._offsets) and not self._is_replay
        offsets = {} if self._is_replay else self._offsets
        return manager_pb2.StreamOutputRequest(
            job_id=self.job_id,
            index=self.index,
            attempt=self._attempt if offsets else self._only_attempt,
            streams=self._streams,
            stdout_offset=offsets.get("stdout", 0),
            stderr_offset=offsets.get("stderr", 0),
            tail_lines=0 if self._offsets else self._tail_lines,
            follow=self._follow,
        )

    def is_finished(self) -> bool:
        """Whether all is said when a stream ends; else it is opened once more.

        One that was resumed within an attempt ends with that attempt. Later ones are found
        by asking for the latest from its beginning, of which what was seen is passed over.
        """
        self._is_replay = self._follow and self._is_pinned
        return not self._is_replay

    def take(self, response: manager_pb2.StreamOutputResponse) -> OutputChunk | None:
        """What of it was not seen yet."""
        stream = STREAM_NAMES.get(response.stream)
        if stream is None or response.attempt < self._attempt or self._is_past(response.attempt):
            return None
        if response.attempt > self._attempt:
            # A new attempt writes new files.
            self._attempt = response.attempt
            self._offsets = {}
        self._attempt = response.attempt
        seen = self._offsets.get(stream, 0)
        data = response.data[max(0, seen - response.offset) :]
        end = response.offset + len(response.data) + response.hole_bytes
        self._offsets[stream] = max(seen, end)
        hole_bytes = end - max(seen, response.offset) if response.hole_bytes else 0
        if not data and hole_bytes <= 0:
            return None
        offset = end - hole_bytes - len(data)
        return OutputChunk(self.index, response.attempt, stream, offset, data, hole_bytes)

    def is_over(self, response: manager_pb2.StreamOutputResponse) -> bool:
        """Whether it belongs to an attempt after the one that was asked for."""
        return self._is_past(response.attempt)

    def _is_past(self, attempt: int) -> bool:
        return 0 < self._only_attempt < attempt


class LineJoiner:
    """Pieces of output to whole lines, each behind a prefix, so that tasks can share a terminal."""

    # A line without an end is let go in pieces of this size.
    LINE_BYTES_MAX: Final = 1 << 20

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The lines that are whole now."""
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) >= self.LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        self._rest = rest
        return b"".join(self._prefix + line + b"\n" for line in lines)

    def finish(self) -> bytes:
        """What is left, with a line's end."""
        rest, self._rest = self._rest, b""
        return self._prefix + rest + b"\n" if rest else b""
