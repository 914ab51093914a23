"""The part of ManagerService that tells of all that ever ran."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from titan.manager.history_desk import HistoryDesk
from titan.rpc.history import check_question
from titan.rpc.v1 import history_pb2


class HistoryService:
    """One handler of ManagerService."""

    def __init__(self, desk: HistoryDesk) -> None:
        self._desk = desk

    async def GetHistory(  # noqa: N802  (gRPC's names)
        self, request: history_pb2.GetHistoryRequest
    ) -> AsyncIterator[bytes]:
        """The answer in pages, as they come from the process: nothing here reads them."""
        check_question(request)
        async with aclosing(self._desk.ask(request.SerializeToString())) as pages:
            async for page in pages:
                yield page
