"""Frames of HTTP/2 (RFC 9113), as no library would write them. Pure."""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
INITIAL_WINDOW_SIZE: Final = 4
# What a window has at first.
WINDOW_BYTES: Final = 65_535
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """
    +-----------------------------------------------+
    |                 Length (24)                   |
    +---------------+---------------+---------------+
    |   Type (8)    |   Flags (8)   |
    +-+-------------+---------------+-------------------------------+
    |R|                 Stream Identifier (31)                      |
    +=+=============================================================+
    |                   Frame Payload (0...)                      ...
    +---------------------------------------------------------------+
    """
    head = len(payload).to_bytes(3) + bytes((kind & 0xFF, flags & 0xFF))
    return head + (stream & 0xFFFF_FFFF).to_bytes(4) + payload


def fields(pairs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Header fields, literal and not indexed (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in pairs)


def call(path: str, metadata: tuple[tuple[str, str], ...] = (), *, scheme: str = "http") -> bytes:
    """The header fields of a gRPC call."""
    return fields(
        (
            (b":method", b"POST"),
            (b":scheme", scheme.encode()),
            (b":path", path.encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *((name.encode(), value.encode()) for name, value in metadata),
        )
    )


def message(data: bytes, *, promised: int | None = None) -> bytes:
    """A message of gRPC: not compressed, its length, its bytes."""
    return b"\0" + (len(data) if promised is None else promised).to_bytes(4) + data


def _text(value: bytes) -> bytes:
    """A string: its length with a prefix of 7 bits (RFC 7541, 5.1 and 5.2), not Huffman coded."""
    length = len(value)
    if length < 127:
        return bytes((length,)) + value
    coded = bytearray((127,))
    length -= 127
    while length >= 128:
        coded.append(length % 128 + 128)
        length //= 128
    coded.append(length)
    return bytes(coded) + value
