"""A set of task indexes as ranges, so that a million waiting tasks are one entry."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from titan.model import IndexRange


class IndexSet:
    """Disjoint indexes in rising order, kept as `range` objects whose spans do not overlap.

    `len` and `first` cost O(1), the rest O(log r) plus a list move, r = number of ranges.
    """

    __slots__ = ("_ranges", "count")

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        """`ranges` rise and their spans do not overlap."""
        self._ranges = [each for each in ranges if each]
        self.count = sum(len(each) for each in self._ranges)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for each in self._ranges:
            yield from each

    def __contains__(self, index: int) -> bool:
        position = self._position_of(index)
        return position >= 0 and index in self._ranges[position]

    @property
    def ranges(self) -> list[range]:
        """What it is made of; not to be changed."""
        return self._ranges

    def first(self) -> int:
        """The lowest index. Raises IndexError when empty."""
        return self._ranges[0].start

    def add(self, index: int) -> None:
        """Adds an index that is not in it and lies in no range's span."""
        position = self._position_of(index) + 1
        ranges = self._ranges
        if position and ranges[position - 1].step == 1 and ranges[position - 1].stop == index:
            ranges[position - 1] = range(ranges[position - 1].start, index + 1)
        else:
            ranges.insert(position, range(index, index + 1))
        self.count += 1

    def remove(self, index: int) -> None:
        """Takes an index out. Raises KeyError."""
        ranges = self._ranges
        if ranges and ranges[0].start == index:
            # The lowest one, which goes first.
            rest = ranges[0][1:]
            if rest:
                ranges[0] = rest
            else:
                del ranges[0]
            self.count -= 1
            return
        position = self._position_of(index)
        if position < 0 or index not in ranges[position]:
            raise KeyError(index)
        whole = ranges[position]
        at = (index - whole.start) // whole.step
        ranges[position : position + 1] = [part for part in (whole[:at], whole[at + 1 :]) if part]
        self.count -= 1

    def find_from(self, start: int) -> int | None:
        """The lowest index that is not below that one, None when there is none."""
        position = self._position_of(start)
        for whole in self._ranges[max(position, 0) : position + 2]:
            at = _position(whole, start)
            if at < len(whole):
                return whole[at]
        return None

    def take(self, spans: Sequence[IndexRange]) -> list[range]:
        """Takes out and returns what lies in the spans, as ranges in rising order.

        The spans rise and lie apart; their steps are not looked at. Costs O(r + spans).
        """
        taken: list[range] = []
        kept: list[range] = []
        at = 0
        for whole in self._ranges:
            rest = whole
            while rest and at < len(spans) and spans[at].start <= rest[-1]:
                low = _position(rest, spans[at].start)
                high = _position(rest, spans[at].stop)
                for part, into in ((rest[:low], kept), (rest[low:high], taken)):
                    if part:
                        into.append(part)
                rest = rest[high:]
                # A span that took the end of the range may go on in the next one.
                at += bool(rest)
            if rest:
                kept.append(rest)
        self._ranges = kept
        self.count -= sum(len(part) for part in taken)
        return taken

    def add_ranges(self, ranges: Iterable[range]) -> None:
        """Adds ranges that share no index with what is in it.

        Where spans overlap, those in steps are cut at each index of another between them.
        """
        added = [each for each in ranges if each]
        self._ranges = _apart(sorted([*self._ranges, *added], key=_start))
        self.count += sum(len(each) for each in added)

    def _position_of(self, index: int) -> int:
        """The last range that starts at or before the index; -1: none does."""
        return bisect_right(self._ranges, index, key=_start) - 1


def joined(spans: Iterable[IndexRange]) -> list[IndexRange]:
    """The same indexes, whatever the steps, in spans that rise and lie apart."""
    rising: list[IndexRange] = []
    for start, stop, _ in sorted(spans):
        if rising and start <= rising[-1].stop:
            rising[-1] = IndexRange(rising[-1].start, max(stop, rising[-1].stop))
        else:
            rising.append(IndexRange(start, stop))
    return rising


def is_within(index: int, spans: Sequence[IndexRange]) -> bool:
    """Whether the index lies in one of the spans, which rise and lie apart."""
    position = bisect_right(spans, index, key=_start) - 1
    return position >= 0 and index < spans[position].stop


def _start(each: range | IndexRange) -> int:
    return each.start


def _position(whole: range, index: int) -> int:
    """How many of its members lie below the index."""
    return min(max(-(-(index - whole.start) // whole.step), 0), len(whole))


def _apart(ranges: list[range]) -> list[range]:
    """The same indexes, from ranges by their starts, in ranges whose spans do not overlap."""
    if all(before[-1] < after.start for before, after in pairwise(ranges)):
        return ranges
    apart: list[range] = []
    heap = [(each.start, at, each) for at, each in enumerate(ranges)]
    heapify(heap)
    while heap:
        _, at, first = heappop(heap)
        if heap and first[-1] > heap[0][0]:
            cut = _position(first, heap[0][0])
            heappush(heap, (first[cut], at, first[cut:]))
            first = first[:cut]
        apart.append(first)
    return apart
