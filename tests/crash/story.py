"""What a log tells, checked event by event, without the state's code.

The dumb version that `titan.state` is compared with: dicts, and the rules in words.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Self

import wal
from titan import events as ev
from titan.model import TASK_ENDS, State

Task = tuple[int, int]


class Story:
    """A log from its beginning, told. Fails at the first event that breaks a rule."""

    def __init__(self) -> None:
        self.jobs: dict[int, ev.JobSubmitted] = {}
        # What each request id of each user was answered with.
        self.requests: dict[tuple[str, bytes], int] = {}
        self.attempts: Counter[Task] = Counter()
        self.active: dict[Task, int] = {}
        # Given up with their workers, which may tell of them later.
        self.lost: set[tuple[Task, int]] = set()
        self.ends: dict[Task, State] = {}
        self.starts = 0
        self.size_bytes = 0

    @classmethod
    def of_log(cls, directory: Path) -> Self:
        """Of a manager's data directory whose log is all there."""
        story = cls()
        with wal.Reader(directory / "wal") as reader:
            for lsn, payload in reader:
                story.tell_record(lsn, payload)
        return story

    def tell_record(self, lsn: int, payload: bytes) -> None:
        """The next one."""
        self.size_bytes += len(payload)
        for event in ev.decode_record(payload)[1]:
            self._tell(lsn, event)

    def has_ended(self, jobs: int) -> bool:
        """Whether so many jobs have been told, and all their tasks have ended."""
        return (
            len(self.jobs) == jobs and not self.active and len(self.ends) == len(self.all_tasks())
        )

    def _tell(self, lsn: int, event: ev.Event) -> None:
        where = f"record {lsn}: {event}"
        match event:
            case ev.ManagerStarted():
                self.starts += 1
            case ev.JobSubmitted():
                assert event.job_id == len(self.jobs) + 1, where
                self.jobs[event.job_id] = event
            case ev.RequestAccepted():
                assert (event.user, event.request_id) not in self.requests, where
                assert event.first_job_id + event.jobs - 1 == len(self.jobs), where
                self.requests[event.user, event.request_id] = event.first_job_id
            case ev.TaskAssigned():
                task = (event.job_id, event.index)
                assert task not in self.active, where
                assert task not in self.ends, where
                assert event.attempt == self.attempts[task] + 1, where
                self.attempts[task] += 1
                self.active[task] = event.attempt
            case ev.TaskStarted():
                assert self.active[event.job_id, event.index] == event.attempt, where
            case ev.Recalled():
                assert self.active.pop((event.job_id, event.index)) == event.attempt, where
            case ev.AttemptEnded():
                self._tell_end(where, event)
            case ev.Adopted():
                self._tell_adopted(where, event)
            case ev.CancelRequested():
                # Pending tasks end by it; these stories cancel whole jobs only.
                assert not event.indexes, where
                for task in self.tasks_of(event.job_id):
                    if task not in self.active and task not in self.ends:
                        self.ends[task] = State.CANCELLED
            case _:
                pass

    def _tell_end(self, where: str, event: ev.AttemptEnded) -> None:
        task = (event.job_id, event.index)
        assert task not in self.ends, where
        if task in self.active:
            assert self.active.pop(task) == event.attempt, where
        else:
            # Its worker was heard again while the task still waited.
            assert (task, event.attempt) in self.lost, where
            assert event.task_state in TASK_ENDS, where
        self.lost.discard((task, event.attempt))
        if event.state == State.LOST:
            self.lost.add((task, event.attempt))
        if event.task_state in TASK_ENDS:
            self.ends[task] = State(event.task_state)

    def _tell_adopted(self, where: str, event: ev.Adopted) -> None:
        task = (event.job_id, event.index)
        assert task not in self.active, where
        assert task not in self.ends, where
        assert (task, event.attempt) in self.lost, where
        self.lost.remove((task, event.attempt))
        self.active[task] = event.attempt

    def tasks_of(self, job_id: int) -> list[Task]:
        """All tasks of a job."""
        array = self.jobs[job_id].array
        if not array:
            return [(job_id, 0)]
        return [(job_id, index) for part in array for index in part.indexes]

    def all_tasks(self) -> list[Task]:
        """All tasks of all jobs."""
        return [task for job_id in self.jobs for task in self.tasks_of(job_id)]
