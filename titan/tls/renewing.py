"""Channels that go on with other certificates when their files change.

Calls that are under way end where they began; those that come later go over a new connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Self

import grpc
import grpc.aio

# A stream that is still open then is cut, and opened again by whoever reads it.
_OLD_SECONDS: Final = 60.0


class RenewingChannel:
    """What stubs need of a channel for threads; `look` tells the generation of the files."""

    def __init__(self, open_channel: Callable[[], grpc.Channel], look: Callable[[], int]) -> None:
        self._open = open_channel
        self._look = look
        self._generation = look()
        self._channel = open_channel()
        # The one before: more would be kept by who never ends.
        self._old: grpc.Channel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unary_unary(self, *arguments: Any, **named: Any) -> _Method:
        """As of a channel."""
        return self._method("unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> _Method:
        """As of a channel."""
        return self._method("unary_stream", arguments, named)

    def close(self) -> None:
        """As of a channel."""
        for each in (self._old, self._channel):
            if each is not None:
                each.close()

    def _method(self, kind: str, arguments: Any, named: Any) -> _Method:
        return _Method(self._current, lambda channel: getattr(channel, kind)(*arguments, **named))

    def _current(self) -> grpc.Channel:
        generation = self._look()
        if generation != self._generation:
            self._generation = generation
            if self._old is not None:
                self._old.close()
            self._old, self._channel = self._channel, self._open()
        return self._channel


class _Method:
    """What a channel makes of a method, made anew when the channel is another."""

    def __init__(
        self, current: Callable[[], grpc.Channel], make: Callable[[grpc.Channel], Any]
    ) -> None:
        self._current = current
        self._make = make
        self._made: tuple[grpc.Channel, Any] | None = None

    def __call__(self, *request: Any, **options: Any) -> Any:
        """As of a channel's."""
        return self._now()(*request, **options)

    def future(self, *request: Any, **options: Any) -> Any:
        """As of a channel's."""
        return self._now().future(*request, **options)

    def _now(self) -> Any:
        channel = self._current()
        if self._made is None or self._made[0] is not channel:
            self._made = channel, self._make(channel)
        return self._made[1]


class RenewingAioChannel:
    """The same for the running asyncio loop."""

    def __init__(
        self, open_channel: Callable[[], grpc.aio.Channel], look: Callable[[], int]
    ) -> None:
        self._open = open_channel
        self._look = look
        self._generation = look()
        self._channel = open_channel()
        self._closing: set[asyncio.Task[None]] = set()
        # A channel that closes with grace can't be closed sooner, but ends when its calls do.
        self._calls: set[Any] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def unary_unary(self, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """As of a channel."""
        return self._method("unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """As of a channel."""
        return self._method("unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """As of a channel."""
        return self._method("stream_unary", arguments, named)

    async def channel_ready(self) -> None:
        """As of a channel."""
        await self._current().channel_ready()

    async def close(self) -> None:
        """As of a channel."""
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close()

    def _method(self, kind: str, arguments: Any, named: Any) -> Callable[..., Any]:
        made: tuple[grpc.aio.Channel, Callable[..., Any]] | None = None

        def call(*request: Any, **options: Any) -> Any:
            nonlocal made
            channel = self._current()
            if made is None or made[0] is not channel:
                made = channel, getattr(channel, kind)(*arguments, **named)
            under_way = made[1](*request, **options)
            self._calls.add(under_way)
            under_way.add_done_callback(self._calls.discard)
            return under_way

        return call

    def _current(self) -> grpc.aio.Channel:
        generation = self._look()
        if generation != self._generation:
            self._generation = generation
            closing = asyncio.create_task(self._channel.close(_OLD_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._channel = self._open()
        return self._channel
