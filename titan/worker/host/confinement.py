"""The limits of the running tasks: which of them the kernel keeps, and which are watched.

Chosen at the start of the task host: control groups where it may make them, else memory is
watched, and what nobody could keep is refused at the start of a task. Only a task that asks for
a limit costs anything here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import selectors
import time
from collections.abc import Iterator
from selectors import BaseSelector
from typing import Final, NamedTuple

from titan.model import AttemptKey, Reason, Sandbox
from titan.worker.host.cgroup_mounts import CONTROLLERS, Hierarchy, find_hierarchies, leave_leaf
from titan.worker.host.cgroups import Cgroups, Group, Limits
from titan.worker.host.inherited import inherited
from titan.worker.host.memory_watch import MemoryWatch, too_much
from titan.worker.host.pins import Pins
from titan.worker.host.sandbox import OWN_PROCESSES
from titan.worker.host.spawn import LaunchError
from titan.worker.host.verdict import Doom
from titan.worker.messages import Launch

# Processes that were killed are gone soon, with their memory.
TIDY_SECONDS: Final = 0.05

_NOTHING: Final = contextlib.nullcontext()
_log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """What is known of an attempt's limits at its end."""

    oom: str = ""
    """A sentence when something of it was killed for its memory."""
    note: str = ""
    """A limit that it ran into without being ended for it."""


class Confinement:
    """The limits of the attempts of one host, from before their spawns to their ends."""

    def __init__(
        self,
        hierarchies: list[Hierarchy],
        tag: str,
        selector: BaseSelector,
    ) -> None:
        """`selector`: where it hears from the kernel; the data there are called with the events."""
        self._hierarchies = hierarchies
        self._selector = selector
        self._cgroups = Cgroups(hierarchies, tag, selector.unregister)
        self._watch = MemoryWatch()
        self._pins = Pins()
        self._groups: dict[AttemptKey, Group] = {}
        self._limits: dict[AttemptKey, Limits] = {}
        self._pids: dict[AttemptKey, int] = {}
        # How many of its processes are those of its sandbox.
        self._not_its_own: dict[AttemptKey, int] = {}
        self._out_of_memory: list[tuple[AttemptKey, Doom]] = []
        self._next_tidy = math.inf

    @classmethod
    def choose(cls, tag: str, selector: BaseSelector) -> Confinement:
        """With the control groups that can be had; logs what cannot, and why."""
        hierarchies, faults = find_hierarchies()
        for sentence in faults:
            _log.info("no control groups for %s", sentence)
        return cls(hierarchies, tag, selector)

    @property
    def bases(self) -> tuple[tuple[str, int], ...]:
        """Where groups of tasks are, with the version: for who has to clear up after a crash."""
        return tuple((each.base, each.version) for each in self._hierarchies)

    @property
    def description(self) -> str:
        """`memory: cgroup v2, pids: cgroup v2, cpu: none`; memory may be `watched`."""
        versions = {
            name: f"cgroup v{each.version}"
            for each in self._hierarchies
            for name in each.controllers
        }
        otherwise = {"memory": "watched"}
        return ", ".join(
            f"{name}: {versions.get(name) or otherwise.get(name, 'none')}" for name in CONTROLLERS
        )

    # A task's life ------------------------------------------------------------------------------

    def prepare(self, key: AttemptKey, launch: Launch) -> None:
        """Make ready what the limits need. Raises LaunchError. `end` must follow in any case."""
        execution = launch.execution
        cpus_milli = launch.cpus_milli if execution.cpu_limit else 0
        pids_max = execution.pids_max
        if pids_max and execution.sandbox is not Sandbox.NONE:
            # The task's own are to be as many as it asked for.
            pids_max += OWN_PROCESSES
            self._not_its_own[key] = OWN_PROCESSES
        limits = Limits(launch.memory_bytes, pids_max, cpus_milli)
        self._limits[key] = limits
        if execution.pin:
            self._pins.take(key, launch.cpus_milli // 1000)
        self._take_group(key, limits)

    @contextlib.contextmanager
    def around(self, key: AttemptKey, launch: Launch) -> Iterator[None]:
        """What is spawned within it is limited as it was prepared. Raises OSError."""
        group = self._groups.get(key)
        umask, cpus = launch.execution.umask, self._pins.find(key)
        # Most ask for one of them.
        with self._cgroups.within(group) if group is not None else _NOTHING:
            if umask < 0 and not cpus:
                yield
                return
            with inherited(umask, cpus):
                yield

    def spawned(self, key: AttemptKey, launch: Launch, pid: int) -> None:
        """It runs, as this process."""
        limits = self._limits.get(key)
        if limits is None:
            return
        self._pids[key] = pid
        group = self._groups.get(key)
        if group is not None:
            self._hear_of_oom(key, group)
        if limits.memory_bytes and self._cgroups.find_missing(Limits(limits.memory_bytes)):
            self._watch.add(key, pid, limits.memory_bytes)

    def kill(self, key: AttemptKey) -> None:
        """SIGKILL to all in its group, if it has one."""
        group = self._groups.get(key)
        if group is not None:
            self._cgroups.kill(group)

    def end(self, key: AttemptKey) -> Ending:
        """Its main process has ended, or never was: what is left in its group is killed."""
        limits = self._limits.pop(key, None)
        if limits is None:
            return Ending()
        self._watch.remove(self._pids.pop(key, 0))
        pids_max = limits.pids_max - self._not_its_own.pop(key, 0)
        self._pins.give_back(key)
        group = self._groups.pop(key, None)
        if group is None:
            return Ending()
        usage = self._cgroups.usage(group)
        self._cgroups.give_back(group)
        if self._next_tidy == math.inf:
            self._plan_tidy()
        refused = f"it was refused more than {pids_max} processes (--pids-limit)"
        return Ending(
            too_much(limits.memory_bytes) if usage.oom_kills else "",
            refused if usage.pids_refused else "",
        )

    # Time ---------------------------------------------------------------------------------------

    @property
    def next_look(self) -> float:
        """When `look` is due, on the monotonic clock; infinity: not at all."""
        if self._out_of_memory:
            return 0.0
        return min(self._watch.next_look, self._next_tidy)

    def look(self) -> list[tuple[AttemptKey, Doom]]:
        """Those that have run out of memory and still run. Removes groups that are done with."""
        if time.monotonic() >= self._next_tidy:
            self._cgroups.tidy()
            self._plan_tidy()
        over, self._out_of_memory = self._out_of_memory, []
        if time.monotonic() >= self._watch.next_look:
            over += self._watch.look()
        return over

    def close(self) -> None:
        """Nothing runs any more: no group is left behind."""
        self._cgroups.close()
        for hierarchy in self._hierarchies:
            leave_leaf(hierarchy)

    # Helpers ------------------------------------------------------------------------------------

    def _plan_tidy(self) -> None:
        has_leaving = self._cgroups.has_leaving
        self._next_tidy = time.monotonic() + TIDY_SECONDS if has_leaving else math.inf

    def _take_group(self, key: AttemptKey, limits: Limits) -> None:
        missing = self._cgroups.find_missing(limits)
        if missing == "memory":
            # It is watched.
            limits = limits._replace(memory_bytes=0)
            missing = self._cgroups.find_missing(limits)
        if missing is not None:
            option = {"pids": "--pids-limit", "cpu": "--cpu-limit"}[missing]
            raise LaunchError(
                f"{option} cannot be kept here: this worker may not make control groups "
                f"for {missing} (its log says why)"
            )
        if not any(limits):
            return
        try:
            self._groups[key] = self._cgroups.take(limits)
        except OSError as error:
            raise LaunchError(
                f"the control group for its limits cannot be made: {error.strerror}"
            ) from error

    def _hear_of_oom(self, key: AttemptKey, group: Group) -> None:
        is_known = group.oom_event >= 0
        event = self._cgroups.watch_oom(group)
        if event >= 0 and not is_known:
            ready = functools.partial(self._heard, group, event)
            self._selector.register(event, selectors.EVENT_READ, ready)

    def _heard(self, group: Group, event: int, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(event)
        for key, each in self._groups.items():
            if each is group:
                doom = Doom(Reason.OOM, too_much(self._limits[key].memory_bytes))
                self._out_of_memory.append((key, doom))
