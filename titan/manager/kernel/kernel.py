"""The frame of the kernel: who decides which command, what falls due by time, and passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from titan import events as ev
from titan.errors import NoRoom
from titan.manager.kernel import (
    cancel,
    drain,
    forgetting,
    hold,
    policy,
    reports,
    requeue,
    schedule,
    settle,
    silence,
    submit,
    suspend,
    withheld,
    workers,
)
from titan.manager.kernel.commands import (
    CancelJobs,
    Command,
    DeregisterWorker,
    DrainWorkers,
    Heartbeat,
    HoldJobs,
    RegisterWorker,
    ReportTasks,
    RequeueJobs,
    SetPolicy,
    SubmitJobs,
    SuspendJobs,
    UpdateJobs,
)
from titan.manager.kernel.desk import Desk
from titan.model import WorkerState


class Kernel(Desk):
    """Decides what happens. Knows no time and no random number but what it is told."""

    def start(
        self, *, cluster_id: bytes, epoch: int, version: str, now_us: int, turned_us: int = 0
    ) -> None:
        """A manager takes the log over. Every known worker gets a full timeout to call in."""
        self.set_time(now_us, turned_us)
        self.state.flags = policy.policy_of_flags(self.settings)
        if not self.state.cluster_id:
            self.emit(ev.ClusterCreated(cluster_id))
        self.emit(ev.ManagerStarted(epoch, version))
        for number, worker in self.state.workers.items():
            if worker.state in (WorkerState.HEALTHY, WorkerState.UNHEALTHY):
                self.hear(number)

    def decide(self, command: Command, now_us: int, turned_us: int) -> Any:
        """Answers a command, after its events. Raises TitanError, then nothing changed.

        `turned_us` is time as far as the loop turned: silence is counted in it.
        """
        self.set_time(now_us, turned_us)
        if not self.room and isinstance(command, _NEEDS_ROOM):
            raise NoRoom(
                "the manager's disk is full: until there is room again jobs can be cancelled, and "
                "nothing else of them changed"
            )
        return _DECIDE[type(command)](self, command)

    def tick(self, now_us: int, turned_us: int) -> None:
        """What falls due by time alone."""
        self.set_time(now_us, turned_us)
        silence.check_silence(self)
        workers.record_heartbeats(self)
        workers.recall_from_ahead(self)
        forgetting.forget_jobs(self)
        settle.settle(self)
        schedule.remind(self)

    def schedule(self, now_us: int) -> None:
        """One pass over the queue."""
        self.now_us = max(self.now_us, now_us)
        settle.settle(self)
        if self.room and self.schedule_wanted:
            self.schedule_wanted = False
            schedule.run_pass(self)
        # Before anybody makes a batch of what was assigned.
        withheld.end_withheld(self)


# Without room only ends, cancels, drains and registrations are decided; submits say so themselves.
_NEEDS_ROOM: Final = (HoldJobs, SuspendJobs, UpdateJobs, RequeueJobs, SetPolicy)

_DECIDE: Final[dict[type[Any], Callable[[Desk, Any], Any]]] = {
    SubmitJobs: submit.submit_jobs,
    CancelJobs: cancel.cancel_jobs,
    HoldJobs: hold.hold_jobs,
    SuspendJobs: suspend.suspend_jobs,
    UpdateJobs: hold.update_jobs,
    RequeueJobs: requeue.requeue_jobs,
    SetPolicy: policy.set_policy,
    DrainWorkers: drain.drain_workers,
    RegisterWorker: workers.register_worker,
    Heartbeat: workers.hear_heartbeat,
    DeregisterWorker: workers.deregister_worker,
    ReportTasks: reports.apply_reports,
}
