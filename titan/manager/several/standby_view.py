"""What a manager that stands by knows: the state up to where it has read the log of the leader.

All of it is durable, since it comes out of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from titan.state.cluster import ClusterState


class StandbyView:
    """The state of one standby, until it leads. Owned by the loop."""

    def __init__(
        self,
        state: ClusterState,
        now_us: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`state` is applied to by whoever reads the log; `now_us` is the wall clock."""
        self.state: Final = state
        self.started_us: Final = now_us()
        self._now_us = now_us
        self._monotonic = monotonic
        self._end_lsn = state.lsn
        self._level_at = monotonic()
        self._is_closed = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def lsn(self) -> int:
        """The last record in the state."""
        return self.state.lsn

    @property
    def is_closed(self) -> bool:
        """Whether the state is another's by now."""
        return self._is_closed

    @property
    def lag_records(self) -> int:
        """How many records the log had, when it was looked at last, that the state has not."""
        return max(self._end_lsn - self.state.lsn, 0)

    @property
    def lag_seconds(self) -> float:
        """How long ago the state had all that the log had: the time between two looks at least, and
        it grows while the log cannot be reached."""
        return max(self._monotonic() - self._level_at, 0.0)

    def now_us(self) -> int:
        """The time, never before that of the last record."""
        return max(self._now_us(), self.state.time_us)

    def note_end(self, lsn: int) -> None:
        """The log was looked at and ended there; called after what was found was applied."""
        self._end_lsn = lsn
        if lsn <= self.state.lsn:
            self._level_at = self._monotonic()

    def advanced(self) -> None:
        """Records were applied."""
        self._end_lsn = max(self._end_lsn, self.state.lsn)
        self._release(self.state.lsn)

    async def wait_lsn(self, lsn: int) -> None:
        """Returns when the state has that record, or is another's."""
        if lsn <= self.state.lsn or self._is_closed:
            return
        waiter = (lsn, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter[1]
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def close(self) -> None:
        """From now on the state is a kernel's, and may hold what is not durable."""
        self._is_closed = True
        self._release(None)

    def _release(self, lsn: int | None) -> None:
        if not self._waiting:
            return
        for waiter in list(self._waiting):
            wanted, over = waiter
            if lsn is None or wanted <= lsn:
                self._waiting.remove(waiter)
                if not over.done():
                    over.set_result(None)
