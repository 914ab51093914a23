"""Places for many tasks of a class in one go, at less than a search for each."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sortedcontainers import SortedList

from titan.scheduler.fleet import Fleet
from titan.scheduler.policies import RULE_BEST, Choice, Policy, most_used
from titan.scheduler.shape import Shape, takes
from titan.state.cluster import ClusterState
from titan.state.job_events import RULE_ROUND_ROBIN
from titan.state.worker import Worker

_NOBODY: Final[frozenset[int]] = frozenset()


class Run:
    """Places for one task of a shape after the other.

    The caller applies each placement to the state before it asks for the next, and nothing else
    is placed meanwhile. What would be asked again for each task is kept: as long as all had room
    only the last one has to be looked at again, and the best fit goes on being the best while it
    has room, since it has less than before.
    """

    def __init__(
        self,
        state: ClusterState,
        fleet: Fleet,
        shape: Shape,
        policy: Policy,
        excluded: Collection[int] = _NOBODY,
        *,
        is_full: bool = False,
    ) -> None:
        self._state = state
        self._fleet = fleet
        self._shape = shape
        self._policy = policy
        self._excluded = excluded
        self._last: Worker | None = None
        self._order: tuple[tuple[str, ...], list[int]] | None = None
        self._use: dict[str, tuple[int, int]] | None = None
        self._is_full = is_full
        self._turns: _Turns | None = None
        if not is_full and policy.takes_turns and not excluded and self._all_have_room():
            self._turns = _Turns(shape, state.round_robin)

    def next(self) -> Choice | None:
        """Where the next task goes; None: nobody has room."""
        if self._is_full:
            return None
        last = self._last
        if self._turns is not None:
            if last is None or takes(last, self._shape.demand):
                number = self._turns.next()
                if number:
                    self._last = self._state.get_worker(number)
                    return Choice(self._last, RULE_ROUND_ROBIN)
            self._turns = None
            self._last = last = None
        worker = self._best(last)
        if worker is None:
            self._is_full = True
            if not self._excluded:
                self._shape.full_at = self._fleet.gains_count
            return None
        self._last = worker
        return Choice(worker, RULE_BEST)

    def _all_have_room(self) -> bool:
        """Whether C is F."""
        shape = self._shape
        order, amounts = shape.orders[shape.asked[0]]
        return all(pool.index(order).have_all(amounts) for pool in shape.whole) and all(
            takes(worker, shape.demand) for pool in shape.parts for worker in shape.members_of(pool)
        )

    def _best(self, last: Worker | None) -> Worker | None:
        shape, fills = self._shape, self._policy.fills
        before = self._order
        self._order = order, amounts = shape.orders[self._scarcest(last)]
        if (
            fills
            and last is not None
            and before is not None
            and before[0] is order
            and takes(last, shape.demand)
        ):
            return last
        self._fleet.refresh()
        best: tuple[int, ...] | None = None
        # A member with room is large enough, so that parts of pools need no other look.
        for pool in (*shape.whole, *shape.parts):
            index = pool.index(order)
            if fills:
                key = index.first_with(amounts, self._excluded)
                is_better = key is not None and (best is None or key < best)
            else:
                key = index.most_with(amounts, self._excluded)
                is_better = key is not None and (
                    best is None or (key[:-1], -key[-1]) > (best[:-1], -best[-1])
                )
            if is_better:
                best = key
        return self._state.get_worker(best[-1]) if best is not None else None

    def _scarcest(self, last: Worker | None) -> str:
        """r*, the resource asked for that is used most over F."""
        asked = self._shape.asked
        if len(asked) == 1:
            return asked[0]
        if self._use is None:
            self._fleet.refresh()
            self._use = {each: self._shape.use(each) for each in asked}
        elif last is not None:
            # The last task came to one of F.
            for each, amount in self._shape.amounts.items():
                used, capacity = self._use[each]
                self._use[each] = used + amount, capacity
        return most_used(asked, self._use.__getitem__)


class _Turns:
    """The numbers of F from the pointer on, around and around."""

    def __init__(self, shape: Shape, pointer: int) -> None:
        self._lists = [pool.numbers for pool in shape.whole] + [
            SortedList(each.number for each in shape.members_of(pool)) for pool in shape.parts
        ]
        self._next: list[list[int]] = []
        self._begin(pointer)

    def next(self) -> int:
        """Whose turn it is; 0: F is empty."""
        if not self._next:
            self._begin(0)
            if not self._next:
                return 0
        first = self._next[0] if len(self._next) == 1 else min(self._next)
        number, which, at = first
        numbers = self._lists[which]
        if at + 1 < len(numbers):
            first[0], first[2] = numbers[at + 1], at + 1
        else:
            self._next.remove(first)
        return number

    def _begin(self, pointer: int) -> None:
        """The next number of each list, the list, and where in it."""
        for which, numbers in enumerate(self._lists):
            at = numbers.bisect_right(pointer)
            if at < len(numbers):
                self._next.append([numbers[at], which, at])
