"""Data directories of managers with a known history in small segments."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

import wal
from titan import events as ev
from titan.manager.directory import write_description
from titan.model import IndexRange
from tools.bench.history import History

SEGMENT_BYTES = 6 << 10
RECORDS_PER_FRAME = 3


class _Quiet(History):
    """A cluster with little to do: small records."""

    def _submit(self, turn: int) -> None:
        self._submit_job(turn, (IndexRange(0, 4),) if turn % 10 == 0 else ())
        if turn % 7 == 0:
            self._submit_job(turn, ())


@cache
def history(records: int = 150) -> tuple[bytes, ...]:
    """The records of a cluster's first second."""
    return tuple(ev.encode_record(*each) for each in islice(_Quiet().records(), records))


def decoded(payloads: tuple[bytes, ...]) -> list[tuple[int, int, ev.Event]]:
    """LSN, time and event of each."""
    return [
        (lsn, time_us, event)
        for lsn, payload in enumerate(payloads, 1)
        for time_us, events in [ev.decode_record(payload)]
        for event in events
    ]


def make_directory(
    directory: Path,
    payloads: tuple[bytes, ...] | None = None,
    *,
    seed: int = 3,
    is_clean: bool = False,
) -> Path:
    """A manager's data directory with these records; it was killed unless its end is clean."""
    payloads = history() if payloads is None else payloads
    log = wal.Log.open(
        directory / "wal",
        lock_path=directory / "lock",
        segment_bytes=SEGMENT_BYTES,
        random_bytes=Random(seed).randbytes,
    )
    append(log, payloads)
    if is_clean:
        log.close()
    else:
        log.abandon()
    write_description(directory, b"cluster id 0 1 2")
    return directory


def append(log: wal.Log, payloads: tuple[bytes, ...]) -> None:
    """Adds records, a few to a frame."""
    for number, payload in enumerate(payloads, 1):
        log.append(payload)
        if number % RECORDS_PER_FRAME == 0 or number == len(payloads):
            assert log.flush()
