"""A worker of the simulation: takes what the kernel sends it, and tells starts and ends.

It runs nothing, loses nothing and is never late.
"""

from __future__ import annotations

from titan.manager.kernel import Kernel
from titan.manager.kernel.commands import Registered, RegisterWorker, Report, ReportTasks
from titan.manager.kernel.outbox import key_of
from titan.model import AttemptKey, Held, Reason, ReportKind, Resources, State


class VirtualWorker:
    """One worker, registered for good."""

    def __init__(self, kernel: Kernel, place: int, cpus_milli: int, now_us: int) -> None:
        self._kernel = kernel
        self._session = place.to_bytes(16, "big")
        self._reported = 0
        answer: Registered = kernel.decide(
            RegisterWorker(
                worker_id=b"",
                instance=self._session,
                boot_id="",
                name=f"w{place}",
                # Called, not fetched from: it is fetched from without an address.
                address=f"w{place}:1",
                token="",
                capacity=Resources(cpus_milli),
                labels=(),
                version="",
                output_directory=b"/",
                cluster_id=b"",
                held=Held((), 0, 0),
                acknowledged_seq=0,
                new_worker_id=self._session,
                session=self._session,
            ),
            now_us,
            0,
        )
        self.number = answer.worker
        self._outbox = kernel.sessions[self._session]

    def receive(self, now_us: int) -> list[AttemptKey]:
        """Takes all that the kernel has for it; it starts at once, and that is told, too."""
        kernel = self._kernel
        started: list[AttemptKey] = []
        while (batch := self._outbox.next_batch(kernel.state)) is not None:
            assert not batch.stops, "nobody cancels here"
            assert not any(each.ahead for each in batch.starts), "nothing is sent ahead here"
            started += [key_of(kernel.state, each) for each in batch.starts]
            self._outbox.acknowledged(batch)
        first = self._reported + 1
        self._report(
            [
                Report(seq, key, ReportKind.STARTED, start_us=now_us)
                for seq, key in enumerate(started, first)
            ],
            now_us,
        )
        return started

    def end(self, runs: list[tuple[AttemptKey, int]], now_us: int) -> None:
        """These have ended now; each with the moment at which it started."""
        first = self._reported + 1
        self._report(
            [
                Report(
                    seq,
                    key,
                    ReportKind.ENDED,
                    State.COMPLETED,
                    Reason.EXIT,
                    0,
                    start_us=start_us,
                    end_us=now_us,
                )
                for seq, (key, start_us) in enumerate(runs, first)
            ],
            now_us,
        )

    def _report(self, reports: list[Report], now_us: int) -> None:
        if not reports:
            return
        first, self._reported = self._reported + 1, self._reported + len(reports)
        command = ReportTasks(
            session=self._session,
            first_seq=first,
            last_seq=self._reported,
            reports=tuple(reports),
        )
        self._kernel.decide(command, now_us, 0)
