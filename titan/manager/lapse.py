"""Ends the wait of a stream whose caller may not call any more: he was revoked, or has expired.

A stream may wait for days for something to tell. Whether its caller still counts is looked at with
each answer, and by this while there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Self, TypeVar

from titan.errors import TitanError

Reply = TypeVar("Reply")

# A look costs as much as a call does: some stats of files.
LOOK_SECONDS: Final = 2.0


class Lapse:
    """Watches over one stream, of the task that enters it."""

    def __init__(self, check: Callable[[], object]) -> None:
        """`check` raises TitanError once the caller may not call any more."""
        self._check = check
        self._error: TitanError | None = None
        self._limit: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._look_later()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def next(self, replies: AsyncIterator[Reply]) -> Reply:
        """The next of them. Raises what `check` does, and StopAsyncIteration at the end."""
        try:
            async with asyncio.timeout(None) as self._limit:
                return await anext(replies)
        except TimeoutError:
            if self._error is None:
                raise
            raise self._error from None
        finally:
            self._limit = None

    def _look(self) -> None:
        try:
            self._check()
        except TitanError as error:
            self._error = error
            if self._limit is not None:
                # Elsewhere it does not wait for news, but for whoever reads them.
                self._limit.reschedule(asyncio.get_running_loop().time())
                return
        self._look_later()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
