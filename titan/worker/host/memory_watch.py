"""Memory limits where the kernel keeps none: the trees of the tasks are measured now and then.

What counts is the resident memory of a task's main process and of all that comes of it. Pages
that several processes share count for each of them in that sum, so before a task is ended for
it the shared ones are divided (the proportional set size of proc_pid_smaps_rollup(5)), which
costs too much to be looked at each time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from titan import units
from titan.model import AttemptKey, Reason
from titan.worker.host.verdict import Doom
from titan.worker.processes import Entry, read_attempt, read_entries

LOOK_SECONDS: Final = 0.25
# A look at thousands of processes takes its time: it rests so many times as long.
_REST_FACTOR: Final = 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class _Watched(NamedTuple):
    key: AttemptKey
    limit_bytes: int


class MemoryWatch:
    """The running tasks with a limit, by their main processes' pids."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._watched: dict[int, _Watched] = {}
        self._next_look = 0.0

    @property
    def next_look(self) -> float:
        """When `look` is due, on the monotonic clock; infinity without tasks."""
        return self._next_look if self._watched else float("inf")

    def add(self, key: AttemptKey, pid: int, limit_bytes: int) -> None:
        """It runs, as that process and what comes of it."""
        if not self._watched:
            self._next_look = self._monotonic()
        self._watched[pid] = _Watched(key, limit_bytes)

    def remove(self, pid: int) -> None:
        """It has ended, or was never here."""
        self._watched.pop(pid, None)

    def look(self) -> list[tuple[AttemptKey, Doom]]:
        """Those that are over their limits. A walk over /proc, some 20 µs a process."""
        begin = self._monotonic()
        over = []
        trees = self._trees(read_entries())
        for pid, tree in trees.items():
            key, limit_bytes = self._watched[pid]
            if sum(each.resident_pages for each in tree) * _PAGE_BYTES > limit_bytes:
                used_bytes = sum(map(_proportional_bytes, tree))
                if used_bytes > limit_bytes:
                    over.append((key, Doom(Reason.OOM, too_much(limit_bytes, used_bytes))))
        end = self._monotonic()
        self._next_look = end + max(LOOK_SECONDS, _REST_FACTOR * (end - begin))
        return over

    def _trees(self, entries: dict[int, Entry]) -> dict[int, list[Entry]]:
        """The processes of each watched task, by its main process."""
        by_name = {each.key[1:]: pid for pid, each in self._watched.items()}
        own = os.getpid()
        owners: dict[int, int] = {}

        def owner_of(pid: int) -> int:
            """The watched process that it comes from, 0: none."""
            path = []
            while pid not in owners:
                entry = entries.get(pid)
                if pid in self._watched:
                    owners[pid] = pid
                elif entry is None:
                    owners[pid] = 0
                elif entry.session in self._watched:
                    owners[pid] = entry.session
                elif entry.parent == own:
                    # It has left its session and lost its parent.
                    name = read_attempt(pid)
                    owners[pid] = by_name.get(name, 0) if name else 0
                else:
                    path.append(pid)
                    pid = entry.parent
            for each in path:
                owners[each] = owners[pid]
            return owners[pid]

        trees: dict[int, list[Entry]] = {}
        for pid, entry in entries.items():
            owner = owner_of(pid)
            if owner:
                trees.setdefault(owner, []).append(entry)
        return trees


def too_much(limit_bytes: int, used_bytes: int = 0) -> str:
    """The sentence for who ran out of memory."""
    used = f" (it used {units.format_size(used_bytes)})" if used_bytes else ""
    return (
        f"out of its {units.format_size(limit_bytes)} of memory{used}: "
        "ask for more with --memory, or use less"
    )


def _proportional_bytes(entry: Entry) -> int:
    try:
        with open(f"/proc/{entry.pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        # It has gone, or is dead and only unreaped.
        return 0
    except OSError:
        # It has become another user's, whose pages only root may look at.
        pass
    return entry.resident_pages * _PAGE_BYTES
