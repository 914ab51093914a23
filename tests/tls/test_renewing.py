"""Channels whose certificates change: where calls end that are under way, and what is left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.manager.harness import until
from titan.tls import renewing
from titan.tls.renewing import RenewingAioChannel, RenewingChannel

DEADLINE_SECONDS = 60.0


class Server:
    """Tells callers from which of their connections they call, and never ends a stream itself."""

    def __init__(self) -> None:
        self.address = ""
        self.streams: set[str] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        server = grpc.aio.server()
        handlers: dict[str, Any] = {
            "Who": grpc.unary_unary_rpc_method_handler(self._who),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    async def _who(self, _request: bytes, context: Any) -> bytes:
        return str(context.peer()).encode()

    async def _watch(self, _request: bytes, context: Any) -> AsyncIterator[bytes]:
        peer = context.peer()
        self.streams.add(peer)
        try:
            while True:
                yield peer.encode()
                await asyncio.sleep(0.01)
        finally:
            self.streams.discard(peer)


class Files:
    """Certificates that change when the test says so."""

    def __init__(self) -> None:
        self.generation = 0

    def look(self) -> int:
        return self.generation


def run(scenario: Callable[[Server, Files], Awaitable[None]]) -> None:
    """With a server in the same loop."""

    async def with_server() -> None:
        server = Server()
        async with server.serve(), asyncio.timeout(DEADLINE_SECONDS):
            await scenario(server, Files())

    asyncio.run(with_server())


# Each channel has a connection of its own.
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


async def read_on(stream: Any) -> None:
    while True:
        await stream.read()


def aio_channel(server: Server, files: Files) -> RenewingAioChannel:
    return RenewingAioChannel(
        lambda: grpc.aio.insecure_channel(server.address, OPTIONS), files.look
    )


def test_calls_of_a_loop_stay_where_they_began_and_later_ones_go_over_the_new_channel() -> None:
    async def scenario(server: Server, files: Files) -> None:
        async with aio_channel(server, files) as channel:
            who, watch = channel.unary_unary("/test/Who"), channel.unary_stream("/test/Watch")
            stream = watch(b"")
            first = await stream.read()
            assert await who(b"") == first
            files.generation += 1
            second = await who(b"")
            assert second != first
            # Whoever has the method from before calls anew, too.
            assert await who(b"") == await channel.unary_unary("/test/Who")(b"") == second
            assert await stream.read() == first
            stream.cancel()

    run(scenario)


def test_a_stream_of_a_loop_that_does_not_end_is_cut_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewing, "_OLD_SECONDS", 0.05)

    async def scenario(server: Server, files: Files) -> None:
        async with aio_channel(server, files) as channel:
            stream = channel.unary_stream("/test/Watch")(b"")
            await stream.read()
            files.generation += 1
            await channel.unary_unary("/test/Who")(b"")
            with pytest.raises(asyncio.CancelledError):
                await read_on(stream)

    run(scenario)


def test_closing_the_channel_of_a_loop_ends_the_old_ones_as_well() -> None:
    async def scenario(server: Server, files: Files) -> None:
        channel = aio_channel(server, files)
        streams = []
        for _ in range(3):
            streams.append(channel.unary_stream("/test/Watch")(b""))
            await streams[-1].read()
            files.generation += 1
        assert len(server.streams) == 3
        await channel.close()
        assert [each.done() for each in streams] == [True] * 3
        await until(lambda: not server.streams)

    run(scenario)


def test_calls_of_threads_do_as_well() -> None:
    def call(server: Server, files: Files) -> None:
        opened: list[grpc.Channel] = []

        def open_channel() -> grpc.Channel:
            opened.append(grpc.insecure_channel(server.address, OPTIONS))
            return opened[-1]

        with RenewingChannel(open_channel, files.look) as channel:
            who, watch = channel.unary_unary("/test/Who"), channel.unary_stream("/test/Watch")
            streams = [watch(b"", timeout=DEADLINE_SECONDS)]
            first = next(streams[0])
            assert who(b"") == first
            files.generation += 1
            second = who.future(b"").result()
            assert second != first
            assert who(b"") == second
            assert channel.unary_unary("/test/Who")(b"") == second
            assert next(streams[0]) == first
            # The one before the last is not kept.
            streams.append(watch(b"", timeout=DEADLINE_SECONDS))
            assert next(streams[1]) == second
            files.generation += 1
            assert who(b"") not in (first, second)
            with pytest.raises(grpc.RpcError) as raised:
                list(streams[0])
            assert raised.value.code() is grpc.StatusCode.CANCELLED
            assert next(streams[1]) == second
            assert len(opened) == 3
        with pytest.raises(grpc.RpcError):
            list(streams[1])
        with pytest.raises(ValueError, match="closed channel"):
            who(b"")

    async def scenario(server: Server, files: Files) -> None:
        await asyncio.to_thread(call, server, files)
        await until(lambda: not server.streams)

    run(scenario)
