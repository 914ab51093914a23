"""Attempts: those under way as objects, those that ended packed into bytes.

A job of a million tasks remembers every attempt of each, so an ended one is a fixed
record in one bytearray per job:

    offset  size  field
         0     4  index
         4     4  attempt
         8     4  worker number
        12     1  state
        13     1  reason
        14     1  signal, 0 for none
        15     4  exit code, -1 for none
        19     8  start, microseconds since the epoch, 0 for never
        27     8  end
        35     8  CPU user time, microseconds
        43     8  CPU system time
        51     8  largest resident set, bytes
        59        (end)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from titan.model import SIGTERM, State
from titan.state.job_class import JobClass

_RECORD: Final = struct.Struct("<IIIBBBiqqqqq")
_KEY: Final = struct.Struct("<II")
_INDEX: Final = struct.Struct("<I")
# Of a state 1 if an attempt did not complete, and of a byte 1 if it is not that value.
_NOT_COMPLETED: Final = bytes(int(state != State.COMPLETED) for state in range(256))
_NOT_ONE: Final = bytes(int(value != 1) for value in range(256))
_NOT_ZERO: Final = bytes(int(value != 0) for value in range(256))
_U32_MAX: Final = (1 << 32) - 1
assert _RECORD.size == 59


class Attempt:
    """An attempt under way. Changed by the state's apply alone."""

    __slots__ = (
        "ahead",
        "assigned_us",
        "attempt",
        "cancel_grace_ms",
        "cancel_signal",
        "index",
        "job_class",
        "job_id",
        "limit_changed",
        "limit_ms",
        "preempt_grace_ms",
        "recall_requested",
        "since_us",
        "start_us",
        "state",
        "suspended",
        "was_suspended",
        "worker",
    )

    def __init__(
        self,
        job_class: JobClass,
        job_id: int,
        index: int,
        attempt: int,
        worker: int,
        ahead: bool,
        assigned_us: int,
    ) -> None:
        # That of its job when it was assigned; an update may give the job another one.
        self.job_class = job_class
        self.limit_ms = job_class.limit_ms
        # Whether its worker may know another one, since an update changed it.
        self.limit_changed = False
        self.job_id = job_id
        self.index = index
        self.attempt = attempt
        self.worker = worker
        # Whether it waits behind a slot instead of having one.
        self.ahead = ahead
        self.assigned_us = assigned_us
        # When it began to use its time limit by the manager's clock: until it starts, now.
        self.since_us = assigned_us
        self.state = State.SCHEDULED
        self.start_us = 0
        # -1: no cancel was asked for.
        self.cancel_grace_ms = -1
        # What comes before that grace.
        self.cancel_signal = SIGTERM
        self.recall_requested = False
        # -1: it is not to be stopped for its task to wait again.
        self.preempt_grace_ms = -1
        # Whether it stands still, without its cpus, and whether it may ever have.
        self.suspended = False
        self.was_suspended = False

    @property
    def limit_end_us(self) -> int:
        """When its time limit is used up, its grace included; 0: it has none."""
        return self.since_us + self.limit_ms * 1000 if self.limit_ms else 0

    @property
    def preempted(self) -> bool:
        """Whether it is being stopped, and its task then waits again."""
        return self.preempt_grace_ms >= 0

    @property
    def is_given_up(self) -> bool:
        """Whether it is to end, or to come back, by somebody's wish.

        A recall that came too late asks for nothing any more: what runs is let be.
        """
        recalled = self.recall_requested and self.state is State.SCHEDULED
        return recalled or self.cancel_requested or self.preempted

    @property
    def cancel_requested(self) -> bool:
        """Whether it is to end CANCELLED however it ends."""
        return self.cancel_grace_ms >= 0


class EndedAttempt(NamedTuple):
    """An attempt that ended, unpacked."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    worker: int
    state: int
    reason: int
    signal: int
    exit_code: int
    start_us: int
    end_us: int
    cpu_user_us: int
    cpu_system_us: int
    max_rss_bytes: int


# Of an ended attempt's fields, in the order of EndedAttempt: what is appended to a log's `data`.
pack_ended: Final = _RECORD.pack


class AttemptLog:
    """The ended attempts of a job in the order of their ends."""

    __slots__ = ("data", "details")

    def __init__(self) -> None:
        self.data = bytearray()
        # The few that have more to say, by (index, attempt).
        self.details: dict[tuple[int, int], str] | None = None

    def __len__(self) -> int:
        return len(self.data) // _RECORD.size

    def __iter__(self) -> Iterator[EndedAttempt]:
        return map(EndedAttempt._make, _RECORD.iter_unpack(self.data))

    def note_detail(self, index: int, attempt: int, detail: str) -> None:
        """What is to be said of one that was added to `data`."""
        if self.details is None:
            self.details = {}
        self.details[index, attempt] = detail

    def outcomes(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Index and state of those that did not complete at the first attempt, in their order.

        Of the records from that one to below that one. Costs by those, and little by the others.
        """
        first, end, size = start * _RECORD.size, stop * _RECORD.size, _RECORD.size
        columns = (
            self.data[first + 12 : end : size].translate(_NOT_COMPLETED),
            # The two lower bytes of the number of the attempt; who makes more than that fails.
            self.data[first + 4 : end : size].translate(_NOT_ONE),
            self.data[first + 5 : end : size].translate(_NOT_ZERO),
        )
        numbers = (int.from_bytes(column, "little") for column in columns)
        marks = 0
        for number in numbers:
            marks |= number
        marked = marks.to_bytes(len(columns[0]), "little")
        found = []
        at = marked.find(1)
        while at >= 0:
            (index,) = _INDEX.unpack_from(self.data, first + at * size)
            found.append((index, self.data[first + at * size + 12]))
            at = marked.find(1, at + 1)
        return found

    def find(self, index: int, attempt: int) -> EndedAttempt | None:
        """That one, None when it is not there. Costs a search through the bytes."""
        if not (0 <= index <= _U32_MAX and 0 <= attempt <= _U32_MAX):
            return None
        offset = self._find_offset(index, attempt)
        return None if offset < 0 else EndedAttempt._make(_RECORD.unpack_from(self.data, offset))

    def find_end_before(self, index: int, attempt: int) -> int:
        """When the attempt at that task before it ended that was not RECALLED, in microseconds.

        0: there was none. Costs a search from the back, by what ended since.
        """
        before = self._before(index, attempt)
        return next((each.end_us for each in before if each.state != State.RECALLED), 0)

    def has_started_before(self, index: int, attempt: int) -> bool:
        """Whether an attempt at that task before it started. Costs as much."""
        return any(each.start_us for each in self._before(index, attempt))

    def _before(self, index: int, attempt: int) -> Iterator[EndedAttempt]:
        """Those at that task before it, the last first."""
        for number in range(attempt - 1, 0, -1):
            key = _KEY.pack(index, number)
            offset = self.data.rfind(key)
            while offset >= 0 and offset % _RECORD.size:
                offset = self.data.rfind(key, 0, offset + len(key) - 1)
            if offset >= 0:
                yield EndedAttempt._make(_RECORD.unpack_from(self.data, offset))

    def last(self) -> EndedAttempt:
        """The one that ended last. Raises struct.error when there is none."""
        return EndedAttempt._make(
            _RECORD.unpack_from(self.data, max(len(self.data) - _RECORD.size, 0))
        )

    def of_index(self, index: int) -> list[EndedAttempt]:
        """All of one task, in the order of their ends."""
        if not 0 <= index <= _U32_MAX:
            return []
        key = struct.pack("<I", index)
        found = []
        offset = self._find_aligned(key, 0)
        while offset >= 0:
            found.append(EndedAttempt._make(_RECORD.unpack_from(self.data, offset)))
            offset = self._find_aligned(key, offset + _RECORD.size)
        return found

    def detail(self, index: int, attempt: int) -> str:
        """Its sentence, empty when there is none."""
        return (self.details or {}).get((index, attempt), "")

    def remove(self, index: int, attempt: int) -> None:
        """Takes one out: it goes on after all. Raises KeyError."""
        offset = self._find_offset(index, attempt)
        if offset < 0:
            raise KeyError((index, attempt))
        del self.data[offset : offset + _RECORD.size]
        if self.details:
            self.details.pop((index, attempt), None)
            self.details = self.details or None

    def _find_offset(self, index: int, attempt: int) -> int:
        return self._find_aligned(_KEY.pack(index, attempt), 0)

    def _find_aligned(self, key: bytes, start: int) -> int:
        offset = self.data.find(key, start)
        while offset >= 0 and offset % _RECORD.size:
            offset = self.data.find(key, offset + 1)
        return offset
