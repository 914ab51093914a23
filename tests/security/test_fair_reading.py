"""Who begins calls and ends none keeps nobody else from being heard."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.cluster import DEADLINE_SECONDS, Server
from tests.security.conftest import SecureCluster
from tests.security.people import People
from titan.rpc.channel import open_aio_channel
from titan.rpc.reading import READ_AT_ONCE
from titan.tls.identity import Role
from titan.tls.pem import PemFiles

METHOD = "/titan.v1.ManagerService/GetStats"
# Of the greedy one, so many connections.
CONNECTIONS = 8
# Runs the command after it, with a manager that waits for a message for longer than the test takes:
# nobody has had to go for another.
WAITS_LONG = """
import sys
from titan.cli.main import main
from titan.rpc import reading
reading.READ_SECONDS = 600.0
# The interpreter, -m and the module.
del sys.argv[1:4]
main()
"""


class WaitingCluster(SecureCluster):
    """One whose manager waits for messages for long."""

    def spawn_manager(self, *options: str, under: Sequence[str] = ()) -> Server:
        """With another time to wait."""
        return super().spawn_manager(*options, under=(*under, sys.executable, "-c", WAITS_LONG))


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[SecureCluster]:
    """Its manager alone."""
    with WaitingCluster(tmp_path / "cluster") as made:
        made.people = People(made.root / "tls")
        made.people.issue(Role.MANAGER, "manager")
        made.start_manager()
        yield made


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
    waiting: SecureCluster,
) -> None:
    people = waiting.people
    greedy = people.issue(Role.USER, "greedy")
    bob = people.issue(Role.USER, "bob")

    async def scenario() -> None:
        his = [
            open_aio_channel(waiting.address, PemFiles(greedy, Role.USER))
            for _ in range(CONNECTIONS)
        ]
        bobs = open_aio_channel(waiting.address, PemFiles(bob, Role.USER))
        for channel in (*his, bobs):
            # A call does not wait that long for a connection.
            await channel.channel_ready()
        assert await ask(bobs, DEADLINE_SECONDS)
        calls: list[Any] = []
        for channel in his:
            method: Any = channel.stream_unary(METHOD)
            calls += [method(never()) for _ in range(READ_AT_ONCE)]
        # They have arrived when he himself gets no further.
        while await ask(his[0], 0.5):
            pass
        assert await ask(bobs, DEADLINE_SECONDS)
        assert not any(each.done() for each in calls)
        for each in calls:
            each.cancel()
        for each in (*his, bobs):
            await each.close()

    asyncio.run(scenario())
