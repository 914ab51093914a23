"""The machine: what it has, and how busy it is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from titan.worker.agent.disk_room import DiskUse

_CGROUPS: Final = Path("/sys/fs/cgroup")
# A worker that fetches its tasks sends heartbeats as fast as it is answered.
MEASURED_EVERY_SECONDS: Final = 1.0
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


class Statistics(NamedTuple):
    """A measurement; the fields are those of the wire's NodeStatistics."""

    cpu_percent: float
    """Of all processors together, since the measurement before; 0 at the first."""
    memory_used_bytes: int
    memory_total_bytes: int
    load_1m: float
    disk_free_bytes: int
    """Where the tasks' output goes, for an unprivileged user."""


def measure(directory: Path) -> Statistics:
    """Measure now. Raises OSError when the directory is gone. Takes about a millisecond."""
    memory = psutil.virtual_memory()
    disk = os.statvfs(directory)
    return Statistics(
        psutil.cpu_percent(interval=None),
        memory.total - memory.available,
        memory.total,
        os.getloadavg()[0],
        disk.f_bavail * disk.f_frsize,
    )


def disk_use(directory: Path) -> DiskUse:
    """The file system there. Raises OSError."""
    disk = os.statvfs(directory)
    return DiskUse(
        disk.f_blocks * disk.f_frsize,
        disk.f_bavail * disk.f_frsize,
        disk.f_files,
        disk.f_favail,
    )


class Meter:
    """Measures now and then, however often it is asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last: Statistics | None = None
        self._measured_at = 0.0

    def measure(self) -> Statistics:
        """A measurement that is less than a second old. Raises OSError as `measure` does."""
        now = time.monotonic()
        if self._last is None or now - self._measured_at >= MEASURED_EVERY_SECONDS:
            self._last = measure(self._directory)
            self._measured_at = now
        return self._last


def cpus_milli() -> int:
    """The processors this process may use, in thousandths."""
    return len(os.sched_getaffinity(0)) * 1000


def memory_bytes() -> int:
    """The machine's memory, or the least limit of the cgroups this process is in."""
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def _cgroup_limits() -> Iterator[int]:
    """The memory limits from this process's cgroup up to the root, of version 2 and 1."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        place = root / group.lstrip("/")
        while place.is_relative_to(root):
            try:
                limit = (place / name).read_text(encoding="ascii").strip()
            except OSError:
                # The root of version 2 has no limit; in a container the path may not be there.
                limit = "max"
            if limit.isdecimal():
                yield int(limit)
            place = place.parent
