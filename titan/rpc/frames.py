"""Questions and answers between the manager and processes of its own, over a socket pair.

    offset  size  field
         0     4  length of what follows, big-endian
         4     …  msgpack: [method, request], or [error, text, reply]

So it is with lookback processes: one question is under way at a time and answered by one answer.
Others have frames of their own behind the same length (`history_frames.py`). A request is the
bytes of a protobuf message, or of a msgpack array where the wire to users has no message for it.
`error` is the name of a class of `titan.errors`, empty where there is a reply.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final, NamedTuple

import msgpack

HEADER: Final = struct.Struct(">I")
# A reply becomes a message to a user, which takes 16 MiB; the manager may add a word.
REPLY_BYTES_MAX: Final = 16 * 1024 * 1024 - 1024
# No answer comes near; whatever is longer is no frame.
FRAME_BYTES_MAX: Final = 32 * 1024 * 1024
assert HEADER.size == 4


class Question(NamedTuple):
    """What the manager asks."""

    method: str
    request: bytes


class Answer(NamedTuple):
    """What it is answered."""

    error: str
    text: str
    reply: bytes


def encode(frame: tuple[Any, ...]) -> bytes:
    """The bytes on the socket."""
    body: bytes = msgpack.packb(tuple(frame), use_bin_type=True)
    return HEADER.pack(len(body)) + body


def decode_question(body: bytes) -> Question:
    """What followed the length. Raises ValueError, TypeError."""
    return Question(*_fields(body))


def decode_answer(body: bytes) -> Answer:
    """What followed the length. Raises ValueError, TypeError."""
    return Answer(*_fields(body))


def body_bytes(header: bytes) -> int:
    """How many bytes follow. Raises ValueError for more than there can be."""
    (size,) = HEADER.unpack(header)
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes")
    return int(size)


def receive(connection: socket.socket) -> bytes | None:
    """What follows the next length, waiting for it; None at the end of the connection.

    Raises OSError, ValueError.
    """
    header = _receive_bytes(connection, HEADER.size)
    return None if header is None else _receive_bytes(connection, body_bytes(header))


def _receive_bytes(connection: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _fields(body: bytes) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(body)
    return fields
