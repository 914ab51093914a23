"""The part of ManagerService that says why: `titan why` and `titan plan`. It changes nothing.

Of a task that waits the state and the scheduler tell; of one that was placed the log alone knows
how it was then, and a lookback process reads it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeAlias

import msgpack

from titan.errors import InvalidJob
from titan.manager import translate
from titan.manager.kernel.commands import NewTerms
from titan.manager.kernel.schedule import rules_in_force
from titan.manager.kernel.submit import check_submit
from titan.manager.past import FORGOTTEN, NOW_DEADLINE_SECONDS, PastDesk
from titan.manager.shell import Shell
from titan.model import IndexRange
from titan.queries import explanations
from titan.queries.explanations import Placing
from titan.queries.requests import check_moment, selector_of
from titan.queries.selection import JobForgotten, select_job
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.scheduler.explain import explain_new
from titan.scheduling import Scheduling
from titan.state.job_class import ClassKey, JobClass, class_key

# Each costs a look at every worker.
PLANS_MAX: Final = 10
# In place of the script that a job comes with: a plan is asked for without it.
_SOME_SCRIPT: Final = b"#!/bin/sh\n"

Response: TypeAlias = manager_pb2.ExplainJobResponse


class ExplainService:
    """Two handlers of ManagerService."""

    def __init__(self, shell: Shell, past: PastDesk) -> None:
        self._shell = shell
        self._past = past

    def ExplainJob(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.ExplainJobRequest
    ) -> Response | Awaitable[Response]:
        """Why a task waits, or how it came to be where it is."""
        if request.HasField("at"):
            check_moment(request.at)
            return self._explain_past(request)
        kernel = self._shell.kernel
        state = kernel.state
        selector = selector_of(request.job)
        try:
            job = select_job(state, selector)
        except JobForgotten as forgotten:
            return self._explain_forgotten(forgotten.job_id, selector.indexes)
        index = explanations.choose_index(job, selector.indexes)
        placing = explanations.find_placing(state, job, index)
        if placing is not None:
            now = manager_pb2.Explanation()
            explanations.add_state(now, job, index)
            return self._explain_placed(placing, now)
        explanation = explanations.explain_unplaced(
            kernel.scheduler, job, index, rules_in_force(kernel), self._shell.now_us()
        )
        return Response(explanation=explanation, lsn=self._shell.lsn)

    def PlanJobs(  # noqa: N802
        self, request: manager_pb2.PlanJobsRequest
    ) -> manager_pb2.PlanJobsResponse:
        """Where jobs would go, each as if it came alone."""
        if len(request.jobs) > PLANS_MAX:
            raise InvalidJob(f"at most {PLANS_MAX} jobs can be planned at once")
        submit = manager_pb2.SubmitJobRequest(
            user=request.user,
            environments=[types_pb2.Environment(script=_SOME_SCRIPT)],
            jobs=request.jobs,
        )
        for spec in submit.jobs:
            spec.environment = 0
        command = translate.submit_command(submit)
        state = self._shell.kernel.state
        on, named = check_submit(state, command)
        planned = [
            self._plan(
                state.next_job_id + place, command.user, job.terms, on[job.terms.on], scheduling
            )
            for place, (job, scheduling) in enumerate(zip(command.jobs, named, strict=True))
        ]
        return manager_pb2.PlanJobsResponse(explanations=planned, lsn=self._shell.lsn)

    def _plan(
        self, job_id: int, user: str, terms: NewTerms, on: str, scheduling: Scheduling
    ) -> manager_pb2.Explanation:
        kernel = self._shell.kernel
        rules = rules_in_force(kernel)
        key: ClassKey = class_key(
            user=user,
            priority=terms.priority,
            demand=terms.resources,
            on=on,
            time_limit_ms=terms.time_limit_ms,
            grace_ms=terms.grace_ms,
            scheduling=scheduling,
            execution=terms.execution,
            job_id=job_id,
        )
        explained = explain_new(
            kernel.scheduler, key, scheduling, rules, self._shell.now_us(),
            job_id=job_id, time_limit_ms=terms.time_limit_ms,
        )  # fmt: skip
        return explanations.plan_message(kernel.state, explained, JobClass(0, key), rules.policy)

    async def _explain_past(self, request: manager_pb2.ExplainJobRequest) -> Response:
        """From the state of then, by the policy that was set then, else by today's flags."""
        await self._shell.wait_durable(self._shell.lsn)
        question: bytes = msgpack.packb(
            (request.SerializeToString(), self._shell.kernel.state.flags)
        )
        about = request.at.SerializeToString()
        return Response.FromString(await self._past.ask("ExplainJob", question, about=about))

    async def _explain_placed(self, placing: Placing, now: manager_pb2.Explanation) -> Response:
        """`now` is what the log does not know of it."""
        lsn = self._shell.lsn
        await self._shell.wait_durable(lsn)
        reply = await self._past.ask(
            "ExplainPlaced", placing.pack(), about=placing, seconds=NOW_DEADLINE_SECONDS
        )
        explanation = manager_pb2.Explanation.FromString(reply)
        explanation.MergeFrom(now)
        return Response(explanation=explanation, lsn=lsn)

    async def _explain_forgotten(self, job_id: int, indexes: tuple[IndexRange, ...]) -> Response:
        lsn = self._shell.lsn
        await self._shell.wait_durable(lsn)
        question: bytes = msgpack.packb((job_id, indexes))
        reply = await self._past.ask(
            "ExplainForgotten", question, about=FORGOTTEN, seconds=NOW_DEADLINE_SECONDS
        )
        return Response(explanation=manager_pb2.Explanation.FromString(reply), lsn=lsn)
