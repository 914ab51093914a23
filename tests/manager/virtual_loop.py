"""A loop whose time passes only when nothing else is left to do, and when a test says so."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Callbacks run as ever; where asyncio would wait for a timer, the clock jumps to it."""

    def __init__(self) -> None:
        self._selector_of_time = _Jumping()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        """Seconds since it was made."""
        return self._selector_of_time.now

    def pass_time(self, seconds: float) -> None:
        """Something holds the loop for so long."""
        self._selector_of_time.now += seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and for nothing that will ever come"
        self.now += max(timeout, 0)
        return super().select(0)


def run_virtually(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs it in such a loop, at the price of no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


def virtual_loop() -> VirtualLoop:
    """The one that is running."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
