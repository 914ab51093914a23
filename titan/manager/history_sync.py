"""`--history-sync`: what was submitted is acknowledged when its rows are in the database, too."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from titan.errors import Busy, ManagerUnreachable
from titan.manager.history_desk import HistoryDesk
from titan.rpc.v1 import manager_pb2

# A client takes the manager for dead later than that (`titan.client.retry.ATTEMPT_SECONDS`), and
# comes back with the same request id.
DEADLINE_SECONDS: Final = 5.0
# Each is an answer that is ready; those that come while the database is away are sent away, too.
WAITING_MAX: Final = 20_000


class HistorySync:
    """Holds answers back."""

    def __init__(self, desk: HistoryDesk, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._desk = desk
        self._deadline_seconds = deadline_seconds
        self._waiting = 0

    async def wait(self, reply: Any) -> None:
        """Returns when the answer, all of which is durable, may leave.

        Raises ManagerUnreachable after the deadline, Busy; then the same request is to be repeated,
        and its answer waits for the same rows.
        """
        if not _has_submitted(reply):
            return
        if self._waiting >= WAITING_MAX:
            raise Busy(
                "the job was accepted and will run, but too many wait for the history's database: "
                "repeat with the same request id", maybe_accepted=True,
            )  # fmt: skip
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._desk.wait_committed(reply.lsn)
        except TimeoutError as error:
            raise ManagerUnreachable(
                "the job was accepted and will run, but its row is not in the history's database "
                f"yet, after {self._deadline_seconds:g} s: the manager's log may say why; repeat "
                "with the same request id"
            ) from error
        finally:
            self._waiting -= 1


def _has_submitted(reply: Any) -> bool:
    if isinstance(reply, manager_pb2.RequeueJobResponse):
        return bool(reply.submitted_again)
    return isinstance(reply, manager_pb2.SubmitJobResponse)
