"""What a task wrote, as a client gets it."""

from __future__ import annotations


class OutputChunk:
    """A piece of what a task wrote; `stream` is "stdout" or "stderr".

    Or what is missing between two pieces: with `hole_bytes` there is no data, and so much was
    left out because the task wrote more than its worker keeps (its --output-max).
    """

    # By hand: tuples have an `index` already, and dataclasses take their time to import.
    __slots__ = ("attempt", "data", "hole_bytes", "index", "offset", "stream")

    def __init__(
        self,
        index: int,
        attempt: int,
        stream: str,
        offset: int,
        data: bytes,
        hole_bytes: int = 0,
    ) -> None:
        self.index = index
        self.attempt = attempt
        self.stream = stream
        self.offset = offset
        self.data = data
        self.hole_bytes = hole_bytes

    def __repr__(self) -> str:
        place = f"index={self.index}, attempt={self.attempt}, stream={self.stream!r}"
        hole = f", hole_bytes={self.hole_bytes}" if self.hole_bytes else ""
        return f"OutputChunk({place}, offset={self.offset}, data={self.data!r}{hole})"
