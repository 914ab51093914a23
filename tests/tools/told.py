"""Runs of `make chaos` told by hand, for its judge."""

from __future__ import annotations

from typing import Any

from tools.chaos.evidence import Evidence, Execution
from tools.chaos.judge import judge

BOOT = 1_000_000.0
AFTER_OK = [{"job_id": 1, "condition": "OK", "index": -1}]


class Told:
    """A run by hand: workers w1 and w2, and by default no job. The clock shows `now`."""

    def __init__(self) -> None:
        self.evidence = Evidence(boot_time=BOOT)
        self.events: list[dict[str, Any]] = []
        self.evidence.events = self.events
        self.lsn = 0
        self.now = 100.0
        for number in (1, 2):
            self.log("WorkerRegistered", worker=number, name=f"w{number}")

    def log(self, what: str, /, *, same_record: bool = False, **fields: Any) -> None:
        self.lsn += 0 if same_record else 1
        self.events.append({"lsn": self.lsn, "time": BOOT + self.now, "event": what, **fields})

    def user(self, what: str, **fields: Any) -> None:
        self.evidence.users.append({"what": what, "time": BOOT + self.now, **fields})

    def sent(self, job_id: int, kind: str = "short", tasks: int = 1, retries: int = 0) -> None:
        told = {"kind": kind, "tasks": tasks, "retries": retries}
        self.user("submit", request_id=f"r{job_id}", jobs=[told])

    def accepted(self, job_id: int) -> None:
        self.user("accepted", request_id=f"r{job_id}", job_ids=[job_id])

    def submitted(self, job_id: int, tasks: int = 1, after: Any = ()) -> None:
        array = [[0, tasks, 1]] if tasks > 1 else []
        scheduling = {"after": after} if after else {}
        self.log("JobSubmitted", job_id=job_id, array=array, scheduling=scheduling)
        self.log(
            "RequestAccepted",
            same_record=True,
            request_id=f"r{job_id}",
            first_job_id=job_id,
            jobs=1,
        )

    def job(self, job_id: int, kind: str = "short", tasks: int = 1, **options: Any) -> None:
        """Sent, accepted and in the log."""
        self.sent(job_id, kind, tasks, options.pop("retries", 0))
        self.submitted(job_id, tasks, **options)
        self.accepted(job_id)

    def assigned(self, job_id: int, attempt: int = 1, worker: int = 1, index: int = 0) -> None:
        self.log("TaskAssigned", job_id=job_id, index=index, attempt=attempt, worker=worker)

    def ended(
        self,
        job_id: int,
        attempt: int = 1,
        state: str = "COMPLETED",
        reason: str = "EXIT",
        exit_code: int = 0,
        task_state: str = "",
        index: int = 0,
    ) -> None:
        self.log(
            "AttemptEnded",
            job_id=job_id,
            index=index,
            attempt=attempt,
            state=state,
            reason=reason,
            exit_code=exit_code,
            task_state=task_state or state,
        )

    def lost(self, job_id: int, attempt: int = 1, *, worker: int | None = 1) -> None:
        """With its silent worker; None: by that one's own word."""
        self.ended(job_id, attempt, "LOST", "WORKER_LOST", -1, "PENDING")
        if worker is not None:
            self.log("WorkerLost", same_record=True, worker=worker)

    def ran(
        self,
        job_id: int,
        attempt: int = 1,
        worker: int = 1,
        seconds: float = 1.0,
        exit_code: int | None = 0,
        index: int = 0,
    ) -> Execution:
        """From now on, for so long; the clock goes on for whoever sets it."""
        run = Execution(
            key=(job_id, index, attempt),
            worker=f"w{worker}",
            pid=len(self.evidence.executions) + 1,
            start=self.now,
            last=self.now + seconds,
            exit_code=exit_code,
        )
        self.evidence.executions.append(run)
        return run

    def whole(self, job_id: int, kind: str = "short", **options: Any) -> None:
        """A job that was submitted, ran once and COMPLETED."""
        self.job(job_id, kind, **options)
        self.assigned(job_id)
        self.ran(job_id)
        self.now += 2
        self.ended(job_id)

    def kinds(self) -> list[str]:
        """Of what the judge finds."""
        return [each.kind for each in judge(self.evidence).violations]
