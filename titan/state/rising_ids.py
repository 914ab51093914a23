"""The keys of a table to which ids come in rising order, to be asked for ranges of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Final

# Of ids that left the table so many are passed over, besides as many as there are.
_GONE_MAX: Final = 1_000


class RisingIds:
    """A list to which ids are added at its end. Those that left the table are passed over.

    Once these are the most of it they are taken out, so that to add an id and to drop one cost next
    to nothing.
    """

    __slots__ = ("_ids", "_table")

    def __init__(self, ids: Iterable[int], table: Collection[int]) -> None:
        """The ids that are in the table now, in any order."""
        self._ids = sorted(ids)
        self._table = table

    def add(self, ids: Iterable[int]) -> None:
        """More, which rise and are above all others."""
        self._ids += ids

    def note_gone(self) -> None:
        """An id left the table."""
        if len(self._ids) > 2 * len(self._table) + _GONE_MAX:
            # In a list of its own: whoever goes through the old one goes on.
            self._ids = [each for each in self._ids if each in self._table]

    def irange(
        self,
        minimum: int | None = None,
        maximum: int | None = None,
        inclusive: tuple[bool, bool] = (True, True),
        *,
        reverse: bool = False,
    ) -> Iterator[int]:
        """Those between two that are still there, in their order."""
        ids, table = self._ids, self._table
        low, high = 0, len(ids)
        if minimum is not None:
            low = bisect_left(ids, minimum) if inclusive[0] else bisect_right(ids, minimum)
        if maximum is not None:
            high = bisect_right(ids, maximum) if inclusive[1] else bisect_left(ids, maximum)
        places = range(low, high)
        for place in reversed(places) if reverse else places:
            job_id = ids[place]
            if job_id in table:
                yield job_id
