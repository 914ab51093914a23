"""The part of ManagerService that changes jobs that are there, the policy, and who leads.

Translates, calls, renders; decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from titan.errors import Refused
from titan.logs import LogLine
from titan.manager import caller, permissions, translate
from titan.manager.kernel.commands import Changed, Command, Requeued
from titan.manager.kernel.policy import policy_in_force
from titan.manager.shell import Shell
from titan.queries import reads, views
from titan.rpc.v1 import manager_pb2

_log = logging.getLogger("titan.manager")


class ControlService:
    """The handlers, a method for each RPC."""

    def __init__(self, shell: Shell, step_down: Callable[[], None] | None = None) -> None:
        """`step_down`: see `leader_handlers`."""
        self._shell = shell
        self._step_down = step_down

    def HoldJob(  # noqa: N802  (gRPC's names)
        self, request: manager_pb2.HoldJobRequest
    ) -> manager_pb2.ChangeJobResponse:
        """Holds jobs, or releases them."""
        return self._change(translate.hold_command(request, permissions.only_of()))

    def SuspendJob(  # noqa: N802
        self, request: manager_pb2.SuspendJobRequest
    ) -> manager_pb2.ChangeJobResponse:
        """Suspends jobs, or resumes them."""
        return self._change(translate.suspend_command(request, permissions.only_of()))

    def UpdateJob(  # noqa: N802
        self, request: manager_pb2.UpdateJobRequest
    ) -> manager_pb2.ChangeJobResponse:
        """Gives jobs another priority or time limit."""
        return self._change(translate.update_command(request, permissions.only_of()))

    def RequeueJob(  # noqa: N802
        self, request: manager_pb2.RequeueJobRequest
    ) -> manager_pb2.RequeueJobResponse:
        """Puts tasks back, or submits again what ended."""
        command = translate.requeue_command(request, permissions.only_of())
        answer: Requeued = self._shell.execute(command)
        return manager_pb2.RequeueJobResponse(
            jobs=self._jobs(answer.job_ids),
            submitted_again=answer.submitted_again,
            lsn=self._shell.lsn,
        )

    def SetPolicy(  # noqa: N802
        self, request: manager_pb2.SetPolicyRequest
    ) -> manager_pb2.PolicyResponse:
        """Changes how tasks are ordered and placed."""
        self._shell.execute(translate.policy_command(request))
        return self._policy()

    def GetPolicy(  # noqa: N802
        self, request: manager_pb2.GetPolicyRequest
    ) -> manager_pb2.PolicyResponse:
        """How tasks are ordered and placed."""
        del request
        return self._policy()

    def StepDown(  # noqa: N802
        self, request: manager_pb2.StepDownRequest
    ) -> manager_pb2.StepDownResponse:
        """Another manager is to lead."""
        if self._step_down is None:
            raise Refused(
                "this manager keeps its log in files of its own, so no other can lead in its "
                "place; SIGTERM stops it"
            )
        term = self._shell.leadership.term
        if request.term and request.term != term:
            # It was asked before, and the answer got lost.
            return manager_pb2.StepDownResponse(term=request.term)
        _log.warning(LogLine("asked to step down", who=caller.current(), user=request.user))
        self._step_down()
        return manager_pb2.StepDownResponse(term=term)

    def _change(self, command: Command) -> manager_pb2.ChangeJobResponse:
        answer: Changed = self._shell.execute(command)
        return manager_pb2.ChangeJobResponse(
            jobs=self._jobs(answer.job_ids),
            already_ended=answer.already_ended,
            lsn=self._shell.lsn,
        )

    def _jobs(self, job_ids: list[int]) -> list[manager_pb2.Job]:
        state = self._shell.kernel.state
        chosen = [state.get_job(job_id) for job_id in job_ids[: reads.LIST_MAX]]
        return next(reads.job_pages(state, chosen), [])

    def _policy(self) -> manager_pb2.PolicyResponse:
        kernel = self._shell.kernel
        return manager_pb2.PolicyResponse(
            policy=views.policy_message(policy_in_force(kernel.state, kernel.settings)),
            was_set=kernel.state.policy is not None,
            lsn=self._shell.lsn,
        )
