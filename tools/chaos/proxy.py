"""A TCP proxy that is a bad network: `python -m tools.chaos.proxy LINKS`, a process of its own.

LINKS is a JSON list of {name, listen, to}: ports on 127.0.0.1. What a link does to its
connections is told by lines on stdin, each a JSON object {link, condition} or {link, drop: true};
link "*" means all. It ends with its stdin.

What TCP promises is kept: bytes arrive in order and whole, or the connection breaks. So a link
that is *frozen* holds bytes back, as a network does that loses every packet, and lets them go on
when it thaws; a direction that *swallows* reads and forgets, and a connection that has lost bytes
so is broken as soon as the link is well again.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

FORTH: Final = "forth"
"""From who connected to who accepted."""
BACK: Final = "back"

PASS: Final = "pass"
FREEZE: Final = "freeze"
SWALLOW: Final = "swallow"

CHUNK_BYTES: Final = 16 * 1024
# Nobody waits longer than this for a connection that is made on the same machine.
CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a link does to the bytes of both directions."""

    forth: str = PASS
    back: str = PASS
    refuses: bool = False
    """Connections are broken, and new ones at once."""
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: as fast as it goes."""

    def way(self, direction: str) -> str:
        """What becomes of bytes in that direction."""
        return self.forth if direction == FORTH else self.back


WELL: Final = Condition()


class Link:
    """Everything that is connected through one port."""

    def __init__(self, name: str, to_port: int, seed: str = "") -> None:
        self.name = name
        self._to_port = to_port
        self._chance = random.Random(f"{name} {seed}")
        self._condition = WELL
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, port: int) -> int:
        """The port that it listens on; 0 takes a free one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Breaks everything."""
        if self._server is not None:
            self._server.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, condition: Condition) -> None:
        """From now on; connections that have lost bytes are broken when no more are lost."""
        self._condition = condition
        self._changed.set()
        self._changed = asyncio.Event()
        if condition.refuses:
            self.drop()
        elif SWALLOW not in (condition.forth, condition.back):
            for each in [each for each in self._connections if each.is_torn]:
                each.abort()

    def drop(self) -> None:
        """Breaks all connections."""
        for each in [*self._connections]:
            each.abort()

    async def pass_on(self, direction: str, size_bytes: int) -> bool:
        """Waits as long as these bytes take; False: they are lost."""
        while self._condition.way(direction) == FREEZE:
            await self._changed.wait()
        if self._condition.way(direction) == SWALLOW:
            return False
        seconds = self._condition.delay_seconds
        seconds += self._chance.uniform(0, self._condition.jitter_seconds)
        if self._condition.bytes_per_second:
            seconds += size_bytes / self._condition.bytes_per_second
        if seconds:
            await asyncio.sleep(seconds)
        return True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        if self._condition.refuses:
            connection.abort()
            return
        self._connections.add(connection)
        # Not asyncio's own task for it, which complains of being cancelled.
        connection.task = asyncio.create_task(self._carry(connection, reader))
        self._tasks.add(connection.task)
        connection.task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        try:
            with suppress(OSError, TimeoutError):
                await connection.carry(reader, self._to_port)
        finally:
            connection.close()
            self._connections.discard(connection)


class _Connection:
    """One that came in, and the one that was made for it."""

    def __init__(self, link: Link, near: asyncio.StreamWriter) -> None:
        self.is_torn = False
        self.task: asyncio.Task[None] | None = None
        self._link = link
        self._writers = [near]

    async def carry(self, near: asyncio.StreamReader, to_port: int) -> None:
        """Until one side ends. Raises OSError, TimeoutError."""
        # While nothing passes forth there is no connection either.
        if not await self._link.pass_on(FORTH, 0):
            await self._wait_to_be_broken()
        far, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", to_port), CONNECT_SECONDS
        )
        self._writers.append(writer)
        pumps = [
            asyncio.create_task(self._pump(near, writer, FORTH)),
            asyncio.create_task(self._pump(far, self._writers[0], BACK)),
        ]
        try:
            # Neither side of gRPC goes on with half a connection.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if await self._link.pass_on(direction, len(data)):
                    writer.write(data)
                    await writer.drain()
                else:
                    self.is_torn = True
            # The end does not get through either where nothing does.
            if not await self._link.pass_on(direction, 0):
                await self._wait_to_be_broken()

    async def _wait_to_be_broken(self) -> None:
        """What was swallowed can't come any more."""
        self.is_torn = True
        await asyncio.Event().wait()

    def abort(self) -> None:
        """Both sides see it broken: the connection is reset, see SO_LINGER in socket(7)."""
        for each in self._writers:
            if not each.transport.is_closing():
                end: socket.socket = each.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.transport.abort()
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Ends it on both sides, once they have what was on its way."""
        for each in self._writers:
            each.close()


async def serve(links: Iterable[dict[str, Any]], seed: str) -> None:
    """Until stdin ends. Says "ready" on stdout when all ports are there. Raises OSError."""
    known = {}
    for each in links:
        link = known[each["name"]] = Link(each["name"], each["to"], seed)
        await link.listen(each["listen"])
    print("ready", flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while line := await lines.readline():
        command = json.loads(line)
        wanted = known.values() if command["link"] == "*" else [known[command["link"]]]
        for link in wanted:
            if command.get("drop"):
                link.drop()
            else:
                link.set(Condition(**command["condition"]))
    for link in known.values():
        await link.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1]), sys.argv[2]))
