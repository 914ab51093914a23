"""Where the managers of a cluster are, and which of them is called. Pure.

One of them leads; the others say so, and who does. Whoever calls goes on from one that does not
answer or does not lead to the next, and waits only when all have been tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from titan.rpc.channel import split_address


def split_addresses(text: str) -> tuple[str, ...]:
    """HOST:PORT, or several with commas between, each once. Raises ValueError with a sentence."""
    addresses = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for address in addresses:
        split_address(address)
    return addresses


class Addresses:
    """Those of one cluster's managers, in the order in which they were named.

    Any number of calls go to `current`; each has a set of those that it has `tried` since it was
    answered or has waited.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        """One or more, no two alike."""
        self.all: Final = tuple(addresses)
        self.current = self.all[0]
        self._said: dict[str, str] = {}

    @property
    def are_several(self) -> bool:
        """Whether there is another one to go to."""
        return len(self.all) > 1

    def answered(self, tried: set[str]) -> None:
        """One of them did what it was asked."""
        tried.clear()
        self._said.clear()

    def failed(self, address: str, said: str, tried: set[str], *, leader: str = "") -> bool:
        """It did not answer, or does not lead: `said` tells, and `leader` who does, if it knows.

        Returns whether to call `current` at once; else all have been tried, and a pause is due.
        """
        # Another call may have gone on meanwhile, and all of them round again.
        is_first_time = address not in tried
        tried.add(address)
        self._said[address] = said
        left = self._next(address, tried, leader)
        if left is None:
            # The leader that it names, though it did not answer, comes first then.
            left = self._next(address, {address}, leader)
        elif is_first_time:
            self.current = left
            return True
        self.current = left or address
        tried.clear()
        return False

    def describe(self) -> str:
        """What each said last, of those that said something since one has answered."""
        return "; ".join(f"{each}: {self._said[each]}" for each in self.all if each in self._said)

    def _next(self, address: str, tried: set[str], leader: str) -> str | None:
        """The one to go to from there; None: none is left."""
        first = self.all.index(address) + 1
        # Where another call has gone already is better than another place still.
        wanted = (leader, self.current, *self.all[first:], *self.all[:first])
        return next((each for each in wanted if each in self.all and each not in tried), None)
