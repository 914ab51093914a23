"""The process that follows the log and exports what it tells as traces.

    python -m titan.tracing.process DIR LEVEL FORMAT SINCE_US PARENT

It waits for the collector as long as that takes, and the log is what it keeps meanwhile: its slot
in `readers/` moves on behind what was exported. So it may be killed at any moment, and exports the
last spans once more then, under the same ids. It dies with its parent.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from pathlib import Path
from threading import Event
from typing import Final

import wal
from titan import events as ev
from titan import logs
from titan.errors import TitanError
from titan.following import (
    POLL_SECONDS,
    READ_RECORDS,
    TRACES_SLOT,
    LogStates,
    PlaceGone,
    Standing,
)
from titan.logs import LogLine
from titan.parent import become_helper
from titan.state.cluster import IllegalEvent
from titan.state.replay import UnknownRecord, unknown_record
from titan.trace_context import Sampler, sampler_of
from titan.tracing.exporter import BATCH_SPANS, Exporter
from titan.tracing.spans import SpanData, Spans

_log = logging.getLogger("titan.traces")

NICENESS: Final = 10
# A slot is synced.
SLOT_SECONDS: Final = 2.0


class Follower:
    """Follows the log of one data directory for ever."""

    def __init__(
        self, data_directory: Path, sampler: Sampler, since_us: int, *, stop: Event
    ) -> None:
        """Where it has no place yet, what was over at `since_us` is not told."""
        self._states = LogStates(data_directory, stop=stop)
        self._sampler = sampler
        self._since_us = since_us
        self._stop = stop

    def run(self) -> None:
        """Until it is to stop. Raises wal.Locked (another one does it), TitanError and the like."""
        if not self._states.wait_log():
            return
        self._states.readers.mkdir(mode=0o700, exist_ok=True)
        lock = wal.Lock(self._states.readers / f"{TRACES_SLOT}.lock")
        try:
            while not self._stop.is_set():
                standing = self._stand()
                with standing.reader:
                    self._follow(standing)
        finally:
            lock.release()

    def _stand(self) -> Standing:
        found = {each.name: each.position for each in self._read_slots()}
        position = found.get(TRACES_SLOT)
        if position is not None:
            try:
                standing = self._states.stand_at(position)
            except PlaceGone as error:
                _log.warning("the log has not got what the traces went on from: %s", error)
            else:
                self._since_us = 0
                return standing
            self._since_us = time.time_ns() // 1000
        return self._states.stand_at_oldest()

    def _read_slots(self) -> list[wal.Slot]:
        return wal.read_slots(
            self._states.readers, on_warning=lambda text: _log.warning("%s", text)
        )

    def _follow(self, standing: Standing) -> None:
        state, reader, cluster_id = standing
        spans = Spans(state, self._sampler)
        exporter = Exporter(cluster_id, stop=self._stop)
        wal.write_slot(self._states.readers, TRACES_SLOT, reader.position)
        written_lsn, written = state.lsn, time.monotonic()
        _log.info(LogLine("the traces are followed", lsn=state.lsn, jobs=len(state.live_jobs)))
        while not self._stop.is_set():
            over: list[SpanData] = []
            try:
                has_more = self._read(reader, spans, over)
            except wal.RecordsGone as error:
                _log.warning("the traces fell too far behind, and what was over is lost: %s", error)
                return
            if not exporter.export(over):
                return
            is_due = time.monotonic() - written >= SLOT_SECONDS
            if state.lsn > written_lsn and (is_due or not has_more):
                wal.write_slot(self._states.readers, TRACES_SLOT, reader.position)
                written_lsn, written = state.lsn, time.monotonic()
            if not has_more:
                self._stop.wait(POLL_SECONDS)

    def _read(self, reader: wal.Reader, spans: Spans, over: list[SpanData]) -> bool:
        """Adds what is over, up to a batch or so; whether there may be more at once."""
        while len(over) < BATCH_SPANS:
            records = reader.read(READ_RECORDS)
            if not records:
                return False
            for lsn, payload in records:
                try:
                    time_us, events = ev.decode_record(payload)
                except ev.EventError as error:
                    raise unknown_record(lsn, error, spans.state) from error
                told = spans.apply(lsn, time_us, events)
                if time_us >= self._since_us:
                    over += told
        return True


def main(arguments: list[str]) -> int:
    """The data directory, from which level on it logs and as what, since when, its parent's pid."""
    directory, level, log_format = Path(arguments[0]), arguments[1], arguments[2]
    since_us, parent = int(arguments[3]), int(arguments[4])
    logs.set_up(level, log_format)
    # It warns of what it does by itself, such as trying again.
    logging.getLogger("opentelemetry").setLevel("ERROR")
    become_helper(parent, NICENESS)
    # The state has no cycles.
    gc.freeze()
    try:
        Follower(directory, sampler_of(os.environ), since_us, stop=Event()).run()
    except (TitanError, wal.WalError, OSError, UnknownRecord, IllegalEvent, ValueError) as error:
        _log.error("no traces are exported: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
