"""The workers that get tasks, kept so that a place is found without a look at each of them.

Workers with the same labels, cpus and named resources and about the same memory form a pool. A
pool keeps its members sorted by what is free, once for each order of resources that somebody
asked for, so that the best fit is a search in a sorted list. All of it follows from the state;
`refresh` takes up the workers that changed since the last one and costs by these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Final

from sortedcontainers import SortedList

from titan.model import Resources
from titan.scheduler.constraints import Labels, labels_match
from titan.scheduler.free_index import FreeIndex
from titan.scheduling import LabelConstraint
from titan.state.cluster import ClusterState
from titan.state.worker import Worker

# Of a worker that takes nobody now: lower than any demand.
CLOSED: Final = -1
# Workers whose memory differs by less than a part of so many are in one pool: the same machines
# differ by a few pages.
_MEMORY_STEPS_BITS: Final = 5
# The list of gains begins anew beyond that many for each worker.
_GAINS_PER_WORKER: Final = 4

PoolKey = tuple[Labels, int, tuple[int, int], tuple[tuple[str, int], ...]]


class Pool:
    """Workers that differ in what is free, and a little in memory."""

    __slots__ = (
        "capacity", "free", "indexes", "labels", "least", "members", "most", "number", "numbers",
    )  # fmt: skip

    def __init__(self, number: int, labels: Labels) -> None:
        # Its own, never used again.
        self.number = number
        self.labels = labels
        self.members: dict[int, Worker] = {}
        self.numbers: SortedList[int] = SortedList()
        self.indexes: dict[tuple[str, ...], FreeIndex] = {}
        # The smallest and the largest capacity; they differ in memory alone.
        self.least = self.most = Resources()
        # Sums over the members, by resource.
        self.capacity: dict[str, int] = {}
        self.free: dict[str, int] = {}

    def index(self, resources: tuple[str, ...]) -> FreeIndex:
        """The members by what is free of these; made when it is asked for first."""
        members = self.members
        found = self.indexes.get(resources)
        if found is None:
            keys = [free_key(worker, resources) for worker in members.values()]
            found = self.indexes[resources] = FreeIndex(resources, keys)
        elif found.stale:
            # Many a change is not asked for before the next one.
            for number in found.stale:
                found.put(free_key(members[number], resources))
            found.stale.clear()
        return found

    def stretch(self, capacity: Resources) -> bool:
        """A member of that capacity comes; whether it is the smallest or the largest by it.

        Bounds stay when members leave: they may be wider than needed until the pool is empty.
        """
        if not self.members:
            self.least = self.most = capacity
        elif capacity.memory_bytes < self.least.memory_bytes:
            self.least = capacity
        elif capacity.memory_bytes > self.most.memory_bytes:
            self.most = capacity
        else:
            return False
        return True


class _Entry:
    """What was last known of a member."""

    __slots__ = ("capacity", "free", "labels", "names", "pool", "pool_key")

    def __init__(self, pool_key: PoolKey, pool: Pool, worker: Worker) -> None:
        self.pool_key = pool_key
        self.pool = pool
        self.capacity = worker.capacity
        self.labels = worker.labels
        self.names = tuple({worker.name: None, worker.worker_id.hex(): None})
        self.free: tuple[int, int, dict[str, int]] = (0, 0, {})


class Fleet:
    """The pools of one state. `called_in` are the workers that can be given tasks, by number."""

    def __init__(self, state: ClusterState, called_in: Container[int]) -> None:
        self._state = state
        self._called_in = called_in
        self._entries: dict[int, _Entry] = {}
        self.pools: dict[PoolKey, Pool] = {}
        # Changes whenever a pool comes, goes, or gets other limits.
        self.version = 0
        # The workers that have more to give than before, in the order in which that happened, and
        # how many were dropped from its beginning.
        self.gains: list[int] = []
        self.gains_dropped = 0
        # What `largest_gain` found last.
        self._largest = ((-1, -1), 0, 0)
        # Workers with suspended attempts, with some that have a time limit, with some that may be
        # preempted.
        self.standing: dict[int, None] = {}
        self.limited: dict[int, None] = {}
        self.preemptible: dict[int, None] = {}
        self._limited_changes: dict[int, None] = {}
        self._named: dict[str, dict[int, None]] = {}
        # So that all are taken up, whoever looked at the state before.
        for number in state.workers:
            state.usage.touched[number] = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def gains_count(self) -> int:
        """How many gains there have been."""
        return self.gains_dropped + len(self.gains)

    def workers(self) -> Iterator[Worker]:
        """All that get tasks, by number. Costs by those."""
        workers = self._state.workers
        return (workers[number] for number in sorted(self._entries))

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def named(self, on: str) -> list[Worker]:
        """Those of that name, or the one of that id in hexadecimal, by number."""
        workers = self._state.workers
        return [workers[number] for number in sorted(self._named.get(on, ()))]

    def pool_of(self, number: int) -> Pool:
        """The pool of a worker that gets tasks. Raises KeyError."""
        return self._entries[number].pool

    def take_limited_changes(self) -> dict[int, None]:
        """The workers with time limits that changed since the last call."""
        changes, self._limited_changes = self._limited_changes, {}
        return changes

    def largest_gain(self, count: int) -> tuple[int, int]:
        """The most cpus, and the most memory, that is free on one that gained since then."""
        known, cpus_milli, memory_bytes = self._largest
        if known != (count, self.gains_count):
            workers = self._state.workers
            gained = dict.fromkeys(self.gains_since(count) or self._entries)
            cpus_milli = max((workers[each].free_cpus_milli for each in gained), default=0)
            memory_bytes = max((workers[each].free_memory_bytes for each in gained), default=0)
            self._largest = (count, self.gains_count), cpus_milli, memory_bytes
        return cpus_milli, memory_bytes

    def gains_since(self, count: int) -> list[int] | None:
        """Who has gained since there had been so many gains; None when that is not known."""
        if count < self.gains_dropped:
            return None
        return self.gains[count - self.gains_dropped :]

    def refresh(self) -> None:
        """Takes up what changed."""
        touched = self._state.usage.touched
        if not touched:
            return
        for number in touched:
            self._take_up(number)
        touched.clear()
        if len(self.gains) > _GAINS_PER_WORKER * len(self._entries) + 1_000:
            self.gains_dropped += len(self.gains)
            self.gains.clear()

    def _take_up(self, number: int) -> None:
        worker = self._state.workers.get(number)
        entry = self._entries.get(number)
        # What stands still runs on where nothing new comes, too: else a drain would never end.
        stands = worker is not None and bool(worker.suspended) and number in self._called_in
        if stands or number in self.standing:
            _keep(self.standing, number, stands)
        if worker is None or not worker.takes_tasks or number not in self._called_in:
            if entry is not None:
                self._leave(number, entry)
            return
        if entry is not None and (
            entry.capacity is not worker.capacity or entry.labels is not worker.labels
        ):
            self._leave(number, entry)
            entry = None
        if worker.preemptible or number in self.preemptible:
            _keep(self.preemptible, number, worker.preemptible > 0)
        if worker.limited or number in self.limited:
            _keep(self.limited, number, worker.limited > 0)
            self._limited_changes[number] = None
        if entry is None:
            entry = self._join(worker)
        self._note_free(entry, worker)
        for index in entry.pool.indexes.values():
            index.stale[number] = None

    def _note_free(self, entry: _Entry, worker: Worker) -> None:
        """Keeps the pool's sums, and whether the worker has more than before."""
        cpus_milli, memory_bytes, named = entry.free
        sums = entry.pool.free
        more_cpus = worker.free_cpus_milli - cpus_milli
        more_memory = worker.free_memory_bytes - memory_bytes
        sums["cpus"] += more_cpus
        if more_memory:
            sums["memory"] += more_memory
        has_more = more_cpus > 0 or more_memory > 0
        now_named = worker.free_named
        if named or now_named:
            for name in {**named, **now_named}:
                change = now_named.get(name, 0) - named.get(name, 0)
                if change:
                    sums[name] = sums.get(name, 0) + change
                    has_more = has_more or change > 0
        # Whoever was alone there, or waits to be, is told by the attempts.
        if has_more or not worker.attempts:
            self.gains.append(worker.number)
        # A copy: the worker's own is changed in place.
        entry.free = worker.free_cpus_milli, worker.free_memory_bytes, dict(now_named)

    def _join(self, worker: Worker) -> _Entry:
        key = _pool_key(worker)
        pool = self.pools.get(key)
        if pool is None:
            pool = self.pools[key] = Pool(self.version, worker.labels)
            pool.free = {"cpus": 0, "memory": 0}
            self.version += 1
        self.version += pool.stretch(worker.capacity)
        pool.members[worker.number] = worker
        pool.numbers.add(worker.number)
        _add(pool.capacity, worker.capacity, 1)
        entry = self._entries[worker.number] = _Entry(key, pool, worker)
        for name in entry.names:
            self._named.setdefault(name, {})[worker.number] = None
        self.gains.append(worker.number)
        return entry

    def _leave(self, number: int, entry: _Entry) -> None:
        pool = entry.pool
        del pool.members[number]
        pool.numbers.remove(number)
        for index in pool.indexes.values():
            index.stale.pop(number, None)
            if number in index.keys:
                index.drop(number)
        _add(pool.capacity, entry.capacity, -1)
        cpus_milli, memory_bytes, named = entry.free
        _add(pool.free, Resources(cpus_milli, memory_bytes, tuple(named.items())), -1)
        del self._entries[number]
        self.preemptible.pop(number, None)
        if number in self.limited:
            del self.limited[number]
            self._limited_changes[number] = None
        for name in entry.names:
            del self._named[name][number]
            if not self._named[name]:
                del self._named[name]
        if not pool.members:
            del self.pools[entry.pool_key]
            self.version += 1


def matching_pools(fleet: Fleet, constraints: tuple[LabelConstraint, ...]) -> Iterator[Pool]:
    """Those whose labels the constraints allow."""
    for pool in fleet.pools.values():
        if not constraints or labels_match(pool.labels, constraints):
            yield pool


def _keep(numbers: dict[int, None], number: int, is_in: bool) -> None:
    if is_in:
        numbers[number] = None
    else:
        numbers.pop(number, None)


def free_key(worker: Worker, resources: tuple[str, ...]) -> tuple[int, ...]:
    """What the worker has free of these, and its number; CLOSED each where it takes nobody."""
    cpus, memory = worker.free_cpus_milli, worker.free_memory_bytes
    if worker.exclusive or cpus < 0 or memory < 0:
        return (*[CLOSED] * len(resources), worker.number)
    if resources == _CPUS:
        return cpus, worker.number
    if resources == _CPUS_MEMORY:
        return cpus, memory, worker.number
    return (*[_AMOUNT.get(each, _free_named)(worker, each) for each in resources], worker.number)


def _free_named(worker: Worker, name: str) -> int:
    return worker.free_named.get(name, 0)


_CPUS: Final = ("cpus",)
_CPUS_MEMORY: Final = ("cpus", "memory")
_AMOUNT: Final[dict[str, Callable[[Worker, str], int]]] = {
    "cpus": lambda worker, _: worker.free_cpus_milli,
    "memory": lambda worker, _: worker.free_memory_bytes,
}


def _add(sums: dict[str, int], resources: Resources, times: int) -> None:
    sums["cpus"] = sums.get("cpus", 0) + times * resources.cpus_milli
    sums["memory"] = sums.get("memory", 0) + times * resources.memory_bytes
    for name, count in resources.named:
        sums[name] = sums.get(name, 0) + times * count


def _pool_key(worker: Worker) -> PoolKey:
    capacity = worker.capacity
    bits = max(capacity.memory_bytes.bit_length() - _MEMORY_STEPS_BITS, 0)
    return worker.labels, capacity.cpus_milli, (bits, capacity.memory_bytes >> bits), capacity.named
