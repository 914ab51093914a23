"""Which events of a log are meant. Pure: it sees records and remembers what workers hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from titan import events as ev
from titan.model import IndexRange, State
from titan.queries.mentions import find_mentions, tells_of


class JobTasks(NamedTuple):
    """A job, or some tasks of it."""

    job_id: int
    indexes: tuple[IndexRange, ...] = ()
    """Empty: the whole job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What all has to hold of an event. Of several jobs, or kinds of event, one is enough."""

    from_lsn: int = 1
    to_lsn: int | None = None
    since_us: int | None = None
    until_us: int | None = None
    jobs: tuple[JobTasks, ...] = ()
    worker: str | int | None = None
    """A name, or the number that the log gave it."""
    kinds: frozenset[type[ev.Event]] = frozenset()
    limit: int | None = None

    def ends_before(self, lsn: int, time_us: int) -> bool:
        """Whether this record and all later ones are too late: LSNs and times never decrease."""
        return (self.to_lsn is not None and lsn > self.to_lsn) or (
            self.until_us is not None and time_us > self.until_us
        )


EVERYTHING: Final = Selection()
KIND_OF_NAME: Final = {kind.__name__: kind for kind in ev.CODE_OF_EVENT}


class Picker:
    """Picks from the records of a log, which it is shown in order."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._jobs = selection.jobs
        self._kinds = selection.kinds
        self._worker = _WorkerEvents(selection.worker) if selection.worker is not None else None
        self._mentions = [find_mentions(job_id) for job_id, _ in selection.jobs]

    def may_hold(self, payload: bytes) -> bool:
        """Whether the record is worth decoding; False is certain. O(bytes), at memory's speed."""
        if not self._mentions or self._worker is not None:
            return True
        return any(may_tell(payload) for may_tell in self._mentions)

    def pick(self, lsn: int, time_us: int, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """The events that are meant, of a record that is not too late."""
        selection = self._selection
        is_early = lsn < selection.from_lsn or (
            selection.since_us is not None and time_us < selection.since_us
        )
        for event in events:
            # Also of early records: they tell what the worker holds.
            if self._worker is not None and not self._worker.takes(event):
                continue
            if is_early or (self._kinds and type(event) not in self._kinds):
                continue
            if self._jobs and not any(tells_of(event, *each) for each in self._jobs):
                continue
            yield event

    def note_held(self, worker: int, name: str, keys: Iterable[tuple[int, int, int]]) -> None:
        """A worker and its attempts (job, index, attempt) that records tell which are gone."""
        if self._worker is not None:
            self._worker.note_held(worker, name, keys)


class _WorkerEvents:
    """Tells a worker's events: those that name it, and those of the attempts it was given."""

    def __init__(self, worker: str | int) -> None:
        self._name = worker if isinstance(worker, str) else None
        self._numbers = {worker} if isinstance(worker, int) else set()
        self._attempts: set[tuple[int, int, int]] = set()

    def note_held(self, worker: int, name: str, keys: Iterable[tuple[int, int, int]]) -> None:
        """What came before the first event."""
        if name == self._name:
            self._numbers.add(worker)
        if worker in self._numbers:
            self._attempts.update(keys)

    def takes(self, event: ev.Event) -> bool:
        """Whether it is one; called with every event from the first on."""
        match event:
            case ev.WorkerRegistered():
                self._follow_name(event)
                return event.worker in self._numbers
            case ev.WorkerHeartbeats():
                return not self._numbers.isdisjoint(event.workers)
            case ev.TaskAssigned():
                if event.worker not in self._numbers:
                    return False
                self._attempts.add((event.job_id, event.index, event.attempt))
                return True
            case ev.Reserved() | ev.ReservationLifted():
                return event.worker in self._numbers
            case (
                ev.RecallRequested()
                | ev.TaskStarted()
                | ev.Adopted()
                | ev.AttemptSuspended()
                | ev.AttemptResumed()
                | ev.Preempted()
            ):
                return (event.job_id, event.index, event.attempt) in self._attempts
            case ev.Recalled() | ev.AttemptEnded():
                key = (event.job_id, event.index, event.attempt)
                is_its = key in self._attempts
                # One that was given up with its worker may be adopted later.
                if not (isinstance(event, ev.AttemptEnded) and event.task_state == State.PENDING):
                    self._attempts.discard(key)
                return is_its
        return getattr(event, "worker", None) in self._numbers

    def _follow_name(self, event: ev.WorkerRegistered) -> None:
        """A name moves to whoever registers under it; what was given before stays known."""
        if self._name is None:
            return
        if event.name == self._name:
            self._numbers.add(event.worker)
        else:
            self._numbers.discard(event.worker)
