"""The way in and out by itself: what is waited for, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.manager.harness import TOKEN, settle
from titan.manager.admission import Doors
from titan.manager.callers import TokenCallers
from titan.manager.gate import Gate
from titan.manager.shell import Shell
from titan.rpc import access


class Waits:
    """In place of a shell: a log that never gets durable, and what was waited for."""

    def __init__(self) -> None:
        self.lsn = 1
        self.waited_for: list[int] = []

    async def wait_durable(self, lsn: int) -> None:
        self.waited_for.append(lsn)
        await asyncio.Event().wait()


class Call:
    """A call that sends a message."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return access.metadata(TOKEN)

    def peer(self) -> str:
        return "one"

    async def read(self) -> bytes:
        return b"message"


def test_what_is_waited_for_never_falls_though_a_caller_goes_meanwhile() -> None:
    """A journal wakes those that wait in the order in which they came."""

    async def scenario() -> None:
        shell = Waits()
        gate = Gate(cast(Shell, shell), TokenCallers(TOKEN))
        handle = gate.admitted("SubmitJob", lambda message: message, bytes, Doors().submits)
        call = asyncio.ensure_future(handle(cast(Any, None), cast(Any, Call())))
        await settle()
        assert shell.waited_for == [1]
        call.cancel()

        async def decide_another() -> None:
            shell.lsn = 2
            await shell.wait_durable(2)

        # It comes when the first one has gone, before his place waits for what he wrote.
        other = asyncio.create_task(decide_another())
        with pytest.raises(asyncio.CancelledError):
            await call
        await settle()
        assert shell.waited_for == [1, 2, 2]
        other.cancel()

    asyncio.run(scenario())
