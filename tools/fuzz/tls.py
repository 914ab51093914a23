"""TLS that is broken off, damaged, begun by strangers, begun again, or begun and held."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from tools.fuzz import raw
from tools.fuzz.link import Link
from tools.fuzz.target import Target

AT_ONCE: Final = 64
STRANGERS: Final = 150
DAMAGED: Final = 150
# Each of these costs both sides a signature.
SECOND_FLIGHTS: Final = 60
_WAIT_SECONDS: Final = 0.2
_SHAKE_SECONDS: Final = 30.0
# What openssl s_client takes for a command, one at a time, and how often it gets it.
_COMMANDS: Final = {"-tls1_2": b"R\n", "-tls1_3": b"K\n"}
_COMMANDS_SENT: Final = 40

T = TypeVar("T")
Storm = Callable[[Target, random.Random], Awaitable[Counter[str]]]


async def broken_hellos(target: Target, rng: random.Random) -> Counter[str]:
    """The client's hello, broken off after each of its bytes."""
    with Link(target) as link:
        hello = link.begin()
    pieces = [hello[:end] for end in range(len(hello) + 1)]
    return await _each(pieces, lambda piece: _say(target, piece, tears=rng.random() < 0.5))


async def damaged_hellos(target: Target, rng: random.Random) -> Counter[str]:
    """Hellos with some bytes that are others, and records that say to be longer than they are."""

    def damaged() -> bytes:
        with Link(target) as link:
            hello = bytearray(link.begin())
        for _ in range(rng.choice((1, 1, 2, 8))):
            hello[rng.randrange(len(hello))] = rng.randrange(256)
        return bytes(hello)

    pieces = [damaged() for _ in range(DAMAGED)]
    return await _each(pieces, lambda piece: _say(target, piece, tears=rng.random() < 0.3))


async def broken_seconds(target: Target, rng: random.Random) -> Counter[str]:
    """Handshakes of which the client's last part, with its certificate, is broken off."""

    async def one(part: float) -> str:
        with Link(target) as link:
            await link.connect()
            last = await link.shake()
            await link.send_plain(last[: int(part * len(last))])
            return await _end(link, tears=rng.random() < 0.5)

    return await _each([rng.random() for _ in range(SECOND_FLIGHTS)], one)


async def strangers(target: Target, rng: random.Random) -> Counter[str]:
    """Whole handshakes by who has no certificate, or another CA's, and a greeting."""

    async def one(context: ssl.SSLContext) -> str:
        with Link(target, context) as link:
            await link.connect()
            await link.send_plain(await link.shake())
            await link.send(raw.greeting())
            return await _end(link, tears=False)

    return await _each(rng.choices(target.strangers, k=STRANGERS), one)


async def garbage_records(target: Target, rng: random.Random) -> Counter[str]:
    """Records of any kind, length and content when the handshake is over, or amid it."""

    def record() -> bytes:
        size = rng.choice((0, 1, 2, 100, 16_384, 18_500))
        kind = rng.choice((20, 21, 22, 23, 24, 255))
        told = size if rng.random() < 0.8 else rng.randrange(1 << 16)
        return bytes((kind, 3, rng.choice((1, 3, 4)))) + told.to_bytes(2) + rng.randbytes(size)

    async def one(is_amid: bool) -> str:
        with Link(target) as link:
            await link.connect()
            if is_amid:
                await link.send_plain(link.begin())
            else:
                await link.send_plain(await link.shake())
            await link.send_plain(b"".join(record() for _ in range(rng.randint(1, 5))))
            return await _end(link, tears=rng.random() < 0.3)

    return await _each([rng.random() < 0.5 for _ in range(SECOND_FLIGHTS)], one)


async def begun_again(target: Target, _: random.Random) -> Counter[str]:
    """Renegotiation with TLS 1.2 (CVE-2011-1473), new keys all the time with TLS 1.3."""
    if shutil.which("openssl") is None or target.folder is None:
        return Counter({"left out": 1})
    return await _each([*_COMMANDS] * 3, lambda version: _s_client(target, version))


STORMS: Final[dict[str, Storm]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        broken_hellos, damaged_hellos, broken_seconds, strangers, garbage_records, begun_again,
    )
}  # fmt: skip


async def keep_idle(target: Target, count: int, hold: asyncio.Event, opened: Counter[str]) -> None:
    """So many connections that say nothing, until `hold` is set; what is closed is made again.

    Of eight, five have finished the handshake and greeted, and answer what keeps them; one has
    finished it alone, one has sent a part of its hello, and one has sent nothing. `opened` has how
    many are open, how many of these have finished, and how many were closed.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def once(number: int) -> None:
        kind = number % 8
        finished = False
        with Link(target) as link:
            await link.connect()
            opened["open"] += kind > 5
            try:
                if kind < 6:
                    async with room, asyncio.timeout(_SHAKE_SECONDS):
                        await link.send_plain(await link.shake())
                    opened["open"] += 1
                    opened["finished"] += 1
                    finished = True
                elif kind == 6:
                    hello = link.begin()
                    await link.send_plain(hello[: 1 + number % len(hello)])
                if kind < 5:
                    await link.send(raw.greeting())
                    await link.stay()
                else:
                    await link.drain_plain()
                opened["closed by it"] += 1
            finally:
                opened["open"] -= finished or kind > 5
                opened["finished"] -= finished

    async def one(number: int) -> None:
        while True:
            with suppress(OSError):
                await once(number)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            tasks.append(group.create_task(one(number)))
            if number % 50 == 49:
                # A listen queue has an end.
                await asyncio.sleep(0.02)
        await hold.wait()
        for task in tasks:
            task.cancel()


async def drip(target: Target, count: int, hold: asyncio.Event) -> None:
    """Hellos of which one byte comes each second."""

    async def one(start: int) -> None:
        with suppress(OSError), Link(target) as link:
            hello = link.begin()
            await link.connect()
            await link.send_plain(hello[:start])
            for byte in hello[start:]:
                await link.send_plain(bytes((byte,)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await hold.wait()
                if hold.is_set():
                    return

    await raw.run_all([lambda n=number: one(7 * n) for number in range(count)])  # type: ignore[misc]


async def _each(items: list[T], do: Callable[[T], Awaitable[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> None:
        async with room:
            try:
                async with asyncio.timeout(_SHAKE_SECONDS):
                    found[await do(item)] += 1
            except TimeoutError:
                found["not answered"] += 1
            except OSError:
                found["dropped"] += 1

    await raw.run_all([lambda i=item: one(i) for item in items])  # type: ignore[misc]
    return found


async def _say(target: Target, data: bytes, *, tears: bool) -> str:
    with Link(target) as link:
        await link.connect()
        await link.send_plain(data)
        return await _end(link, tears=tears)


async def _end(link: Link, *, tears: bool) -> str:
    """What becomes of it when nothing more is said."""
    if tears:
        link.tear()
        return "torn"
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await link.drain_plain()
    except TimeoutError:
        return "kept"
    return "dropped"


async def _s_client(target: Target, version: str) -> str:
    folder = target.folder
    assert folder is not None
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", target.address, version, "-alpn", "h2",
        "-CAfile", str(folder / "ca.pem"), "-cert", str(folder / "cert.pem"),
        "-key", str(folder / "key.pem"),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    sent = 0
    try:
        with suppress(ConnectionError):
            while sent < _COMMANDS_SENT and process.returncode is None:
                process.stdin.write(_COMMANDS[version])
                await process.stdin.drain()
                sent += 1
                # It takes one for a command only if nothing comes with it.
                await asyncio.sleep(0.02)
    finally:
        ended = process.returncode is not None
        if not ended:
            process.kill()
        await process.wait()
    return f"{version} {'dropped' if ended else 'kept'}"
