"""The jobs by number: those that live as objects, those that ended mostly packed.

An ended job never changes, and a manager remembers some hundred thousand of them: as
bytes they cost a fifth of the memory, are nothing for the garbage collector to walk,
and go into a snapshot and out of it as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from titan.state.job import Job, weigh, weigh_live
from titan.state.job_class import JobClass
from titan.state.packed_job import JobHead, head_of, pack_job, read_head, unpack_job
from titan.state.rising_ids import RisingIds


class JobTable(Mapping[int, Job]):
    """Looks like a dict from job id to Job, in the order of the ids.

    A Job that ended may be made anew at each access: it is there to be read.
    """

    def __init__(self, classes: Mapping[int, JobClass]) -> None:
        """`classes` are those of its jobs, by number."""
        self._classes = classes
        # Those that have not ended, in the order of their ids, in which they come.
        self.live: dict[int, Job] = {}
        self.live_ids = RisingIds((), self.live)
        # What those take of the memory, in plain jobs.
        self.live_weight = 0
        # Those that ended, in the order in which they did.
        self._ended: dict[int, Job | bytes] = {}
        # All ids; None: nobody has asked for their order yet.
        self._all_ids: RisingIds | None = None
        # How many of them, from the oldest on, are packed.
        self._packed = 0
        # What those take of the memory, in plain jobs.
        self.ended_weight = 0

    def __len__(self) -> int:
        return len(self.live) + len(self._ended)

    def __iter__(self) -> Iterator[int]:
        return self.ids.irange()

    def __contains__(self, job_id: object) -> bool:
        return job_id in self.live or job_id in self._ended

    def __getitem__(self, job_id: int) -> Job:
        job: Job | bytes | None = self.live.get(job_id)
        if job is None:
            job = self._ended[job_id]
        return unpack_job(job, self._classes) if isinstance(job, bytes) else job

    @property
    def ids(self) -> RisingIds:
        """Those of all jobs, in their order, to be asked for ranges of them."""
        if self._all_ids is None:
            self._all_ids = RisingIds((*self.live, *self._ended), self)
        return self._all_ids

    def head(self, job_id: int) -> JobHead:
        """What lists ask for of a job, without unpacking it. Raises KeyError."""
        job: Job | bytes | None = self.live.get(job_id)
        if job is None:
            job = self._ended[job_id]
        return read_head(job_id, job, self._classes) if isinstance(job, bytes) else head_of(job)

    def heads(self) -> Iterator[JobHead]:
        """Those of all, by id."""
        return map(self.head, self.ids.irange())

    @property
    def ended_count(self) -> int:
        """How many of them ended."""
        return len(self._ended)

    @property
    def last_ended(self) -> int | None:
        """The one that ended last."""
        return next(reversed(self._ended), None)

    def ended_ids(self) -> Iterator[int]:
        """Those that ended, in the order in which they did."""
        return iter(self._ended)

    def ended_packed(self) -> Iterator[tuple[int, bytes]]:
        """The same as ids and bytes."""
        for job_id, job in self._ended.items():
            yield job_id, job if isinstance(job, bytes) else pack_job(job)

    def add(self, job_ids: Sequence[int], jobs: Sequence[Job]) -> None:
        """New ones of these ids, which rise and are above all others."""
        self.live.update(zip(job_ids, jobs, strict=True))
        self.live_ids.add(job_ids)
        if self._all_ids is not None:
            self._all_ids.add(job_ids)
        self.live_weight += sum(map(weigh_live, jobs))

    def end(self, job: Job) -> None:
        """It ended and will not change any more, but for what the same event still does."""
        del self.live[job.job_id]
        self.live_ids.note_gone()
        self.live_weight -= weigh_live(job)
        self._ended[job.job_id] = job
        self.ended_weight += weigh(job.tasks_total)

    def forget(self, job_id: int) -> JobHead:
        """Removes one that ended. Raises KeyError."""
        head = self.head(job_id)
        if isinstance(self._ended.pop(job_id), bytes):
            self._packed -= 1
        if self._all_ids is not None:
            self._all_ids.note_gone()
        self.ended_weight -= head.weight
        return head

    def pack_ended(self, limit: int) -> int:
        """Packs so many that ended and are not packed yet; returns how many it packed.

        It changes how they are kept and nothing that anybody sees. Costs by those.
        """
        todo = min(limit, len(self._ended) - self._packed)
        if todo <= 0:
            return 0
        # They are the last ones in the order of the ends.
        newest = list(islice(reversed(self._ended), len(self._ended) - self._packed))
        for job_id in newest[-1 : -todo - 1 : -1]:
            job = self._ended[job_id]
            if not isinstance(job, bytes):
                self._ended[job_id] = pack_job(job)
        self._packed += todo
        return todo

    def load(self, live: dict[int, Job], ended: dict[int, Any], ended_weight: int) -> None:
        """Fills an empty table: `ended`, as bytes in the order of the ends, is the table's now."""
        self.live = {job_id: live[job_id] for job_id in sorted(live)}
        self.live_ids = RisingIds(self.live, self.live)
        self.live_weight = sum(map(weigh_live, live.values()))
        self._ended = ended
        self._packed = len(self._ended)
        self.ended_weight = ended_weight
        self._all_ids = None
