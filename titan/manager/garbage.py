"""When the manager looks for cycles of garbage: a little at a time, and not in what it keeps.

Python's collector goes through all that lives whenever that has grown by a quarter: with a million
jobs a pause of seconds, in which nobody is heard. The state has no cycles: counts free it. Calls of
gRPC have, of six small objects each. So the collector is switched off, and asked for the young
objects when they are many, and for those that stayed when these are. Of what is left then, if it
is much, most is state: it is set aside (`gc.freeze`) and not looked at again.

A call that was under way at that moment is set aside as well, and its cycle lost when it ends. So
after a hundred times all is looked at once.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

LOOK_SECONDS: Final = 0.1
# Objects that came and have not gone by themselves: to search them takes some 30 ms.
YOUNG_MAX: Final = 50_000
# Of those that stayed, as far as is known: some 100 ms.
STAYED_MAX: Final = 200_000
# So many that are no garbage are set aside.
KEPT_MIN: Final = 100_000
# Each may lose a KiB for each call under way.
FREEZES_MAX: Final = 100


class Collector:
    """Python's collector, on the manager's terms; one a process."""

    def __init__(self) -> None:
        """From now on nothing is searched but by `collect_if_due`, and what there is now never."""
        gc.disable()
        gc.freeze()
        self._stayed = 0
        self._freezes = 0

    def collect_if_due(self) -> None:
        """Searches what came since the last time, if it is enough."""
        young = gc.get_count()[0]
        if young < YOUNG_MAX:
            return
        gc.collect(1)
        self._stayed += young
        if self._stayed < STAYED_MAX:
            return
        self._stayed = 0
        if self._freezes == FREEZES_MAX:
            self._freezes = 0
            gc.unfreeze()
        gc.collect()
        if len(gc.get_objects(generation=2)) >= KEPT_MIN:
            self._freezes += 1
            gc.freeze()

    async def run(self) -> None:
        """Looks now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.collect_if_due()
