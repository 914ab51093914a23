from __future__ import annotations

from typing import NamedTuple


class Deadline(NamedTuple):
    asked_ns: int
    seconds: float
    margin_seconds: float

    @classmethod
    def of(cls, asked_ns: int, seconds: float) -> Deadline:
        margin = max(seconds * 0.1, min(0.5, seconds / 2))
        return cls(asked_ns, seconds, margin)

    def holds(self, now_ns: int) -> bool:
        return now_ns < self.asked_ns + round((self.seconds - self.margin_seconds) * 1e9)
