"""A state fed with events by hand; its invariants are checked after every record."""

from __future__ import annotations

from typing import Any

from titan import events as ev
from titan.model import IndexRange, Reason, State
from titan.state import ClusterState, check_invariants

T0 = 1_800_000_000_000_000
ENVIRONMENT = b"e" * 16
# The states of a task, as the tables say them.
P, S, R, C, F, X = (State(number) for number in range(1, 7))


class Story:
    """Events in short words; each call is a record, a second later than the one before."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.apply(
            ev.ClusterCreated(b"c" * 16),
            ev.ManagerStarted(7, "0.1.0"),
            ev.EnvironmentStored(ENVIRONMENT, (), ()),
        )

    def apply(self, *events: ev.Event, time_us: int | None = None) -> None:
        """One record."""
        lsn = self.state.lsn + 1
        self.state.apply_record(lsn, T0 + lsn * 1_000_000 if time_us is None else time_us, events)
        check_invariants(self.state)

    def job(
        self,
        *array: tuple[int, ...],
        cpus_milli: int = 1000,
        user: str = "ada",
        priority: int = 0,
        memory_bytes: int = 0,
        named: tuple[tuple[str, int], ...] = (),
        **others: Any,
    ) -> int:
        """Submits one and returns its id."""
        job_id = self.state.next_job_id
        self.apply(
            ev.JobSubmitted(
                job_id, user, "true", (b"true",), b"/", ENVIRONMENT, cpus_milli, memory_bytes,
                named, priority, tuple(IndexRange(*each) for each in array), **others,
            )
        )  # fmt: skip
        return job_id

    def worker(self, cpus_milli: int = 4000, number: int = 0, **fields: Any) -> int:
        """Registers one and returns its number."""
        number = number or self.state.next_worker
        event = ev.WorkerRegistered(
            number, b"%016d" % number, b"instance", "boot", f"w{number}", "w:1", cpus_milli,
            1 << 34, (("gpu", 4),), (), "0.1.0", b"/out",
        )  # fmt: skip
        self.apply(event._replace(**fields))
        return number

    def assign(
        self, job_id: int, index: int = 0, *, attempt: int = 1, worker: int = 1, ahead: bool = False
    ) -> None:
        """An attempt goes to a worker."""
        self.apply(ev.TaskAssigned(job_id, index, attempt, worker, ahead, 1, 1, 2))

    def start(self, job_id: int, index: int = 0, attempt: int = 1, start_us: int = T0) -> None:
        """It runs."""
        self.apply(ev.TaskStarted(job_id, index, attempt, start_us))

    def end(
        self,
        job_id: int,
        index: int = 0,
        state: State = State.COMPLETED,
        *,
        attempt: int = 1,
        becomes: State | None = None,
        start_us: int = T0,
        end_us: int = T0 + 1000,
        exit_code: int = 0,
        detail: str = "",
        not_before_us: int = 0,
        charge: int = ev.CHARGE_NOTHING,
    ) -> None:
        """It ends."""
        self.apply(
            ev.AttemptEnded(
                job_id, index, attempt, state, Reason.EXIT, exit_code, -1, start_us, end_us,
                0, 0, 0, detail, becomes or state, not_before_us, charge,
            )
        )  # fmt: skip

    def lose(self, job_id: int, index: int = 0, attempt: int = 1, start_us: int = 0) -> None:
        """It goes down with its worker; its task waits again."""
        self.end(
            job_id, index, State.LOST, attempt=attempt, becomes=State.PENDING, start_us=start_us
        )

    def job_state(self, job_id: int) -> State:
        """The state of a job."""
        return self.state.get_job(job_id).state

    def task_state(self, job_id: int, index: int = 0) -> State | None:
        """The state of a task."""
        return self.state.get_job(job_id).find_task_state(index)
