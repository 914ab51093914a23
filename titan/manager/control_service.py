"""The part of ManagerService that changes jobs that are there, and the policy.

Translates, calls, renders; decides nothing.
"""

from __future__ import annotations

from titan.manager import permissions, translate
from titan.manager.kernel.commands import Changed, Command, Requeued
from titan.manager.kernel.policy import policy_in_force
from titan.manager.shell import Shell
from titan.queries import reads, views
from titan.rpc.v1 import manager_pb2


class ControlService:
    """The handlers, a method for each RPC."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

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
