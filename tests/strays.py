"""What one test must not leave behind: processes, and control groups of its task hosts.

A run's last look (`tests/leftovers.py`) knows its own processes by what they show of themselves.
Tasks may hide all that: an environment of their own, another session, a dead parent. So while a
test runs, the process of the tests takes in the orphans of all that the test has started, as a
task host does: whatever it is, it stays a descendant. See PR_SET_CHILD_SUBREAPER in prctl(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tests.leftovers import describe_process, wait_until_none
from titan.worker import directory, processes
from titan.worker.host import cgroups
from titan.worker.host.cgroup_mounts import find_hierarchies
from titan.worker.processes import Entry

_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37

# What is on its way out when a test ends may take this long to be gone.
SETTLE_SECONDS = 30.0


class Known(NamedTuple):
    """A process that was there before."""

    entry: Entry
    command: bytes


class LeftBehindError(AssertionError):
    """A test has left something; the text says what."""


@contextmanager
def nothing_left(place: Path) -> Iterator[None]:
    """Raises LeftBehindError when what runs within it leaves something, which is then ended.

    That is a process, or a control group of a task host whose directory is below `place`. What
    was there before may stay, and so may who takes its place by the same command, and what a
    manager or an agent that was there before starts for itself; the tasks of such a worker may
    not.
    """
    before = {pid: Known(each, _command(pid)) for pid, each in read_descendants().items()}
    # It may be part of a longer look.
    did_before = _take_in_orphans(True)
    try:
        yield
    finally:
        left = wait_until_none(lambda: find_new(before), SETTLE_SECONDS)
        _take_in_orphans(did_before)
        groups = wait_until_none(lambda: find_groups(place), SETTLE_SECONDS)
        told = [_describe(each.pid) for each in left]
        told += [f"control group {path}" for path in groups]
        _end(before, place)
    if told:
        raise LeftBehindError("the test left behind:\n" + "\n".join(told))


def read_descendants(ancestor: int | None = None) -> dict[int, Entry]:
    """All that come of that process, by default this one, and have not ended, by pid."""
    entries = processes.read_entries()
    wanted = os.getpid() if ancestor is None else ancestor
    return {pid: each for pid, each in entries.items() if wanted in _ancestors(each, entries)}


def find_new(before: dict[int, Known]) -> list[Entry]:
    """Those that were not there before and belong to nobody who was. Waits for the dead ones."""
    now = read_descendants()
    _bury(set(read_children()) - set(now) - set(before))
    commands = {each.command for each in before.values()} - {b""}
    return [each for each in now.values() if not _is_known(each, before, commands, now)]


def _is_known(
    entry: Entry, before: dict[int, Known], commands: set[bytes], now: dict[int, Entry]
) -> bool:
    """Whether it was there before, or who was there before needs it."""
    for pid in (entry.pid, *_ancestors(entry, now)[:-1]):
        was_there = pid in before and before[pid].entry.start_ticks == now[pid].start_ticks
        if was_there or _command(pid) in commands:
            return pid == entry.pid or not _is_host(pid)
    return False


def _ancestors(entry: Entry, entries: dict[int, Entry]) -> list[int]:
    """The nearest first; up to one that is not among the entries, which is the last."""
    found = [entry.parent]
    while (parent := entries.get(found[-1])) is not None:
        found.append(parent.parent)
    return found


def _is_host(pid: int) -> bool:
    return b"titan.worker.host" in _command(pid).split(b"\0")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def read_children() -> list[int]:
    """The pids of this process's children, zombies included."""
    own = processes.OwnChildren()
    try:
        return own.pids()
    finally:
        own.close()


def _bury(pids: Iterable[int]) -> None:
    """Of orphans that were taken in, those that have died."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _end(before: dict[int, Known], place: Path) -> None:
    """Ends what was left, so that one test does not disturb those after it."""

    def end_all() -> list[Entry]:
        left = find_new(before)
        for each in left:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        return left

    wait_until_none(end_all)
    remove_groups(place)


def remove_groups(place: Path) -> None:
    """Clears up after task hosts whose directories are below `place` and that were killed."""
    for tag in _tags(place) if find_groups(place) else ():
        cgroups.remove_left(_bases(), tag)


@functools.cache
def _bases() -> tuple[tuple[str, int], ...]:
    """Where task hosts that are started from here make their groups."""
    return tuple((each.base, each.version) for each in find_hierarchies()[0])


def find_groups(place: Path) -> list[str]:
    """The control groups of task hosts whose directories are below `place`."""
    found = []
    for base, _ in _bases():
        with os.scandir(base) as entries:
            found += [each.path for each in entries if each.name.startswith("titan-")]
    if not found:
        return []
    tags = _tags(place)
    return sorted(path for path in found if os.path.basename(path).split("-")[1] in tags)


def _tags(place: Path) -> set[str]:
    """Of the hosts that were there. Others' groups are other tests', which run beside this one."""
    return {directory.group_tag(lock.parent.resolve()) for lock in place.rglob("host.lock")}


def _describe(pid: int) -> str:
    try:
        return describe_process(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return f"process {pid}, which ended too late"


def _take_in_orphans(is_wanted: bool) -> bool:
    """Whether this process did so before."""
    libc = ctypes.CDLL(None, use_errno=True)
    did = ctypes.c_int()
    for result in (
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(did), 0, 0, 0),
        libc.prctl(_PR_SET_CHILD_SUBREAPER, int(is_wanted), 0, 0, 0),
    ):
        if result:
            raise OSError(ctypes.get_errno(), "prctl(2), child subreaper")
    return bool(did.value)
