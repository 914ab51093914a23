"""Classes: tasks among which a placement decision cannot tell a difference.

Two pending tasks with the same user, priority and demands, and for the same worker if it is to
be a certain one, wait for the same room, so the scheduler looks at their class once and not at
each of them; and on a worker the one may take the other's place.
"""

from __future__ import annotations

from sortedcontainers import SortedDict

from titan.model import Resources

ClassKey = tuple[str, int, Resources, str]


class JobClass:
    """A class, its jobs with pending tasks, and how long its tasks run.

    Changed by the state's apply alone.
    """

    __slots__ = (
        "class_id",
        "demand",
        "jobs",
        "on",
        "pending_jobs",
        "priority",
        "run_us",
        "samples",
        "user",
    )

    def __init__(
        self, class_id: int, user: str, priority: int, demand: Resources, on: str = ""
    ) -> None:
        self.class_id = class_id
        self.user = user
        self.priority = priority
        self.demand = demand
        # The name or the id in hexadecimal of the one worker where they may run; empty: anywhere.
        self.on = on
        # How many jobs of it are remembered; without any it is forgotten, too.
        self.jobs = 0
        # Job ids in the order of their submits; the values say nothing.
        self.pending_jobs: SortedDict[int, None] = SortedDict()
        # A guess at the run time that errs to the long side; meaningful from the first sample.
        self.run_us = 0
        self.samples = 0

    @property
    def key(self) -> ClassKey:
        """What makes it this class."""
        return self.user, self.priority, self.demand, self.on

    def learn_run(self, run_us: int) -> None:
        """One task ran so long. A long one counts at once, short ones by an eighth each."""
        self.run_us = run_us if run_us > self.run_us else self.run_us - (self.run_us - run_us) // 8
        self.samples += 1
