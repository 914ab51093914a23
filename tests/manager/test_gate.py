"""The way in and out by itself: what is waited for, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest

from tests.manager.harness import TOKEN, settle
from titan.errors import AccessDenied
from titan.manager.admission import Doors
from titan.manager.caller import Caller
from titan.manager.callers import TokenCallers
from titan.manager.entry import Entry
from titan.manager.gate import Gate
from titan.manager.leadership import ALONE
from titan.manager.shell import Shell
from titan.rpc import access
from titan.rpc.v1.manager_pb2 import WatchJobsRequest
from titan.tls.identity import Identity, Role


class Waits:
    """In place of a shell: a log that never gets durable, and what was waited for."""

    def __init__(self) -> None:
        self.lsn = 1
        self.waited_for: list[int] = []
        self.leadership = ALONE

    def check_leads(self) -> None:
        """It does."""

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
        gate = Gate(cast(Shell, shell), Entry(TokenCallers(TOKEN)))
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


class Fleeting:
    """Lets bob in so many times."""

    are_open = False

    def __init__(self, times: int) -> None:
        self._times = times

    def identify(self, context: object) -> Caller:
        del context
        self._times -= 1
        if self._times < 0:
            raise AccessDenied("the certificate of user bob was revoked")
        return Caller(Identity("lab", Role.USER, "bob"))


class Refusable(Call):
    """One that notes how it was refused."""

    code: grpc.StatusCode | None = None

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailers: object) -> None:
        del trailers


class Durable(Waits):
    """A log that always is."""

    async def wait_durable(self, lsn: int) -> None:
        del lsn


def test_a_stream_says_nothing_more_to_who_may_not_call_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(request: object) -> AsyncIterator[int]:
        del request
        for each in range(10):
            yield each

    async def scenario() -> None:
        # Once to begin, and once for each answer.
        gate = Gate(cast(Shell, Durable()), Entry(Fleeting(3)))
        context = Refusable()
        handle = gate.stream("WatchJobs", handler)
        assert gate.lets_in("WatchJobs", cast(Any, context))
        assert [each async for each in handle(WatchJobsRequest(), cast(Any, context))] == [0, 1]
        assert context.code is grpc.StatusCode.UNAUTHENTICATED
        assert context.details == "the certificate of user bob was revoked"

    asyncio.run(scenario())
    assert caplog.messages == [
        'denied who="nobody known" what=WatchJobs from=one '
        'why="the certificate of user bob was revoked"'
    ]
