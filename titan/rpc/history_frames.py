"""What the manager and the process that writes the history tell each other, over a socket pair.

Behind the length of `frames.py` comes msgpack: [kind, field, …], the kind being the place in KINDS.
Several questions are under way at once, each with a number of its own. Their pages come as far as
they were asked for, so that neither side keeps what a slow reader has not taken.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgpack

from titan.rpc import frames

# Pages that come without having been asked for: the next one is made while one is on its way.
PAGES_AHEAD: Final = 2
# How that process is told its database: a process listing must not show a password.
URL_VARIABLE: Final = "TITAN_HISTORY_URL"


class Ask(NamedTuple):
    """The manager passes a question on."""

    number: int
    request: bytes
    """A GetHistoryRequest."""
    seconds: float
    """It is given up after that."""


class More(NamedTuple):
    """One more page may come."""

    number: int


class Drop(NamedTuple):
    """Nobody wants to know any more."""

    number: int


class Durable(NamedTuple):
    """The log has records up to that one, and somebody waits for them to be in the tables."""

    lsn: int


class Committed(NamedTuple):
    """The tables have everything up to that record."""

    lsn: int


class Page(NamedTuple):
    """A part of an answer."""

    number: int
    reply: bytes
    """A GetHistoryResponse."""


class End(NamedTuple):
    """There are no more parts."""

    number: int
    error: str
    """A class of `titan.errors`; empty: the answer is whole."""
    text: str


Frame = Ask | More | Drop | Durable | Page | End | Committed
KINDS: Final[tuple[type[Frame], ...]] = (Ask, More, Drop, Durable, Page, End, Committed)


def encode(frame: Frame) -> bytes:
    """The bytes on the socket."""
    return frames.encode((KINDS.index(type(frame)), *frame))


def decode(body: bytes) -> Frame:
    """What followed the length. Raises ValueError, TypeError."""
    fields: list[Any] = msgpack.unpackb(body)
    kind, *rest = fields
    if not 0 <= kind < len(KINDS):
        raise ValueError(f"a frame of the kind {kind}")
    frame: Frame = KINDS[kind](*rest)
    return frame
