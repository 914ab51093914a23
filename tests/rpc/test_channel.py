"""What servers bound of connections."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

import grpc
import pytest

from tests.manager.harness import until
from titan.rpc import channel
from titan.rpc.channel import connections_max, new_aio_server, open_aio_channel


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [
        (resource.RLIM_INFINITY, 16_000),
        (1 << 20, 16_000),
        (4_096, 3_840),
        (1_024, 768),
        (256, 128),
    ],
)
def test_connections_leave_descriptors_for_the_log(
    descriptors: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_max() == connections


def test_connections_over_the_limit_are_closed_and_those_within_it_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "CONNECTIONS_MAX", 4)

    async def scenario() -> None:
        server = new_aio_server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with open_aio_channel(f"127.0.0.1:{port}") as honest:
            await honest.channel_ready()
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
            ends = [asyncio.create_task(reader.read()) for reader, _ in idle]

            def closed() -> int:
                return sum(each.done() for each in ends)

            await until(lambda: closed() == 7)
            with pytest.raises(grpc.aio.AioRpcError) as answered:
                await honest.unary_unary("/no/Method")(b"")  # type: ignore[arg-type]
            assert answered.value.code() is grpc.StatusCode.UNIMPLEMENTED
            # Who goes makes room for others.
            for _, writer in idle:
                writer.close()
            for each in ends:
                each.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await each
            async with open_aio_channel(f"127.0.0.1:{port}") as later:
                await asyncio.wait_for(later.channel_ready(), 60)
        await server.stop(0)

    asyncio.run(scenario())
