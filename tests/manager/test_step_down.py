"""StepDown: what a manager does that is asked to let another lead."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from tests.manager.harness import running_manager
from tests.manager.leaderships import Lease
from titan.rpc.v1 import manager_pb2


def test_one_that_leads_is_asked_once_for_each_term() -> None:
    asked: list[str] = []

    async def scenario() -> None:
        lease = Lease(term=3)
        async with running_manager(
            leadership=lease, step_down=lambda: asked.append("step down")
        ) as manager:

            async def ask(term: int) -> int:
                request = manager_pb2.StepDownRequest(term=term)
                return (await manager.users.StepDown(request, metadata=manager.metadata)).term

            # A request that was repeated since its answer got lost, when another led already.
            assert await ask(2) == 2
            assert asked == []
            assert await ask(3) == 3
            assert asked == ["step down"]
            assert await ask(0) == 3
            assert asked == ["step down"] * 2

    asyncio.run(scenario())


def test_one_whose_log_is_in_files_says_that_nobody_else_could_lead() -> None:
    async def scenario() -> None:
        async with running_manager() as manager:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await manager.users.StepDown(
                    manager_pb2.StepDownRequest(), metadata=manager.metadata
                )
            assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "keeps its log in files of its own" in str(raised.value.details())

    asyncio.run(scenario())
