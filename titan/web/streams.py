"""Answers that go on: server-sent events, until they end or whoever reads them has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final

from starlette.types import Receive, Scope, Send

from titan.errors import AccessDenied

# Proxies and browsers let a connection go on which nothing is said.
ALIVE: Final = b": still here\n\n"
ALIVE_SECONDS: Final = 15.0


class EventStream:
    """An ASGI answer. Whoever does not read it holds it up, and nothing is kept for him."""

    def __init__(self, events: AsyncGenerator[bytes, None], check: Callable[[], object]) -> None:
        """`check` raises AccessDenied once whoever reads it may not any more: then it ends."""
        self._events = events
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        sending = asyncio.create_task(self._send(send, is_head=scope["method"] == "HEAD"))
        leaving = asyncio.create_task(_wait_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send, *, is_head: bool) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            # Else nginx would gather them.
            (b"x-accel-buffering", b"no"),
        ]
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if is_head:
                await send({"type": "http.response.body", "body": b""})
                return
            with suppress(AccessDenied):
                async for each in events:
                    self._check()
                    await send({"type": "http.response.body", "body": each, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def kept_alive(events: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same, and something to show that it goes on when there is nothing for a while."""
    waiting: asyncio.Task[bytes] | None = None
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(events))
            done, _ = await asyncio.wait({waiting}, timeout=ALIVE_SECONDS)
            if not done:
                yield ALIVE
                continue
            each, waiting = waiting.result(), None
            if not each:
                return
            yield each
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def _next(events: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(events)
    except StopAsyncIteration:
        # A task can't end with it.
        return b""


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
