"""Who of a class may run: the rule of admission.

Pure. The manager decides who may run at once; attempts of one class may take each other's
place. For each class `allowed` attempts may run, and `live` wait or run. A batch sets
allowed = min(slots, live); the end of an attempt lowers live, and allowed to at most live.
While fewer than allowed run, the oldest waiting one starts, once the devices that it asks for are
free. So attempts beyond were sent
ahead: they start when one before them ends, without a round trip to the manager, and never
make more of the class run than it granted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from titan.model import AttemptKey


@dataclass(slots=True)
class _Class:
    """Invariants: running ≤ live, allowed ≤ live, live = running + waiting, live > 0."""

    waiting: OrderedDict[AttemptKey, None]
    running: int = 0
    allowed: int = 0
    run_us: int = 0
    """About how long its tasks run; 0 before the first has ended."""

    @property
    def live(self) -> int:
        return self.running + len(self.waiting)


class Slots:
    """The waiting and the number of the running of each class. All is O(1) for an attempt."""

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = {}

    def add(self, class_id: int, key: AttemptKey) -> None:
        """It waits, behind all others of its class."""
        found = self._classes.get(class_id)
        if found is None:
            found = self._classes[class_id] = _Class(OrderedDict())
        found.waiting[key] = None

    def allow(self, class_id: int, slots: int) -> None:
        """So many of the class may run at once, of those that are there now."""
        found = self._classes.get(class_id)
        if found is not None:
            found.allowed = min(slots, found.live)

    def find_next(self, class_id: int) -> AttemptKey | None:
        """The oldest waiting one, if it may run now."""
        found = self._classes.get(class_id)
        if found is None or found.running >= found.allowed:
            return None
        return next(iter(found.waiting), None)

    def start(self, class_id: int, key: AttemptKey) -> None:
        """It was waiting and counts as running."""
        found = self._classes[class_id]
        del found.waiting[key]
        found.running += 1

    def drop(self, class_id: int, key: AttemptKey) -> None:
        """It was waiting and is gone."""
        found = self._classes[class_id]
        del found.waiting[key]
        self._settle(class_id, found)

    def end(self, class_id: int, run_us: int = 0) -> None:
        """One that was running is gone, after so long; 0: that says nothing of others."""
        found = self._classes[class_id]
        assert found.running > 0, f"nothing of class {class_id} runs"
        found.running -= 1
        if run_us:
            # A single one may have been held up, or have had little to do.
            found.run_us += (run_us - found.run_us) // 8 if found.run_us else run_us
        self._settle(class_id, found)

    @property
    def has_waiting(self) -> bool:
        """Whether any wait for others to end. O(classes)."""
        return any(found.waiting for found in self._classes.values())

    def busy_us(self, class_id: int) -> int:
        """About how long those that wait behind each that runs take; 0 when none runs."""
        found = self._classes.get(class_id)
        return (
            found.run_us * (len(found.waiting) // found.running) if found and found.running else 0
        )

    def counts(self) -> dict[int, tuple[int, int, int]]:
        """For each class: how many are waiting, running, and allowed to run."""
        return {
            class_id: (len(found.waiting), found.running, found.allowed)
            for class_id, found in self._classes.items()
        }

    def _settle(self, class_id: int, found: _Class) -> None:
        found.allowed = min(found.allowed, found.live)
        if not found.live:
            del self._classes[class_id]
