"""Requests are read when their callers are known, few at once, and refused if they are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from tests.manager.harness import running_manager, until
from titan.rpc import reading
from titan.rpc.channel import new_aio_server, open_aio_channel
from titan.rpc.reading import READ_AT_ONCE_OF_ANYBODY, ReadingHandlers
from titan.rpc.v1 import manager_pb2

Request = manager_pb2.GetStatsRequest
METHOD = "/test.Service/Method"


class FakeContext:
    """A call whose message comes when the test says so."""

    def __init__(self) -> None:
        self.message: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_read = False
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def peer(self) -> str:
        """As gRPC's."""
        return f"ipv4:127.0.0.1:{id(self)}"

    async def read(self) -> Any:
        """As gRPC's."""
        self.is_read = True
        return await self.message

    def set_code(self, code: grpc.StatusCode) -> None:
        """As gRPC's."""
        self.code = code

    def set_details(self, details: str) -> None:
        """As gRPC's."""
        self.details = details

    def set_trailing_metadata(self, _: Any) -> None:
        """As gRPC's."""


class Details:
    """What a server knows of a call before it is read."""

    method = METHOD
    invocation_metadata = ()


async def answer(_request: Any, _context: Any) -> bytes:
    return b"answer"


def handlers(at_once: int = 1, *, lets_in: bool = True) -> Any:
    """The one method, as the server has it."""
    made = grpc.method_handlers_generic_handler(
        "test.Service",
        {"Method": grpc.unary_unary_rpc_method_handler(cast(Any, answer), Request.FromString)},
    )
    guarded = ReadingHandlers(made, guard=lambda *_: lets_in, at_once=at_once)
    return guarded.service(cast(Any, Details())).stream_unary


def test_a_call_that_is_not_let_in_is_not_read() -> None:
    async def scenario() -> None:
        context = FakeContext()
        assert await handlers(lets_in=False)(None, context) is None
        assert not context.is_read

    asyncio.run(scenario())


def test_so_many_are_read_at_once_and_the_next_one_when_one_of_them_has_come() -> None:
    async def scenario() -> None:
        method = handlers(2)
        contexts = [FakeContext() for _ in range(3)]
        calls = [asyncio.create_task(method(None, each)) for each in contexts]
        await until(lambda: contexts[1].is_read)
        assert [each.is_read for each in contexts] == [True, True, False]
        contexts[0].message.set_result(b"")
        await until(lambda: contexts[2].is_read)
        for each in contexts[1:]:
            each.message.set_result(b"")
        assert await asyncio.gather(*calls) == [b"answer"] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("message", "sentence"),
    [(b"\xff\xff", "cannot be read"), (grpc.aio.EOF, "carries no request"), (None, "within")],
    ids=["garbage", "nothing", "never"],
)
def test_what_is_no_request_is_refused_and_takes_nobody_s_place(
    message: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_SECONDS", 0.05)

    async def scenario() -> None:
        method = handlers(1)
        context = FakeContext()
        if message is not None:
            context.message.set_result(message)
        assert await method(None, context) is None
        assert context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert sentence in context.details
        after = FakeContext()
        after.message.set_result(b"")
        assert await method(None, after) == b"answer"

    asyncio.run(scenario())


def test_who_waits_for_a_place_for_too_long_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        method = handlers(1)
        slow, late = FakeContext(), FakeContext()
        first = asyncio.create_task(method(None, slow))
        await until(lambda: slow.is_read)
        monkeypatch.setattr(reading, "READ_SECONDS", 0.05)
        await method(None, late)
        assert late.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not late.is_read
        slow.message.set_result(b"")
        assert await first == b"answer"

    asyncio.run(scenario())


def test_a_call_without_the_token_is_answered_though_its_message_never_comes() -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def scenario() -> None:
        async with running_manager() as manager, open_aio_channel(manager.address) as channel:
            await channel.channel_ready()
            for path in ("ManagerService/GetStats", "WorkerService/Heartbeat"):
                method: Any = channel.stream_unary(f"/titan.v1.{path}")
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await method(never())
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(scenario())


def test_anybody_s_calls_are_read_few_at_once_on_any_server() -> None:
    async def scenario() -> None:
        server = new_aio_server()
        made = grpc.method_handlers_generic_handler(
            "test.Service",
            {"Method": grpc.unary_unary_rpc_method_handler(cast(Any, answer), Request.FromString)},
        )
        server.add_generic_rpc_handlers((made,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        begun = asyncio.Semaphore(0)

        async def slow() -> AsyncIterator[bytes]:
            begun.release()
            await asyncio.Event().wait()
            yield b""

        async with open_aio_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.stream_unary(METHOD)
            await channel.channel_ready()
            assert await channel.unary_unary(METHOD)(cast(Any, b"")) == b"answer"
            calls = [method(slow()) for _ in range(READ_AT_ONCE_OF_ANYBODY)]
            for _ in calls:
                await begun.acquire()
            calls.append(channel.unary_unary(METHOD)(cast(Any, b""), timeout=0.3))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await calls[-1]
            assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            for each in calls:
                each.cancel()
        await server.stop(0)

    asyncio.run(scenario())


def test_anybody_s_streams_are_bounded_and_make_room_when_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "STREAMS_OF_ANYBODY_MAX", 2)
    watch = "/grpc.health.v1.Health/Watch"

    async def scenario() -> None:
        async with running_manager() as manager, open_aio_channel(manager.address) as channel:
            await channel.channel_ready()
            watches: list[Any] = [channel.unary_stream(watch)(cast(Any, b"")) for _ in range(2)]
            for each in watches:
                assert await each.read() == b"\x08\x01"
            third: Any = channel.unary_stream(watch)(cast(Any, b""))
            assert await third.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            watches[0].cancel()

            async def is_let_in() -> bool:
                later: Any = channel.unary_stream(watch)(cast(Any, b""))
                return bool(await later.read() == b"\x08\x01")

            async with asyncio.timeout(60):
                while True:
                    with suppress(grpc.aio.AioRpcError):
                        if await is_let_in():
                            break

    asyncio.run(scenario())
