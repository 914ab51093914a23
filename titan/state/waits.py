"""What keeps the tasks of a job from starting besides room, and what their ends cost them.

Most jobs have none of it. Changed by the state's apply alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from titan.model import IndexRange
from titan.state.index_set import IndexSet, is_within


class Waits:
    """Of one job. `blocked` tells whether the job as a whole waits."""

    __slots__ = (
        "delayed",
        "element_unmet",
        "eligible_us",
        "failed_on",
        "held",
        "losses",
        "not_before",
        "retries_used",
        "suspended",
        "tasks",
        "unmet",
    )

    def __init__(self) -> None:
        self.held = False
        self.suspended = False
        # Whether it is to begin at a time that has not come.
        self.delayed = False
        # The dependencies on whole jobs and single tasks that are not met, by their places in
        # what was asked for.
        self.unmet: dict[int, None] = {}
        # PENDING tasks that wait for a time of their own or for the same task of other jobs.
        self.tasks = IndexSet()
        # Of those that wait for a time: when it comes.
        self.not_before: dict[int, int] = {}
        # Of those that wait for several tasks: how many are left, where some were met.
        self.element_unmet: dict[int, int] = {}
        # Of tasks that go on: retries used, losses with workers, where it failed last.
        self.retries_used: dict[int, int] = {}
        self.losses: dict[int, int] = {}
        self.failed_on: dict[int, int] = {}
        # Since when nothing but room is missing; 0: since the submit.
        self.eligible_us = 0

    @property
    def blocked(self) -> bool:
        """Whether none of the job's tasks may start."""
        return self.held or self.suspended or self.delayed or bool(self.unmet)

    def remove(self, index: int) -> None:
        """A task waits no more, since it goes on or ended. Raises KeyError."""
        self.tasks.remove(index)
        self.not_before.pop(index, None)
        self.element_unmet.pop(index, None)

    def take(self, spans: Sequence[IndexRange]) -> list[range]:
        """Takes out and returns the tasks in the spans, as ranges in rising order."""
        taken = self.tasks.take(spans)
        for table in (self.not_before, self.element_unmet):
            for index in [each for each in table if is_within(each, spans)]:
                del table[index]
        return taken

    def forget(self, index: int) -> None:
        """A task ended."""
        self.retries_used.pop(index, None)
        self.losses.pop(index, None)
        self.failed_on.pop(index, None)

    def fields(self) -> tuple[Any, ...]:
        """Plain values for `waits_of`, in the order of the slots here."""
        return (
            self.held, self.suspended, self.delayed, list(self.unmet),
            [number for r in self.tasks.ranges for number in (r.start, r.stop, r.step)],
            *(list(table.items()) for table in self._tables()), self.eligible_us,
        )  # fmt: skip

    def _tables(self) -> tuple[dict[int, int], ...]:
        return (
            self.not_before, self.element_unmet, self.retries_used, self.losses, self.failed_on,
        )  # fmt: skip


def waits_of(fields: Sequence[Any]) -> Waits:
    """From plain values."""
    waits = Waits()
    waits.held, waits.suspended, waits.delayed, unmet, flat, *tables, waits.eligible_us = fields
    waits.unmet = dict.fromkeys(unmet)
    waits.tasks = IndexSet(range(*flat[at : at + 3]) for at in range(0, len(flat), 3))
    for table, items in zip(waits._tables(), tables, strict=True):
        table.update(items)
    return waits
