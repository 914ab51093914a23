"""Who holds, suspends, updates and requeues jobs, and in the end lets all of them go on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc

from tests.simulation.checks import Witness
from tests.simulation.client import DEADLINE_US, PASSING
from tests.simulation.network import MANAGER, Answer, Network
from tests.simulation.wishes import NEW_LIMITS_MS, Change, ChangePlan
from tests.simulation.world import World, check
from titan.rpc.v1 import manager_pb2

NODE: Final = "overseer"
GRACE_MS: Final = 500
# What was refused for a reason that holds: a limit shorter than the warning before it, or a
# requeue of what has completed.
_REFUSALS: Final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


class Overseer:
    """All changes of a run, each sent until it is answered."""

    def __init__(
        self,
        plans: tuple[ChangePlan, ...],
        world: World,
        network: Network,
        witness: Witness,
        find_job_id: Callable[[int], int],
    ) -> None:
        """`find_job_id` tells a job's number, 0 while nobody was told of it."""
        self._world = world
        self._network = network
        self._witness = witness
        self._find_job_id = find_job_id
        self._open = len(plans)
        for each in plans:
            world.after(each.at_ms * 1000, partial(self._begin, each))

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be changed."""
        return not self._open

    def let_all_go_on(self) -> None:
        """Releases and resumes whatever has not ended, unless that is under way."""
        if self._open:
            return
        everything = manager_pb2.JobFilter()
        self._open = 2
        self._send("HoldJob", manager_pb2.HoldJobRequest(filter=everything, release=True))
        self._send("SuspendJob", manager_pb2.SuspendJobRequest(filter=everything, resume=True))

    def _begin(self, plan: ChangePlan) -> None:
        job_id = self._find_job_id(plan.job)
        if not job_id:
            self._open -= 1
            return
        jobs = [manager_pb2.JobSelector(job_id=job_id)]
        self._world.count(f"wished: {plan.change.value}")
        match plan.change:
            case Change.HOLD:
                end: Any = manager_pb2.HoldJobRequest(jobs=jobs, release=True)
                self._send("HoldJob", manager_pb2.HoldJobRequest(jobs=jobs), plan.for_ms, end)
            case Change.SUSPEND:
                end = manager_pb2.SuspendJobRequest(jobs=jobs, resume=True)
                begin = manager_pb2.SuspendJobRequest(jobs=jobs)
                self._send("SuspendJob", begin, plan.for_ms, end)
            case Change.PRIORITY:
                priority = plan.detail % 9
                self._send("UpdateJob", manager_pb2.UpdateJobRequest(jobs=jobs, priority=priority))
            case Change.TIME_LIMIT:
                limit_ms = NEW_LIMITS_MS[plan.detail % len(NEW_LIMITS_MS)]
                self._send(
                    "UpdateJob", manager_pb2.UpdateJobRequest(jobs=jobs, time_limit_ms=limit_ms)
                )
            case Change.REQUEUE:
                request_id = self._world.random.randbytes(16)
                self._witness.requeue_sent(request_id)
                self._send(
                    "RequeueJob",
                    manager_pb2.RequeueJobRequest(
                        jobs=jobs, user=NODE, grace_ms=GRACE_MS, request_id=request_id
                    ),
                )

    def _send(self, method: str, request: Any, for_ms: int = 0, end: Any = None) -> None:
        again = partial(self._send, method, request, for_ms, end)

        def answered(answer: Answer) -> None:
            if answer.status in PASSING:
                self._world.after(self._world.random.randint(50_000, 1_000_000), again)
                return
            if answer.is_ok:
                self._witness.changed(answer.message.lsn)
            else:
                is_fair = method in ("UpdateJob", "RequeueJob") and answer.status in _REFUSALS
                check(is_fair, f"{method} is refused: {answer}")
            if end is None:
                self._open -= 1
            else:
                self._world.after(for_ms * 1000, partial(self._send, method, end))

        self._network.call(NODE, MANAGER, method, request, DEADLINE_US, answered)
