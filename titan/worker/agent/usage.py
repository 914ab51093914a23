"""What the processes of attempts use at the moment, as /proc tells."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final, NamedTuple

from titan.model import AttemptKey
from titan.worker import processes

_TICK_US: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Of all processes of one attempt together, with their children that they waited for."""

    cpu_user_us: int
    cpu_system_us: int
    rss_bytes: int
    max_rss_bytes: int
    """The most that one of them had at a time, or all together have now, if that is more."""
    processes: int


class _Process(NamedTuple):
    user_us: int
    system_us: int
    rss_bytes: int
    peak_bytes: int


def measure(marks: Collection[processes.Mark], parent: int) -> dict[AttemptKey, Usage]:
    """What runs of these attempts now; `parent` is the host that started them.

    One walk over /proc for all, some 20 µs for each process of the machine. What is shared
    between processes is counted for each, as `ps` does. May block.
    """
    found: dict[AttemptKey, list[_Process]] = {}
    for process in processes.find(marks, parent):
        read = _read(process.pid)
        if read is not None:
            found.setdefault(process.key, []).append(read)
    return {key: _sum(each) for key, each in found.items()}


def _sum(all_of_one: list[_Process]) -> Usage:
    rss_bytes = sum(each.rss_bytes for each in all_of_one)
    return Usage(
        sum(each.user_us for each in all_of_one),
        sum(each.system_us for each in all_of_one),
        rss_bytes,
        max(rss_bytes, *(each.peak_bytes for each in all_of_one)),
        len(all_of_one),
    )


def _read(pid: int) -> _Process | None:
    """None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
        with open(f"/proc/{pid}/status", "rb") as file:
            status = file.read()
    except OSError:
        return None
    # As in `processes`: the name, field 2, may hold anything. proc_pid_stat(5) counts from 1.
    fields = stat[stat.rindex(b")") + 2 :].split()
    user, system, waited_user, waited_system = map(int, fields[11:15])
    return _Process(
        (user + waited_user) * _TICK_US,
        (system + waited_system) * _TICK_US,
        int(fields[21]) * _PAGE_BYTES,
        _peak_bytes(status),
    )


def _peak_bytes(status: bytes) -> int:
    """VmHWM, which a process that is just dying has not any more."""
    for line in status.splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
