"""Who begins calls and ends none keeps nobody else from being heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from tests.security.conftest import SecureCluster
from titan.rpc.channel import open_aio_channel
from titan.rpc.reading import READ_AT_ONCE, READ_SECONDS
from titan.tls.identity import Role
from titan.tls.pem import PemFiles

METHOD = "/titan.v1.ManagerService/GetStats"
# Of the greedy one, so many connections.
CONNECTIONS = 8


async def never() -> AsyncIterator[bytes]:
    """A message that does not come."""
    await asyncio.Event().wait()
    yield b""


async def ask(channel: grpc.aio.Channel, seconds: float) -> bool:
    """Whether it is answered within that."""
    method: Any = channel.unary_unary(METHOD)
    try:
        await method(b"", timeout=seconds)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
        return False
    return True


def test_a_user_with_hundreds_of_unfinished_calls_keeps_no_other_waiting(
    cluster: SecureCluster,
) -> None:
    people = cluster.people
    greedy = people.issue(Role.USER, "greedy")
    bob = people.issue(Role.USER, "bob", "fair-bob")

    async def scenario() -> None:
        his = [
            open_aio_channel(cluster.address, PemFiles(greedy, Role.USER))
            for _ in range(CONNECTIONS)
        ]
        bobs = open_aio_channel(cluster.address, PemFiles(bob, Role.USER))
        assert await ask(bobs, READ_SECONDS * 2)
        calls: list[Any] = []
        for channel in his:
            method: Any = channel.stream_unary(METHOD)
            calls += [method(never()) for _ in range(READ_AT_ONCE)]
        # They have arrived when he himself gets no further.
        while await ask(his[0], 0.5):
            pass
        # Before the time is over for which a message is waited for: nobody has had to go for him.
        assert await ask(bobs, READ_SECONDS)
        assert not any(each.done() for each in calls)
        for each in calls:
            each.cancel()
        for each in (*his, bobs):
            await each.close()

    asyncio.run(scenario())
