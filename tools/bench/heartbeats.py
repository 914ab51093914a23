"""(h) What the heartbeats of idle workers cost in the log. Bytes, not times: one round will do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import wal
from titan import events as ev
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel import commands as cmd
from titan.model import Held, Resources
from titan.state.cluster import ClusterState
from tools.bench.result import Result, against, compared_rows

WORKERS: Final = 1_000
INTERVAL_US: Final = 3_000_000
TICK_US: Final = 200_000
MINUTES: Final = 10
BOUND_BYTES: Final = 20.0


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """Bytes of the log, frames and all, for each heartbeat that came."""
    beats = 0
    kernel = Kernel(ClusterState(), Settings())
    now_us = 1_700_000_000_000_000
    kernel.start(cluster_id=b"c" * 16, epoch=1, version="0", now_us=now_us)
    for number in range(WORKERS):
        kernel.decide(registration(number), now_us, 0)
    with wal.Log.open(directory / "wal") as log:
        _write(log, kernel)
        before = log.last_segment_bytes
        begin_us = now_us
        while now_us - begin_us < (MINUTES if not quick else 1) * 60_000_000:
            now_us += TICK_US
            # Each has its own moment within the three seconds.
            first = (now_us - begin_us) % INTERVAL_US * WORKERS // INTERVAL_US
            for number in range(first, first + WORKERS * TICK_US // INTERVAL_US):
                kernel.decide(
                    cmd.Heartbeat(session=b"%d" % (number % WORKERS), held=Held((), 0, 0)),
                    now_us,
                    now_us - begin_us,
                )
                beats += 1
            kernel.tick(now_us, now_us - begin_us)
            _write(log, kernel)
        size = log.last_segment_bytes - before
    values = (size / beats,)
    return compared_rows(
        [(f"{BOUND_BYTES:g} bytes", "< 1", against(BOUND_BYTES, values))],
        part="h",
        what=f"log for a heartbeat of {WORKERS:,} idle workers every 3 s",
        unit="bytes",
        values=values,
    )


def _write(log: wal.Log, kernel: Kernel) -> None:
    while (record := kernel.take_record()) is not None:
        log.append(ev.encode_record(*record))
        log.flush()


def registration(number: int) -> cmd.RegisterWorker:
    """What a worker of that number says when it calls in."""
    return cmd.RegisterWorker(
        worker_id=b"%016d" % number,
        instance=b"i",
        boot_id="b",
        name=f"w{number}",
        address="127.0.0.1:1",
        token="t",
        capacity=Resources(4000, 1 << 34),
        labels=(),
        version="0",
        output_directory=b"/out",
        cluster_id=b"",
        held=Held((), 0, 0),
        acknowledged_seq=0,
        new_worker_id=b"",
        session=b"%d" % number,
    )
