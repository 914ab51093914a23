"""The frame of the kernel: who decides which command, what falls due by time, and passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from titan import events as ev
from titan.manager.kernel import cancel, drain, forgetting, reports, submit, workers
from titan.manager.kernel.commands import (
    CancelJobs,
    Command,
    DeregisterWorker,
    DrainWorkers,
    Heartbeat,
    RegisterWorker,
    ReportTasks,
    SubmitJobs,
)
from titan.manager.kernel.desk import Desk
from titan.model import WorkerState
from titan.scheduler.policies import POLICIES
from titan.scheduler.queue import propose

# A pass stops here and goes on in the next record: one record and one loop turn stay short.
ASSIGNMENTS_PER_RECORD_MAX: Final = 10_000


class Kernel(Desk):
    """Decides what happens. Knows no time and no random number but what it is told."""

    def start(
        self, *, cluster_id: bytes, epoch: int, version: str, now_us: int, turned_us: int = 0
    ) -> None:
        """A manager takes the log over. Every known worker gets a full timeout to call in."""
        self.set_time(now_us, turned_us)
        if not self.state.cluster_id:
            self.emit(ev.ClusterCreated(cluster_id))
        self.emit(ev.ManagerStarted(epoch, version))
        for number, worker in self.state.workers.items():
            if worker.state in (WorkerState.HEALTHY, WorkerState.UNHEALTHY):
                self.heard_us[number] = self.turned_us

    def decide(self, command: Command, now_us: int, turned_us: int) -> Any:
        """Answers a command, after its events. Raises TitanError, then nothing changed.

        `turned_us` is time as far as the loop turned: silence is counted in it.
        """
        self.set_time(now_us, turned_us)
        return _DECIDE[type(command)](self, command)

    def tick(self, now_us: int, turned_us: int) -> None:
        """What falls due by time alone."""
        self.set_time(now_us, turned_us)
        workers.check_silence(self)
        workers.record_heartbeats(self)
        workers.recall_from_ahead(self)
        forgetting.forget_jobs(self)

    def schedule(self, now_us: int) -> None:
        """One pass over the queue."""
        self.now_us = max(self.now_us, now_us)
        if not (self.room and self.schedule_wanted):
            return
        self.schedule_wanted = False
        policy = POLICIES[self.settings.policy]
        for assigned, placement in enumerate(propose(self.state, policy, self.outboxes)):
            if assigned == ASSIGNMENTS_PER_RECORD_MAX:
                self.schedule_wanted = True
                return
            job = self.state.get_job(placement.job_id)
            worker = self.state.get_worker(placement.worker)
            # The scheduler proposes, the kernel answers for it (invariant 4).
            if not placement.ahead and not worker.has_room(job.demand):
                raise AssertionError(f"{placement} does not fit")
            self.emit(
                ev.TaskAssigned(
                    placement.job_id, placement.index, job.next_attempt(placement.index),
                    placement.worker, placement.ahead, policy.code, policy.version, placement.rule,
                )
            )  # fmt: skip
            outbox = self.outboxes.get(placement.worker)
            if outbox is not None:
                outbox.want_start(job.active[placement.index])


_DECIDE: Final[dict[type[Any], Callable[[Desk, Any], Any]]] = {
    SubmitJobs: submit.submit_jobs,
    CancelJobs: cancel.cancel_jobs,
    DrainWorkers: drain.drain_workers,
    RegisterWorker: workers.register_worker,
    Heartbeat: workers.hear_heartbeat,
    DeregisterWorker: workers.deregister_worker,
    ReportTasks: reports.apply_reports,
}
