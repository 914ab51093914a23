"""Calls that block, made one after the other in a thread that holds up no end of the process.

The default executor's threads are waited for when a loop ends; one that waits for a database which
does not answer may have minutes to go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")


class Blocking:
    """One such thread, for calls of one loop."""

    def __init__(self, name: str) -> None:
        """Starts it; called in the loop."""
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None]
        self._calls = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    async def run(self, call: Callable[..., Result], *arguments: object) -> Result:
        """What the call returns or raises, once those before it are over.

        Whoever is cancelled waits no more; the call is made all the same.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self._calls.put((lambda: call(*arguments), future))
        return await future

    def stop(self) -> None:
        """Ends the thread once the calls made so far are over; nothing is waited for."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                result, error = function(), None
            except BaseException as raised:  # noqa: BLE001  (it is raised where it is waited for)
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                # The loop is closed, and nobody waits any more.
                return


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
