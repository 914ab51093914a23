"""What a state consists of, and how it is looked at; nothing here changes a job or a worker."""

from __future__ import annotations

from typing import Final, NamedTuple

from sortedcontainers import SortedDict, SortedList

from titan import events as ev
from titan.state.job import Job, Terms
from titan.state.job_class import ClassKey, JobClass
from titan.state.job_table import JobTable
from titan.state.request_table import RequestTable
from titan.state.usage import Usage
from titan.state.worker import Worker

# In place of an index: each task of the job.
ALL_TASKS: Final = -1
# What a variable takes of the memory besides its name and its value.
_VARIABLE_BYTES: Final = 128
# Terms of jobs that came lately, among which equal ones are looked for.
_TERMS_KEPT: Final = 256


class IllegalEvent(Exception):
    """The state does not allow this event."""

    def __init__(self, event: object, why: str) -> None:
        super().__init__(f"{event}: {why}")
        self.event = event


class Hold(NamedTuple):
    """A worker is kept for a job."""

    job_id: int
    preempts: bool
    """Room is being made for it there; else it waits until enough of it is free."""


class Tables:
    """Everything that the log says."""

    def __init__(self) -> None:
        self.lsn = 0
        self.time_us = 0
        self.cluster_id = b""
        self.epoch = 0
        # The version of Titan that started last on this log.
        self.version = ""
        self.next_job_id = 1
        self.workers: SortedDict[int, Worker] = SortedDict()
        self.worker_numbers: dict[bytes, int] = {}
        self.next_worker = 1
        # The worker of the last round-robin assignment; 0: none yet.
        self.round_robin = 0
        # Those of the remembered jobs, in the order of their numbers.
        self.classes: dict[int, JobClass] = {}
        self.jobs = JobTable(self.classes)
        self.class_ids: dict[ClassKey, int] = {}
        self.next_class = 1
        self.environments: dict[bytes, ev.EnvironmentStored] = {}
        # How many remembered jobs refer to each.
        self.environment_jobs: dict[bytes, int] = {}
        # What they take of the memory.
        self.environment_bytes = 0
        self.requests = RequestTable()
        # No part of what the log says: it only saves memory.
        self._terms: dict[Terms, Terms] = {}
        self.last_job_of: dict[str, int] = {}
        self.usage = Usage()
        # What a pass of the scheduler has to look at again; emptied by it, and no part of what
        # the log says.
        self.touched_classes: dict[int, None] = {}
        # (time, job, index) of all that waits for a time; ALL_TASKS: the whole job. What has
        # ended meanwhile may still stand here.
        self.delayed: SortedList[tuple[int, int, int]] = SortedList()
        # (time, job): what waits of the job then can't end by its deadline any more.
        self.deadlines: SortedList[tuple[int, int]] = SortedList()
        # By job, and by what of it (a task, SAME_INDEX or WHOLE_JOB): those that wait for that, and
        # which of their dependencies do.
        self.dependents: dict[int, dict[int, dict[int, tuple[int, ...]]]] = {}
        # By job: its tasks whose dependency can't be met any more, or ALL_TASKS, and the job that
        # it was on; until DependencyFailed.
        self.doomed: dict[int, dict[int, int]] = {}
        # Jobs with more failed tasks than they may have; until their cancel.
        self.overfailed: dict[int, None] = {}
        # By worker.
        self.holds: dict[int, Hold] = {}
        # None: nobody has set it.
        self.policy: ev.PolicySet | None = None
        # What counts as long as nobody has; None where it is not known. It is no part of what the
        # log says.
        self.flags: ev.PolicySet | None = None
        # Tasks by state over the remembered jobs, and jobs by state, in the order of the states.
        self.task_counts = [0] * 6
        self.job_counts = [0] * 6

    @property
    def live_jobs(self) -> dict[int, Job]:
        """Those that have not ended, by id."""
        return self.jobs.live

    def get_job(self, job_id: int) -> Job:
        """Raises KeyError."""
        return self.jobs[job_id]

    def is_forgotten(self, job_id: int) -> bool:
        """Whether such a job was, ended, and is remembered by the log alone."""
        return 0 < job_id < self.next_job_id and job_id not in self.jobs

    def get_worker(self, number: int) -> Worker:
        """Raises KeyError."""
        worker: Worker = self.workers[number]
        return worker

    def shared_terms(self, terms: Terms) -> Terms:
        """Equal ones that a job has already, if there are any: then these need not be kept."""
        known = self._terms.get(terms)
        if known is None:
            if len(self._terms) >= _TERMS_KEPT:
                self._terms.clear()
            self._terms[terms] = known = terms
        return known

    def add_environment(self, stored: ev.EnvironmentStored, jobs: int) -> None:
        """One that is new, and how many jobs refer to it."""
        self.environments[stored.digest] = stored
        self.environment_jobs[stored.digest] = jobs
        self.environment_bytes += environment_bytes(stored)

    def drop_environment(self, digest: bytes) -> None:
        """One that no job refers to any more."""
        del self.environment_jobs[digest]
        self.environment_bytes -= environment_bytes(self.environments.pop(digest))

    def add_class(self, job_class: JobClass) -> None:
        """A class that has its number already."""
        self.classes[job_class.class_id] = job_class
        self.touched_classes[job_class.class_id] = None
        self.class_ids[job_class.key] = job_class.class_id


def environment_bytes(stored: ev.EnvironmentStored) -> int:
    """What it takes of the memory, with its script."""
    variables = (*stored.exported, *stored.set)
    named = sum(len(name) + len(value) for name, value in variables)
    secrets = sum(map(len, stored.secret_names))
    count = len(variables) + len(stored.secret_names)
    return len(stored.script) + count * _VARIABLE_BYTES + named + secrets


def require(event: object, holds: bool, why: str) -> None:
    """Raises IllegalEvent unless it holds."""
    if not holds:
        raise IllegalEvent(event, why)
