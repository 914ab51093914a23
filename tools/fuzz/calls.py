"""Calls of every RPC: with any message, with spoilt ones, with bytes that are none."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tools.fuzz import seeds
from tools.fuzz.messages import Maker
from tools.fuzz.target import Target, open_channel

CALL_SECONDS: Final = 5.0
# A stream that follows has no end of its own.
STREAM_SECONDS: Final = 0.5
AT_ONCE: Final = 16
# What says that a server did not expect what it got: it answers, but not because it knew.
UNEXPECTED: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
# What a client's own gRPC says where it went on sending to a call that was answered.
_OUR_OWN: Final = "Internal error from Core"
MESSAGE_BYTES_MAX: Final = 16 << 20


def _wrong_bearers(token: str) -> tuple[str, ...]:
    """What is no user's token, or not quite."""
    return (
        "Bearer", "Bearer  ", f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}",
        "Bearer " + "." * 5_000, f"Bearer {token} {token}",
    )  # fmt: skip


class Caller:
    """Calls one server, and counts what it answers."""

    def __init__(self, target: Target, rng: random.Random, jobs: list[int]) -> None:
        """`jobs`: those of the fuzzer, which its callers know of one another."""
        self.target = target
        self.answers: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._rng = rng
        self._maker = Maker(rng)
        self._jobs = jobs
        self._session = b""
        self.methods: list[MethodDescriptor] = [
            method for service in seeds.SERVICES[target.name] for method in service.methods
        ]

    async def every_rpc(self, rounds: int) -> None:
        """Each of the methods so many times with what is drawn for it."""
        calls = [method for method in self.methods for _ in range(rounds)]
        self._rng.shuffle(calls)
        async with open_channel(self.target) as channel:
            # Without a session all that a worker may say is said in vain.
            for method in self.methods:
                if method.name == "RegisterWorker":
                    await self._one(channel, method, message=seeds.register())
            await self._all(calls, lambda method: self._one(channel, method))

    async def wrong_metadata(self, count: int) -> None:
        """Calls without token, with another, with headers that are too large or make no sense."""
        async with open_channel(self.target) as channel:
            await self._all(
                self._rng.choices(self.methods, k=count),
                lambda method: self._call(channel, method, b"", self._metadata()),
            )

    async def opened_and_cancelled(self, count: int) -> None:
        """Calls that are given up while they are on their way, or have not sent all."""
        async with open_channel(self.target) as channel:
            await self._all(
                self._rng.choices(self.methods, k=count),
                lambda method: self._cancelled(channel, method),
            )

    async def _all(self, methods: list[MethodDescriptor], call: Any) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def within(method: MethodDescriptor) -> None:
            async with room:
                await call(method)

        async with asyncio.TaskGroup() as group:
            for method in methods:
                group.create_task(within(method))

    async def _one(
        self, channel: grpc.aio.Channel, method: MethodDescriptor, message: Any = None
    ) -> None:
        """With that message, or one that is drawn."""
        is_drawn = message is None
        if is_drawn:
            message = self._draw(method)
        data = message.SerializeToString()
        if is_drawn and self._rng.random() < 0.2:
            data = self._harmless(method, self._maker.damaged(data))
        if len(data) > MESSAGE_BYTES_MAX - 1024 and self._rng.random() < 0.9:
            data = data[:1_000_000]
        answer = await self._call(channel, method, data, self.target.metadata)
        if answer is not None:
            self._learn(method, answer)

    def _draw(self, method: MethodDescriptor) -> Any:
        session = self._session
        if self._rng.random() < 0.5:
            message = self._maker.message(method.input_type)
            if "session" in method.input_type.fields_by_name and self._rng.random() < 0.5:
                message.session = session
        else:
            message = seeds.sensible(method, self._jobs, session)
            if self._rng.random() < 0.85:
                message = self._maker.mutated(message)
        seeds.tame(message, self._jobs)
        return message

    def _harmless(self, method: MethodDescriptor, data: bytes) -> bytes:
        """What can still be read is not to say what it must not say."""
        message = GetMessageClass(method.input_type)()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return data
        seeds.tame(message, self._jobs)
        return message.SerializeToString()

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        rng = self._rng
        token = self.target.token
        return rng.choice(
            (
                (),
                (("titan-access-token", ""),),
                (("titan-access-token", token[:-1] + "x"),),
                (("titan-access-token", token), ("titan-access-token", "x")),
                (("titan-access-token-bin", rng.randbytes(50)),),
                (("titan-access-token", token), ("x-much", "y" * 7_000)),
                (("titan-access-token", token), ("x-more", "y" * 60_000)),
                tuple((f"x-{number}", "y") for number in range(100)),
                (("grpc-timeout", "99999999H"),),
                (("grpc-encoding", "gzip"), ("titan-access-token", token)),
                *((("authorization", text),) for text in _wrong_bearers(token)),
            )
        )

    async def _call(
        self, channel: grpc.aio.Channel, method: MethodDescriptor, data: bytes, metadata: Any
    ) -> bytes | None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        last: bytes | None = None
        # Without serializers they take and give bytes, which gRPC's types do not say.
        calls: Any = channel
        code = grpc.StatusCode.OK
        try:
            if method.client_streaming:
                last = await calls.stream_unary(path)(
                    self._several(data), metadata=metadata, timeout=CALL_SECONDS
                )
            elif method.server_streaming:
                stream: Any = calls.unary_stream(path)(
                    data, metadata=metadata, timeout=STREAM_SECONDS
                )
                async for each in stream:
                    last = each
            else:
                last = await calls.unary_unary(path)(data, metadata=metadata, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code in UNEXPECTED and error.details() != _OUR_OWN:
                self.unexpected.append(
                    f"{path}: {code.name} {error.details()!r} for {data[:200]!r} ({len(data)})"
                )
        except (grpc.aio.UsageError, ValueError, TypeError):
            # Our own gRPC does not send such headers.
            return None
        self.answers[f"{method.name} {code.name}"] += 1
        return last

    async def _several(self, data: bytes) -> AsyncIterator[bytes]:
        for _ in range(self._rng.randint(1, 4)):
            yield data

    async def _cancelled(self, channel: grpc.aio.Channel, method: MethodDescriptor) -> None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        metadata = self.target.metadata
        data = seeds.sensible(method, self._jobs, self._session)
        seeds.tame(data, self._jobs)
        message = data.SerializeToString()
        call: Any
        calls: Any = channel
        if self._rng.random() < 0.3:
            call = channel.stream_stream(path)(metadata=metadata, timeout=CALL_SECONDS)
        elif method.server_streaming:
            call = channel.unary_stream(path)(message, metadata=metadata, timeout=CALL_SECONDS)
        elif method.client_streaming:
            call = calls.stream_unary(path)(
                self._several(message), metadata=metadata, timeout=CALL_SECONDS
            )
        else:
            call = channel.unary_unary(path)(message, metadata=metadata, timeout=CALL_SECONDS)
        # Some before they were sent, some while they are read, some when they are over.
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.01, 0.05)))
        call.cancel()
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await call.code()
        self.answers[f"{method.name} cancelled"] += 1

    def _learn(self, method: MethodDescriptor, answer: bytes) -> None:
        response: Any = GetMessageClass(method.output_type).FromString(answer)
        for field, value in response.ListFields():
            if field.message_type is None and not field.is_repeated and field.name != "lsn":
                self._maker.learn(value)
        if method.name == "SubmitJob":
            self._jobs += response.job_ids[:3]
            self._maker.learn(response.lsn)
        elif method.name == "RegisterWorker":
            self._session = response.session
