"""A manager's machine: a disk that forgets, fails and fills up, and clocks that are set."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Final

from tests.simulation.network import Network
from tests.simulation.shell import SETTINGS
from tests.simulation.world import Clockwork, World
from tests.wal.fake_fs import Call, FakeFileSystem, Moment

UP_US: Final = 500_000_000_000


class ManagerMachine(ABC):
    """Its disk and its clocks. Which process runs on it is for others to say."""

    def __init__(self, node: str, world: World, network: Network, preempt: str) -> None:
        self.node = node
        self.settings = replace(SETTINGS, preempt=preempt)
        self.world = world
        self.network = network
        self.disk = FakeFileSystem(world.random)
        self.clockwork = Clockwork(world)
        self.wall_offset_us = 0
        # How long it was suspended, which its monotonic clock does not count.
        self._asleep_us = 0
        self._is_slow_until_us = 0

    def time_ns(self) -> int:
        """The wall clock, in place of `time.time_ns`."""
        return (self.world.now_us + self.wall_offset_us) * 1000

    def monotonic_ns(self) -> int:
        """In place of `time.monotonic_ns`: the machine has been up for some days."""
        return self.awake_us() * 1000

    def awake_us(self) -> int:
        """The monotonic clock."""
        return self.world.elapsed_us + UP_US - self._asleep_us

    @property
    @abstractmethod
    def is_up(self) -> bool:
        """Whether a process runs."""

    @abstractmethod
    def stall(self, for_us: int) -> None:
        """Its process does nothing for so long."""

    @abstractmethod
    def start(self) -> None:
        """A process starts, if there is none."""

    @abstractmethod
    def end_process(self) -> None:
        """The process is gone."""

    def die_in_this_call(self) -> None:
        """A call of its file system has failed for good."""
        self.world.count("died in a call of the file system")
        if self.world.chance(50):
            self.kill()
        else:
            self.lose_power()

    def kill(self, down_us: int = 200_000) -> None:
        """The process is gone; what it wrote is in the page cache."""
        self._end(down_us)
        self.disk.kill()

    def lose_power(self, down_us: int = 200_000) -> None:
        """The machine is gone: what was not synced may be, in whole or in part."""
        self._asleep_us -= self.clockwork.release()
        self._end(down_us)
        random = self.world.random
        if random.random() < 0.3:
            self.disk.crash(torn=random.randrange(200))
        else:
            self.disk.crash(random.choice(("none", "all", "random")))

    def die_in_call(self, number: int) -> None:
        """It dies in that call of its file system from now."""
        moments: tuple[Moment, ...] = ("before", "during", "during", "after")
        moment = self.world.random.choice(moments)
        self.disk.crash_at(len(self.disk.calls) + 1 + number, moment)

    def sleep(self, for_us: int) -> None:
        """Everything on it stands still for so long, and so does its monotonic clock."""
        longer_us = self.clockwork.hold(for_us)
        self._asleep_us += longer_us
        self.stands(longer_us)

    @abstractmethod
    def stands(self, longer_us: int) -> None:
        """It does nothing for so much longer."""

    def slow_disk(self, for_us: int) -> None:
        """Each flush takes long meanwhile."""
        self._is_slow_until_us = self.world.now_us + for_us

    def flush_us(self) -> int:
        """How long it takes from an append to the end of its flush."""
        random = self.world.random
        if self.world.now_us < self._is_slow_until_us:
            self.world.count("slow flush")
            return random.randint(100_000, 3_000_000)
        return random.randint(50, 500_000 if self.world.chance(2) else 500)

    def fail_call(self, number: int, error: int) -> None:
        """That call of its file system from now fails."""
        number += len(self.disk.calls) + 1

        def failing(call: Call) -> int | None:
            if call.number < number:
                return None
            self.disk.fail_while(None)
            self.world.count(f"failed: {call.operation}")
            return error

        self.disk.fail_while(failing)

    def fill_disk(self, for_us: int, left_bytes: int) -> None:
        """Others take all room but so much, and give it back later."""
        self.disk.capacity = self.disk.used + left_bytes
        self.world.after(for_us, self._clear_disk)

    def fail_sync(self) -> None:
        """The next sync of data fails."""

        def failing(call: Call) -> int | None:
            if call.operation != "fdatasync":
                return None
            self.disk.fail_while(None)
            return errno.EIO

        self.disk.fail_while(failing)

    def calm(self) -> None:
        """No fault is planned any more."""
        self.disk.crash_at(-1)
        self.disk.fail_while(None)
        self._clear_disk()

    def _clear_disk(self) -> None:
        self.disk.capacity = None

    def _end(self, down_us: int) -> None:
        self.end_process()
        self.world.note(f"{self.node} is down")
        self.world.count("manager crashed")
        self.clockwork.after(down_us, self.start)
