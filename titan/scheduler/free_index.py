"""Workers sorted by what they have free of some resources, in that order.

A sorted list in short buckets; each bucket knows the least and the most of every resource in it.
So a search for a worker with enough of all passes over the buckets in which nobody has, however
many of its members have enough of the first: two resources that are scarce on different workers
cost a look at each bucket and not at each worker.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from operator import eq
from typing import Final

# Of a bucket; twice as many are split.
BUCKET_KEYS: Final = 64

Key = tuple[int, ...]
"""What is free of each resource, and the worker's number."""


class _Bucket:
    __slots__ = ("_least", "_most", "keys")

    def __init__(self, keys: list[Key]) -> None:
        self.keys = keys
        # Of each resource, and of the number, which means nothing; None: to be measured.
        self._least: Key | None = None
        self._most: Key | None = None

    def least(self) -> Key:
        """The least of each resource."""
        if self._least is None:
            self._least = tuple(map(min, zip(*self.keys, strict=True)))
        return self._least

    def most(self) -> Key:
        """The most of each resource."""
        if self._most is None:
            self._most = tuple(map(max, zip(*self.keys, strict=True)))
        return self._most

    def note_added(self, key: Key) -> None:
        """A key came."""
        if self._least is not None:
            self._least = tuple(map(min, self._least, key))
        if self._most is not None:
            self._most = tuple(map(max, self._most, key))

    def note_removed(self, key: Key) -> None:
        """A key went."""
        if self._least is not None and any(map(eq, self._least, key)):
            self._least = None
        if self._most is not None and any(map(eq, self._most, key)):
            self._most = None


class FreeIndex:
    """Keys of distinct workers; each operation costs by the buckets and the keys of one."""

    __slots__ = ("_buckets", "_firsts", "_width", "keys", "resources", "stale")

    def __init__(self, resources: tuple[str, ...], keys: Iterable[Key]) -> None:
        self.resources = resources
        self._width = len(resources)
        # Workers whose keys are to be looked at again before anything is asked.
        self.stale: dict[int, None] = {}
        # By worker.
        self.keys: dict[int, Key] = {key[-1]: key for key in keys}
        ordered = sorted(self.keys.values())
        chunks = [ordered[at : at + BUCKET_KEYS] for at in range(0, len(ordered), BUCKET_KEYS)]
        self._buckets = [_Bucket(chunk) for chunk in chunks]
        self._firsts = [chunk[0] for chunk in chunks]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Key]:
        """All keys in order."""
        return chain.from_iterable(bucket.keys for bucket in self._buckets)

    def put(self, key: Key) -> None:
        """The worker is new, or has other amounts free."""
        before = self.keys.get(key[-1])
        if before == key:
            return
        if before is not None:
            self._remove(before)
        self.keys[key[-1]] = key
        self._add(key)

    def drop(self, number: int) -> None:
        """The worker left. Raises KeyError."""
        self._remove(self.keys.pop(number))

    def have_all(self, amounts: Sequence[int]) -> bool:
        """Whether each worker has so much of each resource."""
        if self._width == 1:
            return not self._firsts or self._firsts[0][0] >= amounts[0]
        return all(_has(bucket.least(), amounts) for bucket in self._buckets)

    def first_with(self, amounts: Sequence[int], excluded: Collection[int]) -> Key | None:
        """The lowest key that has so much of each resource."""
        low = (amounts[0],)
        start = max(bisect_right(self._firsts, low) - 1, 0)
        for bucket in self._buckets[start:]:
            if self._width > 1 and not _has(bucket.most(), amounts):
                continue
            keys = bucket.keys
            for at in range(bisect_left(keys, low), len(keys)):
                key = keys[at]
                if key[-1] not in excluded and _has(key, amounts):
                    return key
        return None

    def most_with(self, amounts: Sequence[int], excluded: Collection[int]) -> Key | None:
        """The highest amounts that are enough; of several workers with the same the lowest."""
        best: Key | None = None
        for bucket in reversed(self._buckets):
            if best is not None and bucket.keys[-1][:-1] != best[:-1]:
                break
            if bucket.keys[-1][0] < amounts[0]:
                break
            if self._width > 1 and not _has(bucket.most(), amounts):
                continue
            for key in reversed(bucket.keys):
                if best is not None and key[:-1] != best[:-1]:
                    break
                if key[-1] not in excluded and _has(key, amounts):
                    best = key
        return best

    def _add(self, key: Key) -> None:
        if not self._buckets:
            self._buckets, self._firsts = [_Bucket([key])], [key]
            return
        at = max(bisect_right(self._firsts, key) - 1, 0)
        bucket = self._buckets[at]
        keys = bucket.keys
        insort(keys, key)
        self._firsts[at] = keys[0]
        if len(keys) > 2 * BUCKET_KEYS:
            self._buckets[at : at + 1] = [_Bucket(keys[:BUCKET_KEYS]), _Bucket(keys[BUCKET_KEYS:])]
            self._firsts[at : at + 1] = [keys[0], keys[BUCKET_KEYS]]
        elif self._width > 1:
            bucket.note_added(key)

    def _remove(self, key: Key) -> None:
        at = bisect_right(self._firsts, key) - 1
        bucket = self._buckets[at]
        keys = bucket.keys
        del keys[bisect_left(keys, key)]
        if not keys:
            del self._buckets[at], self._firsts[at]
            return
        self._firsts[at] = keys[0]
        if self._width > 1:
            bucket.note_removed(key)


def _has(key: Key, amounts: Sequence[int]) -> bool:
    # A loop beats all() with a generator by far.
    for have, asked in zip(key, amounts, strict=False):  # noqa: SIM110
        if have < asked:
            return False
    return True
