"""What a fake manager does when jobs are steered: as little as makes the answers true."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from titan.client.cursors import has_ended
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2


class FakeControl(manager_pb2_grpc.ManagerServiceServicer):
    """The calls that change jobs and the policy, and the answers that tests lay out for others."""

    jobs: dict[int, manager_pb2.Job]
    _changed: threading.Condition
    _lsn: int

    def __init__(self) -> None:
        # What `why` is answered, and each job of a plan.
        self.explanation = manager_pb2.Explanation()
        self.policy = manager_pb2.PolicyResponse(
            policy=manager_pb2.Policy(
                placement="round-robin-then-bin-packing",
                order="easy",
                preempt="off",
                reserve_after_ms=60_000,
            )
        )
        # Of several managers, who leads, and what becomes of a term when its leader steps down.
        self.term = 0
        self.led_from = ""
        self.on_step_down: Callable[[], None] = lambda: None
        self._requeued: dict[bytes, manager_pb2.RequeueJobResponse] = {}

    def StepDown(self, request: Any, context: Any) -> manager_pb2.StepDownResponse:  # noqa: N802
        self._check("StepDown", request, context)
        self.on_step_down()
        return manager_pb2.StepDownResponse(term=request.term)

    def HoldJob(self, request: Any, context: Any) -> manager_pb2.ChangeJobResponse:  # noqa: N802
        def hold(job: manager_pb2.Job) -> None:
            job.scheduling.held = not request.release

        return self._change("HoldJob", request, context, hold)

    def SuspendJob(self, request: Any, context: Any) -> manager_pb2.ChangeJobResponse:  # noqa: N802
        def suspend(job: manager_pb2.Job) -> None:
            job.suspended = not request.resume

        return self._change("SuspendJob", request, context, suspend)

    def UpdateJob(self, request: Any, context: Any) -> manager_pb2.ChangeJobResponse:  # noqa: N802
        def update(job: manager_pb2.Job) -> None:
            if request.HasField("priority"):
                job.priority = request.priority
            if request.HasField("time_limit_ms"):
                job.time_limit_ms = request.time_limit_ms

        return self._change("UpdateJob", request, context, update)

    def RequeueJob(self, request: Any, context: Any) -> manager_pb2.RequeueJobResponse:  # noqa: N802
        with self._changed:
            answer = self._requeued.get(request.request_id)
            if answer is None:
                answer = manager_pb2.RequeueJobResponse()
                for job in [self._find(each, context) for each in request.jobs]:
                    answer.jobs.append(self._requeue(job, answer))
                answer.lsn = self._lsn
                self._requeued[request.request_id] = answer
        # Checked last: a call can fail although it was accepted.
        self._check("RequeueJob", request, context)
        return answer

    def PlanJobs(self, request: Any, context: Any) -> manager_pb2.PlanJobsResponse:  # noqa: N802
        self._check("PlanJobs", request, context)
        return manager_pb2.PlanJobsResponse(
            explanations=[self.explanation] * len(request.jobs), lsn=self._lsn
        )

    def GetPolicy(self, request: Any, context: Any) -> manager_pb2.PolicyResponse:  # noqa: N802
        self._check("GetPolicy", request, context)
        return self.policy

    def SetPolicy(self, request: Any, context: Any) -> manager_pb2.PolicyResponse:  # noqa: N802
        self._check("SetPolicy", request, context)
        with self._changed:
            policy = self.policy.policy
            for name in ("placement", "order", "fair_share", "preempt", "reserve_after_ms"):
                if request.HasField(name):
                    setattr(policy, name, getattr(request, name))
            limits = {each.user: each for each in (*policy.user_limits, *request.user_limits)}
            del policy.user_limits[:]
            policy.user_limits.extend(limits.values())
            self.policy.was_set = True
            return self.policy

    def _change(
        self, method: str, request: Any, context: Any, change: Callable[[manager_pb2.Job], None]
    ) -> manager_pb2.ChangeJobResponse:
        self._check(method, request, context)
        with self._changed:
            answer = manager_pb2.ChangeJobResponse()
            if request.HasField("filter"):
                jobs = [job for job in self.jobs.values() if job.state in request.filter.states]
            else:
                jobs = [self._find(selector, context) for selector in request.jobs]
            for job in jobs:
                if has_ended(job):
                    answer.already_ended.append(job.job_id)
                else:
                    change(job)
                    self._touch(job)
            answer.jobs.extend(jobs)
            answer.lsn = self._lsn
            return answer

    def _requeue(
        self, job: manager_pb2.Job, answer: manager_pb2.RequeueJobResponse
    ) -> manager_pb2.Job:
        if not has_ended(job):
            job.state = types_pb2.PENDING
            job.tasks.pending, job.tasks.running = job.tasks.pending + job.tasks.running, 0
            self._touch(job)
            return job
        left = job.tasks.failed + job.tasks.cancelled
        again = self.add_job(
            name=job.name, array=job.array, tasks=manager_pb2.TaskCounts(pending=left)
        )
        answer.submitted_again[job.job_id] = again.job_id
        return again

    def add_job(self, **fields: Any) -> manager_pb2.Job:
        """A job as if it had been submitted."""
        raise NotImplementedError

    def _check(self, method: str, request: Any, context: Any) -> None:
        raise NotImplementedError

    def _find(self, selector: manager_pb2.JobSelector, context: Any) -> manager_pb2.Job:
        raise NotImplementedError

    def _touch(self, job: manager_pb2.Job) -> None:
        raise NotImplementedError
