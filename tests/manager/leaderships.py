"""A lease that ends when the test says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Lease:
    """Leads until it is told that it does not; or only for so many looks more."""

    is_held: bool = True
    looks_left: int | None = None
    lasts_seconds: float = 5.0
    term: int = 3
    leader: str = "10.0.0.2:50051"

    @property
    def seconds_left(self) -> float:
        """Of a lease that was just renewed, or that ended a second ago."""
        return self.lasts_seconds if self.is_held else -1.0

    def leads(self) -> bool:
        """Whether it is held."""
        if self.looks_left is not None:
            self.is_held = self.is_held and self.looks_left > 0
            self.looks_left -= 1
        return self.is_held
