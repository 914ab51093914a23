"""The first connection, made once by hand: it tells a refusal at once, and why."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from titan.rpc.channel import split_address

# One that is refused ends at once, one without any answer after this.
CONNECT_SECONDS: Final = 1.0
# Of several, the next is tried beside one that has said nothing for so long: a machine that is down
# must not hold up every command.
HEAD_START_SECONDS: Final = 0.2

Failed = Callable[[str, OSError], None]


def connect(address: str) -> None:
    """Raises OSError: nobody is there, or says nothing within CONNECT_SECONDS."""
    host, port = split_address(address)
    # As bytes: names on this machine are ASCII, and the codec for others is slow to load.
    named = (cast("str", host.encode()), port)
    socket.create_connection(named, CONNECT_SECONDS).close()


def connect_first(addresses: Sequence[str], failed: Failed) -> str | None:
    """The first to be connected to, which those named first have the better chance to be.

    `failed` is told, in this thread, of those that were not before that; None: none was.
    """
    ended: queue.SimpleQueue[tuple[str, OSError | None]] = queue.SimpleQueue()

    def try_one(address: str) -> None:
        try:
            connect(address)
        except OSError as error:
            ended.put((address, error))
        else:
            ended.put((address, None))

    if len(addresses) == 1:
        # Without a thread: most commands know one.
        try:
            connect(addresses[0])
        except OSError as error:
            failed(addresses[0], error)
            return None
        return addresses[0]
    waiting = list(addresses)
    under_way = 0
    while waiting or under_way:
        if waiting:
            # Nobody waits for those that are slower than another.
            threading.Thread(target=try_one, args=(waiting.pop(0),), daemon=True).start()
            under_way += 1
        next_at = time.monotonic() + HEAD_START_SECONDS
        while under_way:
            left = max(0.0, next_at - time.monotonic()) if waiting else None
            try:
                address, why = ended.get(timeout=left)
            except queue.Empty:
                break
            under_way -= 1
            if why is None:
                return address
            failed(address, why)
            if waiting:
                break
    return None


def why_unreached(error: OSError) -> str:
    """What became of the connection, as a part of a sentence."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, socket.gaierror):
        return "no such host"
    return error.strerror or str(error)
