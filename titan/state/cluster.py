"""The state of the cluster, and `apply`: the only thing that changes it.

Live running and replay go through the same `apply_record`, so a log replays to the
state that the manager had. An event that the state does not allow raises
IllegalEvent, which names the event: it is our bug or a damaged log, never input.

What it holds is in `tables.py`, what the events change in `job_events.py` and
`worker_events.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from titan import events as ev
from titan.state import job_events, schedule_events, worker_events
from titan.state.tables import IllegalEvent, Tables, require

__all__ = ["ClusterState", "IllegalEvent"]


class ClusterState(Tables):
    """Read by everybody, changed by `apply` alone."""

    def apply_record(self, lsn: int, time_us: int, events: Sequence[ev.Event]) -> None:
        """Applies the record of that number. Raises IllegalEvent."""
        self.begin_record(lsn, time_us)
        handlers = _APPLY
        event = None
        try:
            for event in events:
                handlers[type(event)](self, event)
        except KeyError as error:
            raise IllegalEvent(event, f"there is no {error}") from error

    def begin_record(self, lsn: int, time_us: int) -> None:
        """What follows by `apply` belongs to the record of that number and time."""
        if lsn != self.lsn + 1:
            raise IllegalEvent(None, f"record {lsn} does not follow {self.lsn}")
        if time_us < self.time_us:
            raise IllegalEvent(None, f"record {lsn} is older than the one before")
        self.lsn = lsn
        self.time_us = time_us

    def apply(self, event: ev.Event) -> None:
        """Applies one event of the record begun last. Raises IllegalEvent."""
        try:
            _APPLY[type(event)](self, event)
        except KeyError as error:
            raise IllegalEvent(event, f"there is no {error}") from error

    def apply_submits(self, events: Sequence[ev.JobSubmitted]) -> None:
        """Applies these events, as `apply` does one after the other. Raises IllegalEvent."""
        job_events.jobs_submitted(self, events)


def _cluster_created(tables: Tables, event: ev.ClusterCreated) -> None:
    require(event, not tables.cluster_id, "the cluster exists")
    tables.cluster_id = event.cluster_id


def _manager_started(tables: Tables, event: ev.ManagerStarted) -> None:
    require(event, bool(tables.cluster_id), "there is no cluster")
    tables.epoch = event.epoch
    tables.version = event.version


_APPLY: Final[dict[type[ev.Event], Callable[[Any, Any], None]]] = {
    ev.ClusterCreated: _cluster_created,
    ev.ManagerStarted: _manager_started,
    ev.EnvironmentStored: job_events.environment_stored,
    ev.JobSubmitted: job_events.job_submitted,
    ev.RequestAccepted: job_events.request_accepted,
    ev.CancelRequested: job_events.cancel_requested,
    ev.TaskAssigned: job_events.task_assigned,
    ev.RecallRequested: job_events.recall_requested,
    ev.Recalled: job_events.recalled,
    ev.TaskStarted: job_events.task_started,
    ev.AttemptEnded: job_events.attempt_ended,
    ev.Adopted: job_events.adopted,
    ev.WorkerRegistered: worker_events.worker_registered,
    ev.WorkerHeartbeats: worker_events.worker_heartbeats,
    ev.WorkerHealthy: worker_events.worker_healthy,
    ev.WorkerUnhealthy: worker_events.worker_unhealthy,
    ev.WorkerLost: worker_events.worker_lost,
    ev.WorkerDraining: worker_events.worker_draining,
    ev.WorkerUndrained: worker_events.worker_undrained,
    ev.WorkerDeregistered: worker_events.worker_deregistered,
    ev.JobsForgotten: job_events.jobs_forgotten,
    ev.DelaysPassed: schedule_events.delays_passed,
    ev.DependencyFailed: schedule_events.dependency_failed,
    ev.DeadlinePassed: schedule_events.deadline_passed,
    ev.JobHeld: schedule_events.job_held,
    ev.JobReleased: schedule_events.job_released,
    ev.JobUpdated: schedule_events.job_updated,
    ev.JobSuspended: schedule_events.job_suspended,
    ev.JobResumed: schedule_events.job_resumed,
    ev.AttemptSuspended: schedule_events.attempt_suspended,
    ev.AttemptResumed: schedule_events.attempt_resumed,
    ev.Preempted: schedule_events.preempted,
    ev.Reserved: schedule_events.reserved,
    ev.ReservationLifted: schedule_events.reservation_lifted,
    ev.PolicySet: schedule_events.policy_set,
}
