"""The workers as users see them: the state, and what only the memory knows of them."""

from __future__ import annotations

import math

from titan.manager.shell import Shell
from titan.queries import views
from titan.rpc.v1 import manager_pb2
from titan.state.worker import Worker


class Roster:
    """Statistics of nodes and the exact time of each last word; neither is state or log."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._statistics: dict[int, manager_pb2.NodeStatistics] = {}
        self._heard_us: dict[int, int] = {}

    def note(self, session: bytes, statistics: manager_pb2.NodeStatistics) -> None:
        """A worker was heard."""
        outbox = self._shell.kernel.sessions.get(session)
        if outbox is not None:
            if not all(map(math.isfinite, (statistics.cpu_percent, statistics.load_1m))):
                # JSON has no NaN, and silence would cost the worker its tasks: it tells nothing.
                statistics = manager_pb2.NodeStatistics()
            self._statistics[outbox.worker] = statistics
            self._heard_us[outbox.worker] = self._shell.now_us()

    def list(self) -> list[manager_pb2.Worker]:
        """All workers that have not taken their leave."""
        return [self._message(each) for each in views.listed_workers(self._shell.kernel.state)]

    def message(self, number: int) -> manager_pb2.Worker:
        """One of them. Raises KeyError."""
        return self._message(self._shell.kernel.state.get_worker(number))

    def _message(self, worker: Worker) -> manager_pb2.Worker:
        heard_us = max(self._heard_us.get(worker.number, 0), worker.last_heard_us)
        message = views.worker_message(
            worker,
            last_heard_us=heard_us,
            reason=views.reason_text(
                worker,
                self._shell.now_us(),
                heard_us,
                has_called_in=worker.number in self._shell.kernel.outboxes,
            ),
        )
        if worker.number in self._statistics:
            message.statistics.CopyFrom(self._statistics[worker.number])
        return message
