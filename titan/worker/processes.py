"""Processes of tasks, found and ended without being their parent: what /proc tells.

A pid alone names nothing: pids are reused. Here a process is a pid and the time it
started, in clock ticks since boot, which /proc/PID/stat has as field 22 and the clock
CLOCK_BOOTTIME as well. Signals go through a pidfd that is opened before the identity is
checked, so they can't reach a successor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from titan.model import AttemptKey

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER: Final = 36
_PART_BYTES: Final = 1 << 16
# The clock is read just before the process is made; a busy machine may come in between.
_START_TOLERANCE_TICKS: Final = 2 * _TICKS_PER_SECOND


class Mark(NamedTuple):
    """How the processes of one attempt are recognised."""

    key: AttemptKey
    since_ticks: int
    """None of them is older."""
    pid: int
    """Its main process, which leads a group of that number; 0: not known."""
    output: bytes
    """How the absolute paths of its output files begin."""
    named: tuple[bytes, ...] = ()
    """The absolute paths of those that its user named, where they are needed."""


class Found(NamedTuple):
    """A process that was there."""

    pid: int
    start_ticks: int
    group: int
    key: AttemptKey
    is_stopped: bool


def boot_id() -> str:
    """Random, the same until the machine starts again. Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def now_ticks() -> int:
    """The time since boot, in the unit and on the clock of /proc/PID/stat."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND // 1_000_000_000


def boottime_us() -> int:
    """CLOCK_BOOTTIME in microseconds: it is never set, and goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def find_start_ticks(pid: int) -> int | None:
    """When the process started, None when there is none, or it is dead and only unreaped."""
    found = read_entry(pid)
    return found.start_ticks if found else None


class OwnChildren:
    """This process's children, if it is one thread. See proc_tid_children(5)."""

    def __init__(self) -> None:
        """Opens the list for good: a host reads it each time that something ends."""
        pid = os.getpid()
        self._descriptor = -1
        # A kernel without CONFIG_PROC_CHILDREN has none.
        with contextlib.suppress(FileNotFoundError):
            path = f"/proc/{pid}/task/{pid}/children"
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Those there are now, zombies included. Raises OSError."""
        if self._descriptor < 0:
            own = os.getpid()
            return [each.pid for each in read_entries().values() if each.parent == own]
        parts: list[bytes] = []
        offset = 0
        while part := os.pread(self._descriptor, _PART_BYTES, offset):
            parts.append(part)
            offset += len(part)
        return list(map(int, b"".join(parts).split()))

    def close(self) -> None:
        """Let the list go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def become_subreaper() -> None:
    """Orphans among the descendants become this process's children. Raises OSError. prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def find(marks: Collection[Mark], parent: int = 0) -> list[Found]:
    """The processes of these attempts.

    The main ones by pid and start; all others by TITAN_* in their environment, which must be
    backed up: another cluster on this machine may have jobs, and a worker, of the same names.
    They write to the attempt's output, or they descend from `parent`, the host that has
    started them. One that has none of that in its environment (env -i) is known by its output
    alone. One walk over /proc, some 25 µs a process.
    """
    by_pid = {mark.pid: mark for mark in marks if mark.pid}
    by_name = {mark.key[1:]: mark for mark in marks}
    by_output = {mark.output: mark for mark in marks}
    found: list[Found] = []
    for pid in _pids() if marks else ():
        main = by_pid.get(pid)
        if main is not None:
            stat = read_entry(pid)
            if stat and 0 <= stat.start_ticks - main.since_ticks <= _START_TOLERANCE_TICKS:
                found.append(_found(stat, main.key))
                continue
        name = read_attempt(pid)
        if name is None:
            writes_to = read_output(pid)
            mark = next((by_output[each] for each in writes_to if each in by_output), None)
        else:
            mark = by_name.get(name)
        if mark is None:
            continue
        stat = read_entry(pid)
        if stat is None or stat.start_ticks < mark.since_ticks:
            continue
        if name is None or _writes_to(pid, mark) or (parent and _descends(pid, parent)):
            found.append(_found(stat, mark.key))
    return found


def _found(entry: Entry, key: AttemptKey) -> Found:
    return Found(entry.pid, entry.start_ticks, entry.group, key, entry.is_stopped)


def send(process: Found, number: int) -> None:
    """Send the signal, unless the process is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if find_start_ticks(process.pid) == process.start_ticks:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def stands_still(process: Found) -> bool:
    """Whether it is stopped, or will be before its next instruction.

    A parent that waits for what it has started to become a program (vfork(2)) hangs in the
    kernel, with the signal before it, for as long as that stands still.
    """
    return process.is_stopped or _is_pending(process.pid, signal.SIGSTOP)


def _is_pending(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            masks = [line.split()[1] for line in file if line.startswith((b"SigPnd", b"ShdPnd"))]
    except OSError:
        return False
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def end(marks: Collection[Mark], limit_seconds: float) -> list[Found]:
    """Kill all processes of these attempts and wait until they are gone.

    Returns those that are still there after the limit: a process in uninterruptible sleep
    stays until its device answers, but never runs an instruction of the task again.
    """
    deadline = time.monotonic() + limit_seconds
    while True:
        left = find(marks)
        if not left or time.monotonic() > deadline:
            return left
        leaders = {mark.pid for mark in marks if mark.pid}
        for process in left:
            if process.pid in leaders:
                # The group has the number of its leader, which is alive.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            send(process, signal.SIGKILL)
        time.sleep(0.01)


def _pids() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != own:
            yield int(name)


class Entry(NamedTuple):
    """A process: what is used of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    resident_pages: int
    is_stopped: bool
    """By a signal, or by its tracer."""


def read_entries() -> dict[int, Entry]:
    """All processes by pid but the dead. Some 20 µs each."""
    entries = {}
    for pid in _pids():
        entry = read_entry(pid)
        if entry is not None:
            entries[pid] = entry
    return entries


def read_entry(pid: int) -> Entry | None:
    """None when there is no such process, or it is dead and only unreaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The name, field 2, is in parentheses and may hold anything.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in b"ZX":
        return None
    state, parent, group, session = fields[:4]
    return Entry(
        *(pid, int(parent), int(group), int(session), int(fields[19]), int(fields[21])),
        is_stopped=state in b"Tt",
    )


def _writes_to(pid: int, mark: Mark) -> bool:
    """Whether its stdout or stderr is a file of that attempt."""
    return any(path.startswith(mark.output) or path in mark.named for path in _written(pid))


def read_output(pid: int) -> list[bytes]:
    """What its stdout and stderr are, up to the last dot: so the output of an attempt begins."""
    return [b"".join(path.rpartition(b".")[:2]) for path in _written(pid)]


def _written(pid: int) -> Iterator[bytes]:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            yield os.readlink(b"/proc/%d/fd/%d" % (pid, descriptor))


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        stat = read_entry(pid)
        pid = stat.parent if stat else 0
    return False


def read_attempt(pid: int) -> tuple[int, int, int] | None:
    """Which job, index and attempt its environment names, None: none, or it can't be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            content = file.read()
    except OSError:
        return None
    if b"TITAN_JOB_ID=" not in content:
        return None
    # A process may put anything there, also what has no sign.
    words = [each.partition(b"=") for each in content.split(b"\0") if each.startswith(b"TITAN_")]
    variables = {name: value for name, _, value in words}
    try:
        return (
            int(variables[b"TITAN_JOB_ID"]),
            int(variables[b"TITAN_TASK_INDEX"]),
            int(variables[b"TITAN_ATTEMPT"]),
        )
    except (KeyError, ValueError):
        return None
