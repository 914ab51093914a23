"""What happened by the events alone, followed in the dumbest way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from titan import events as ev
from titan.model import TASK_ENDS, IndexRange, State
from titan.scheduling import SAME_INDEX, WHOLE_JOB, DependencyCondition
from titan.state.job import derive_state


class Ledger:
    """Follows the events task by task, in the dumbest way.

    What ended stays ended (invariant 2), and nothing is assigned before its time has come.
    """

    def __init__(self) -> None:
        self.submitted: dict[int, ev.JobSubmitted] = {}
        # By job: "held" and "suspended", while it is.
        self.kept: dict[int, set[str]] = {}
        self.retries: dict[tuple[int, int], int] = {}
        # Those that are known to have begun and are not to begin again.
        self.begun: set[tuple[int, int]] = set()
        self.tasks: dict[tuple[int, int], State] = {}
        self.ends: dict[tuple[int, int], int] = {}
        # What a tally counts. Of attempts that started: job, index and number.
        self.counted: Counter[str] = Counter()
        self.started: set[tuple[int, int, int]] = set()
        self.time_us = 0

    def note(self, time_us: int, events: Iterable[ev.Event]) -> None:
        """Another record."""
        assert time_us >= self.time_us, "record times never decrease"
        self.time_us = time_us
        for event in events:
            self._note(event)

    def counts(self, job_id: int) -> list[int]:
        """The tasks of a job by state."""
        states = [state for (job, _), state in self.tasks.items() if job == job_id]
        return [states.count(State(number)) for number in range(1, 7)]

    def totals(self) -> Counter[str]:
        """What has happened, as a tally would have counted it from the beginning."""
        ends = Counter(self.tasks[key].name for key in self.ends)
        waits = len({(job, index) for job, index, _ in self.started})
        return self.counted + ends + Counter({"started": len(self.started), "waits": waits})

    def _note(self, event: ev.Event) -> None:
        self.counted[type(event).__name__] += 1
        match event:
            case ev.JobSubmitted():
                self.submitted[event.job_id] = event
                self.kept[event.job_id] = {"JobHeld"} if event.scheduling.held else set()
                for each in event.array or (IndexRange(0, 1),):
                    for index in each.indexes:
                        self.tasks[event.job_id, index] = State.PENDING
            case ev.CancelRequested() | ev.DependencyFailed():
                self._cancel(event.job_id, event.indexes)
            case ev.DeadlinePassed():
                self._cancel(event.job_id, ())
            case ev.JobHeld() | ev.JobSuspended():
                self.kept[event.job_id].add(type(event).__name__)
            case ev.JobReleased():
                self.kept[event.job_id].discard("JobHeld")
            case ev.JobResumed():
                self.kept[event.job_id].discard("JobSuspended")
            case _:
                self._note_attempt(event)

    def _note_attempt(self, event: ev.Event) -> None:
        if getattr(event, "start_us", 0):
            found: Any = event
            self.started.add((found.job_id, found.index, found.attempt))
        match event:
            case ev.TaskAssigned():
                assert self.tasks[event.job_id, event.index] is State.PENDING
                self._check_may_start(event.job_id, event.index)
                self._set((event.job_id, event.index), State.SCHEDULED)
            case ev.Recalled():
                self._set((event.job_id, event.index), State.PENDING)
            case ev.TaskStarted() | ev.Adopted():
                self._note_start((event.job_id, event.index))
                self._set((event.job_id, event.index), State.RUNNING)
            case ev.AttemptEnded():
                if event.start_us:
                    self._note_start((event.job_id, event.index))
                if event.charge == ev.CHARGE_RETRY:
                    self._charge_retry((event.job_id, event.index))
                self._set((event.job_id, event.index), State(event.task_state))

    def _note_start(self, key: tuple[int, int]) -> None:
        if self.submitted[key[0]].scheduling.at_most_once:
            self.begun.add(key)

    def _charge_retry(self, key: tuple[int, int]) -> None:
        self.retries[key] = self.retries.get(key, 0) + 1
        allowed = self.submitted[key[0]].scheduling.retries
        assert self.retries[key] <= allowed, f"{key} was tried more often than asked for"

    def _check_may_start(self, job_id: int, index: int) -> None:
        name, asked = f"{job_id}.{index}", self.submitted[job_id].scheduling
        assert not self.kept[job_id], f"{name} is to wait: {self.kept[job_id]}"
        assert asked.begin_us <= self.time_us, f"{name} begins later"
        for each in asked.after:
            at = index if each.index == SAME_INDEX else each.index
            if at == WHOLE_JOB:
                counts = self.counts(each.job_id)
                assert not any(counts[:3]), f"{name} comes after {each}"
                end = derive_state(counts)
            else:
                end = self.tasks[each.job_id, at]
            met = {
                DependencyCondition.OK: (State.COMPLETED,),
                DependencyCondition.ANY: TASK_ENDS,
                DependencyCondition.FAILED: (State.FAILED,),
            }
            assert end in met[each.condition], f"{name} comes after {each}"
        _, scheduled, running, *_ = self.counts(job_id) if asked.array_limit else (0, 0, 0)
        assert not asked.array_limit or scheduled + running < asked.array_limit, f"{name} is over"

    def _cancel(self, job_id: int, indexes: tuple[IndexRange, ...]) -> None:
        for key, state in list(self.tasks.items()):
            meant = not indexes or any(each.start <= key[1] < each.stop for each in indexes)
            if key[0] == job_id and meant and state is State.PENDING:
                self._set(key, State.CANCELLED)

    def _set(self, key: tuple[int, int], state: State) -> None:
        assert key not in self.ends, f"invariant 2: {key} had ended and became {state.name}"
        waits = state in (State.PENDING, State.SCHEDULED)
        assert not (waits and key in self.begun), f"{key} has begun and is {state.name} again"
        self.tasks[key] = state
        if state in (State.COMPLETED, State.FAILED, State.CANCELLED):
            self.ends[key] = 1


ATTEMPT_ENDS = ("AttemptEnded", "Recalled")
