"""Control groups of tasks: limits of memory, processes and cpu that the kernel keeps.

Version 2, and version 1 where the machine has a controller in that; see cgroups(7) and the
kernel's cgroup-v2.rst. Groups are made below the worker's own and nowhere else, named
`titan-TAG-NUMBER`. A task is in its group from its first instruction: the host enters the
group, spawns, and leaves. Making a group costs ten times what entering costs, so they are kept
for later tasks; the last one out removes them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from titan.worker.host.cgroup_mounts import Hierarchy, write

# Groups that wait for a task; more than can start at once are of no use.
POOL_MAX: Final = 64
# The kernel's own default (cpu.max in cgroup-v2.rst): shorter costs more, longer stutters.
CPU_PERIOD_US: Final = 100_000
# Less the kernel refuses.
_CPU_QUOTA_US_MIN: Final = 1_000
_REMOVE_SECONDS: Final = 5.0
_PLANS_MAX: Final = 1_000
_PART_BYTES: Final = 1 << 16

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What a group is kept to; 0: not limited."""

    memory_bytes: int = 0
    pids_max: int = 0
    cpus_milli: int = 0

    @property
    def controllers(self) -> tuple[str, ...]:
        """Those that are needed to keep them."""
        wanted = zip(("memory", "pids", "cpu"), self, strict=True)
        return tuple(name for name, limit in wanted if limit)


class Usage(NamedTuple):
    """What a group's events have counted since it was taken."""

    oom_kills: int
    pids_refused: int
    """How often a new process was refused for `pids_max`."""


class Group:
    """A group in one or more hierarchies; at most one task at a time."""

    __slots__ = ("counted", "hierarchies", "limits", "name", "oom_event")

    def __init__(self, name: str, hierarchies: tuple[Hierarchy, ...]) -> None:
        self.name = name
        self.hierarchies = hierarchies
        # What stands in its files.
        self.limits = Limits()
        self.counted = Usage(0, 0)
        # Version 1 tells by it that memory has run out; -1: not asked for.
        self.oom_event = -1

    def path(self, hierarchy: Hierarchy) -> str:
        """Its directory there."""
        return f"{hierarchy.base}/{self.name}"


class Cgroups:
    """The groups of one task host."""

    def __init__(
        self,
        hierarchies: Sequence[Hierarchy],
        tag: str,
        forget: Callable[[int], object] = lambda _descriptor: None,
    ) -> None:
        """`tag` tells this worker's groups from those of others in the same place.

        `forget` is called before a descriptor of `watch_oom` is closed.
        """
        self._forget = forget
        self._hierarchies = tuple(hierarchies)
        self._controllers = frozenset(name for each in hierarchies for name in each.controllers)
        # Each task is left by writing there: open for good, which halves what that costs.
        self._homes = {
            each: os.open(f"{each.home}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            for each in hierarchies
        }
        self._tag = tag
        self._last_number = 0
        # Where the groups of tasks with these limits are; tasks of a job share them.
        self._plans: dict[Limits, tuple[Hierarchy, ...]] = {}
        self._free: dict[tuple[Hierarchy, ...], list[Group]] = {}
        # Their tasks have ended, and something of them is still on its way out.
        self._leaving: list[Group] = []

    @property
    def has_leaving(self) -> bool:
        """Whether `tidy` has something to do."""
        return bool(self._leaving)

    def find_missing(self, limits: Limits) -> str | None:
        """A controller that the limits need and that is not to be had."""
        there = self._controllers
        return next((name for name in limits.controllers if name not in there), None)

    def take(self, limits: Limits) -> Group:
        """An empty group with these limits. Raises OSError."""
        hierarchies = self._plans.get(limits)
        if hierarchies is None:
            wanted = set(limits.controllers)
            hierarchies = tuple(each for each in self._hierarchies if wanted & each.controllers)
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[limits] = hierarchies
        free = self._free.get(hierarchies)
        while free:
            group = free.pop()
            try:
                self._limit(group, limits)
            except OSError:
                # Such as what was left in memory and cannot be let go at once.
                self._leaving.append(group)
            else:
                return group
        self._last_number += 1
        group = Group(f"titan-{self._tag}-{self._last_number}", hierarchies)
        try:
            for hierarchy in hierarchies:
                os.mkdir(group.path(hierarchy))
            self._limit(group, limits)
        except OSError:
            self._leaving.append(group)
            raise
        return group

    @contextlib.contextmanager
    def within(self, group: Group) -> Iterator[None]:
        """What is spawned here is in the group. Raises OSError.

        This process is in it too, for as long as that takes, and what it uses in between
        counts there.
        """
        entered: list[Hierarchy] = []
        try:
            for hierarchy in group.hierarchies:
                write(f"{group.path(hierarchy)}/cgroup.procs", "0")
                entered.append(hierarchy)
            yield
        finally:
            for hierarchy in entered:
                os.write(self._homes[hierarchy], b"0")
        for hierarchy in group.hierarchies:
            if hierarchy.version == 2 and group.limits.memory_bytes:
                # All of it or nothing; not before this process is out of it.
                write(f"{group.path(hierarchy)}/memory.oom.group", "1")

    def watch_oom(self, group: Group) -> int:
        """A descriptor that becomes readable when memory runs out, -1 where none is needed.

        Version 2 then kills the whole group by itself, version 1 one process. It is closed
        with the group.
        """
        memory = _with_memory(group)
        if memory is None or memory.version == 2 or group.oom_event >= 0:
            return group.oom_event
        with contextlib.suppress(OSError):
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            group.oom_event = event
            path = group.path(memory)
            control = os.open(f"{path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(f"{path}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        return group.oom_event

    def usage(self, group: Group) -> Usage:
        """What has happened in it since it was taken, or since it was asked last."""
        before, now = group.counted, self._count(group)
        # What is not limited now is not counted, either.
        group.counted = Usage(*map(max, before, now))
        return Usage(
            *(count - earlier for count, earlier in zip(group.counted, before, strict=True))
        )

    def processes(self, group: Group) -> list[int]:
        """The pids in it, zombies excluded."""
        return _processes(group.path(group.hierarchies[0])) if group.hierarchies else []

    def kill(self, group: Group) -> None:
        """SIGKILL to all that is in it, and in groups that it has made there."""
        for hierarchy in group.hierarchies[:1]:
            _kill(group.path(hierarchy), hierarchy)

    def give_back(self, group: Group) -> None:
        """Its task has ended: what is left in it is killed, and it serves another one."""
        if self.processes(group) or not self._is_flat(group):
            self.kill(group)
            self._leaving.append(group)
            return
        free = self._free.setdefault(group.hierarchies, [])
        if len(free) < POOL_MAX:
            free.append(group)
        else:
            self._remove(group)

    def tidy(self) -> None:
        """Remove groups whose last processes have gone; kills those that have not."""
        self._leaving = [group for group in self._leaving if not self._remove(group)]

    def close(self) -> None:
        """Remove all groups; those that still have processes after some seconds stay."""
        self._leaving += [group for groups in self._free.values() for group in groups]
        self._free.clear()
        deadline = time.monotonic() + _REMOVE_SECONDS
        while True:
            self.tidy()
            if not self._leaving or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        for descriptor in self._homes.values():
            os.close(descriptor)
        self._homes.clear()
        for group in self._leaving:
            _log.error("group %s does not become empty", group.path(group.hierarchies[0]))

    # Helpers ------------------------------------------------------------------------------------

    def _limit(self, group: Group, limits: Limits) -> None:
        if limits == group.limits and not self._dies_as_one(group):
            return
        for hierarchy in group.hierarchies:
            for file, value, is_needed in _settings(hierarchy, group.limits, limits):
                try:
                    write(f"{group.path(hierarchy)}/{file}", value)
                except FileNotFoundError:
                    # Swap is not accounted for everywhere.
                    if is_needed:
                        raise
        group.limits = limits

    def _dies_as_one(self, group: Group) -> bool:
        """Whether the kernel would kill the host, too, if memory ran out while it is inside."""
        memory = _with_memory(group)
        return memory is not None and memory.version == 2

    def _count(self, group: Group) -> Usage:
        oom_kills = pids_refused = 0
        for hierarchy in group.hierarchies:
            path = group.path(hierarchy)
            if group.limits.memory_bytes and "memory" in hierarchy.controllers:
                file = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                oom_kills = _read_number(f"{path}/{file}", b"oom_kill")
            if group.limits.pids_max and "pids" in hierarchy.controllers:
                pids_refused = _read_number(f"{path}/pids.events", b"max")
        return Usage(oom_kills, pids_refused)

    def _is_flat(self, group: Group) -> bool:
        """Whether its task has made no groups in it. A directory has a link from each."""
        return all(os.stat(group.path(each)).st_nlink <= 2 for each in group.hierarchies)

    def _remove(self, group: Group) -> bool:
        for hierarchy in group.hierarchies:
            if not remove_tree(group.path(hierarchy), hierarchy):
                return False
        if group.oom_event >= 0:
            self._forget(group.oom_event)
            os.close(group.oom_event)
            group.oom_event = -1
        return True


def remove_left(bases: Sequence[tuple[str, int]], tag: str) -> None:
    """End all that is in the groups that a host before this one left, and remove them.

    `bases` are directories with the version of each. Logs what does not end.
    """
    left = [
        (f"{base}/{name}", Hierarchy(version, frozenset(), base, base))
        for base, version in bases
        for name in _names(base)
        if name.startswith(f"titan-{tag}-")
    ]
    deadline = time.monotonic() + _REMOVE_SECONDS
    while left and time.monotonic() < deadline:
        left = [(path, hierarchy) for path, hierarchy in left if not remove_tree(path, hierarchy)]
        if left:
            time.sleep(0.005)
    for path, _ in left:
        _log.error("group %s of an earlier task host does not become empty", path)


def remove_tree(path: str, hierarchy: Hierarchy) -> bool:
    """Whether the group and those in it are gone; kills what is in the way of that."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            _log.warning("cannot remove %s: %s", path, error.strerror)
        _kill(path, hierarchy)
        for name in _names(path):
            remove_tree(f"{path}/{name}", hierarchy)
        with contextlib.suppress(OSError):
            os.rmdir(path)
        return not os.path.isdir(path)
    return True


def _settings(hierarchy: Hierarchy, old: Limits, new: Limits) -> Iterator[tuple[str, str, bool]]:
    """File, content, and whether it has to be there, in an order in which the kernel takes them."""
    controllers = hierarchy.controllers
    if new.memory_bytes != old.memory_bytes and "memory" in controllers:
        memory = str(new.memory_bytes) if new.memory_bytes else "max"
        if hierarchy.version == 2:
            yield "memory.oom.group", "0", True
            yield "memory.swap.max", "0" if new.memory_bytes else "max", False
            yield "memory.max", memory, True
        else:
            memory = str(new.memory_bytes or -1)
            both = [("memory.limit_in_bytes", memory, True)]
            # Memory and swap together; never less than memory alone.
            both.append(("memory.memsw.limit_in_bytes", memory, False))
            is_raised = old.memory_bytes and not 0 < new.memory_bytes < old.memory_bytes
            yield from reversed(both) if is_raised else both
    elif new.memory_bytes and hierarchy.version == 2 and "memory" in controllers:
        yield "memory.oom.group", "0", True
    if new.pids_max != old.pids_max and "pids" in controllers:
        yield "pids.max", str(new.pids_max or "max"), True
    if new.cpus_milli != old.cpus_milli and "cpu" in controllers:
        quota_us = max(_CPU_QUOTA_US_MIN, new.cpus_milli * CPU_PERIOD_US // 1000)
        if hierarchy.version == 2:
            yield "cpu.max", f"{quota_us if new.cpus_milli else 'max'} {CPU_PERIOD_US}", True
        else:
            yield "cpu.cfs_period_us", str(CPU_PERIOD_US), True
            yield "cpu.cfs_quota_us", str(quota_us if new.cpus_milli else -1), True


def _with_memory(group: Group) -> Hierarchy | None:
    if not group.limits.memory_bytes:
        return None
    return next((each for each in group.hierarchies if "memory" in each.controllers), None)


def _processes(path: str) -> list[int]:
    # ENODEV: it was removed while it was open.
    with contextlib.suppress(OSError):
        return [int(line) for line in _read(f"{path}/cgroup.procs").split()]
    return []


def _read(path: str) -> bytes:
    """A group's file, with as few system calls as it takes: many tasks end. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _PART_BYTES)
        part = content
        # A short read says nothing of the end there.
        while part:
            part = os.read(descriptor, _PART_BYTES)
            content += part
        return content
    finally:
        os.close(descriptor)


def _kill(path: str, hierarchy: Hierarchy) -> None:
    if hierarchy.version == 2:
        with contextlib.suppress(FileNotFoundError):
            write(f"{path}/cgroup.kill", "1")
            return
    for name in _names(path):
        _kill(f"{path}/{name}", hierarchy)
    # Who forks meanwhile is found by the next look.
    for _ in range(100):
        found = [pid for pid in _processes(path) if pid and pid != os.getpid()]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break


def _names(path: str) -> list[str]:
    """The groups in a group."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _read_number(path: str, name: bytes) -> int:
    """Of a file of lines `name number`; 0 without it."""
    with contextlib.suppress(OSError):
        for line in _read(path).splitlines():
            word, _, number = line.partition(b" ")
            if word == name:
                return int(number)
    return 0
