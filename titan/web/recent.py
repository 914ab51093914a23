"""The jobs that changed of late, each as it was last: what viewers have yet to be told. Pure.

Viewers keep nothing but a position. Who is slow finds fewer changes, never old ones, and takes no
memory meanwhile; who comes back goes on where he was, unless so much happened since that it is
forgotten here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

JOBS_MAX: Final = 20_000
BYTES_MAX: Final = 64 << 20
# Of one event: a page takes it at a blow.
EVENT_JOBS_MAX: Final = 500
EVENT_BYTES_MAX: Final = 1 << 20
# For viewers at the same position.
KEPT_EVENTS_MAX: Final = 16


class Position(NamedTuple):
    """A place in the log of a cluster: what a viewer saw last."""

    cluster_id: str
    lsn: int

    def __str__(self) -> str:
        return f"{self.cluster_id}-{self.lsn}"


def parse_position(text: str) -> Position | None:
    """The position of an event's id; None: it is none."""
    cluster_id, _, lsn = text.rpartition("-")
    if not cluster_id or not (lsn.isascii() and lsn.isdecimal() and len(lsn) < 20):
        return None
    return Position(cluster_id, int(lsn))


class _Change(NamedTuple):
    lsn: int
    job: bytes


class Recent:
    """Changes of one cluster's jobs, as JSON, up to a position."""

    def __init__(
        self,
        position: Position,
        *,
        jobs_max: int = JOBS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """Nothing has changed since."""
        self._cluster_id = position.cluster_id
        self._jobs_max, self._bytes_max = jobs_max, bytes_max
        self.lsn = position.lsn
        """All changes up to it are here, or were."""
        self.forgotten_lsn = position.lsn
        """Of those up to it some are not here any more."""
        self._changes: OrderedDict[int, _Change] = OrderedDict()
        self._size_bytes = 0
        # Most viewers are at the same position.
        self._events: dict[int, bytes] = {}

    @property
    def position(self) -> Position:
        """Where it stands."""
        return Position(self._cluster_id, self.lsn)

    def put(self, jobs: Iterable[tuple[int, bytes]], lsn: int) -> None:
        """These jobs, by number, are so after that record. It is not before the last one."""
        assert lsn >= self.lsn
        for job_id, job in jobs:
            before = self._changes.pop(job_id, None)
            self._size_bytes += len(job) - (len(before.job) if before else 0)
            self._changes[job_id] = _Change(lsn, job)
        while len(self._changes) > self._jobs_max or self._size_bytes > self._bytes_max:
            _, oldest = self._changes.popitem(last=False)
            self._size_bytes -= len(oldest.job)
            self.forgotten_lsn = oldest.lsn
        self.lsn = lsn
        self._events.clear()

    def events_after(self, lsn: int) -> Iterable[bytes] | None:
        """What changed after that, as server-sent events of bounded size; None: it is forgotten.

        Costs what there is to be told. Where that is much each event is made once it is wanted:
        as many viewers as there are may be at as many positions, and be slow.
        """
        if lsn < self.forgotten_lsn:
            return None
        kept = self._events.get(lsn)
        if kept is not None:
            return (kept,)
        parts = _parts_of(self._jobs_after(lsn))
        if len(parts) == 1 and len(self._events) < KEPT_EVENTS_MAX:
            (kept,) = _events_of(parts, self.position)
            self._events[lsn] = kept
            return (kept,)
        return _events_of(parts, self.position)

    def _jobs_after(self, lsn: int) -> list[bytes]:
        found = []
        for change in reversed(self._changes.values()):
            if change.lsn <= lsn:
                break
            found.append(change.job)
        return found[::-1]


def event(name: str, data: bytes, position: Position | None = None) -> bytes:
    """A server-sent event: https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    head = f"id: {position}\n" if position is not None else ""
    return f"event: {name}\n{head}data: ".encode() + data + b"\n\n"


def jobs_events(jobs: list[bytes], position: Position) -> list[bytes]:
    """Jobs as they are at that position. Only the last event moves who reads them there."""
    return list(_events_of(_parts_of(jobs), position))


def _parts_of(jobs: list[bytes]) -> list[list[bytes]]:
    """The jobs of each event."""
    parts: list[list[bytes]] = []
    size_bytes = 0
    for job in jobs:
        is_full = not parts or len(parts[-1]) == EVENT_JOBS_MAX
        if is_full or size_bytes + len(job) > EVENT_BYTES_MAX:
            parts.append([])
            size_bytes = 0
        parts[-1].append(job)
        size_bytes += len(job)
    return parts


def _events_of(parts: list[list[bytes]], position: Position) -> Iterator[bytes]:
    for number, part in enumerate(parts, 1):
        yield event(
            "jobs",
            b'{"lsn":%d,"jobs":[%b]}' % (position.lsn, b",".join(part)),
            position if number == len(parts) else None,
        )
