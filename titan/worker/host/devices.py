"""Which task has which devices: the very ones that stand behind a worker's named resources.

Pure. A device is never two tasks' at once, whatever the manager counts with: a worker may offer
fewer than those that run have. Then the next one waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from titan.model import AttemptKey
from titan.worker.messages import DeviceIds, OfferedDevices

GPU: Final = "gpu"
"""Tasks can take these without asking, so one that asks for none is told that it has none."""


class Devices:
    """The devices of one host. To take and give back is O(log devices) for each."""

    def __init__(self) -> None:
        # None: nobody has said, as an older agent.
        self._offered: OfferedDevices = None
        # The ids of each resource, None where it is only counted.
        self._ids: dict[str, tuple[str, ...] | None] = {}
        self._positions: dict[str, dict[str, int]] = {}
        # Heaps of positions.
        self._free: dict[str, list[int]] = {}
        self._held: dict[AttemptKey, DeviceIds] = {}

    def offer(self, offered: OfferedDevices) -> None:
        """From now on there are these; those that tasks have and that are not among them stay."""
        if offered == self._offered:
            return
        self._offered = offered
        self._ids = dict(offered or ())
        held = {(name, each) for got in self._held.values() for name, ids in got for each in ids}
        self._positions.clear()
        self._free.clear()
        for name, ids in self._ids.items():
            positions = {each: position for position, each in enumerate(ids or ())}
            self._positions[name] = positions
            # Sorted, and so a heap.
            self._free[name] = [at for each, at in positions.items() if (name, each) not in held]

    def suffice(self, named: Sequence[tuple[str, int]]) -> bool:
        """Whether so many of each are free."""
        if self._offered is None:
            return True
        return all(
            count <= len(self._free.get(name, ()))
            for name, count in named
            if self._ids.get(name, ()) is not None
        )

    def take(self, key: AttemptKey, named: Sequence[tuple[str, int]]) -> DeviceIds:
        """It gets the first ones that are free, which `suffice`, of each that has ids."""
        taken: DeviceIds = ()
        for name, count in named:
            ids = self._ids.get(name)
            if ids is not None:
                free = self._free[name]
                positions = sorted(heapq.heappop(free) for _ in range(count))
                taken += ((name, tuple(ids[position] for position in positions)),)
        if taken:
            self._held[key] = taken
        if self._ids.get(GPU) and all(name != GPU for name, _ in taken):
            taken += ((GPU, ()),)
        return taken

    def give_back(self, key: AttemptKey) -> bool:
        """It has ended. Whether it had any."""
        taken = self._held.pop(key, ())
        for name, ids in taken:
            positions = self._positions.get(name, {})
            for each in ids:
                if each in positions:
                    heapq.heappush(self._free[name], positions[each])
        return bool(taken)

    def held(self) -> dict[AttemptKey, DeviceIds]:
        """Who has which."""
        return self._held.copy()
