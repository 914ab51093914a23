"""(b) Single durable submits a second by many callers at once, against empty calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc.aio

from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2_grpc
from tools.bench.calls import submit_request
from tools.bench.processes import Cluster, cluster, empty_server
from tools.bench.result import Result, ratios
from tools.bench.server import EMPTY_METHOD, EMPTY_SERVICE

CALLERS: Final = 50
CALLS: Final = 10_000
CALLS_QUICK: Final = 200

Call = Callable[[int], Awaitable[object]]
Submit = Callable[[int], Awaitable[int]]


def measure(directory: Path, *, rounds: int, quick: bool) -> list[Result]:
    """No workers: nothing but accepting is measured. One process makes all the calls."""
    calls = CALLS_QUICK if quick else CALLS
    with ExitStack() as stack:
        here = stack.enter_context(cluster(directory, cpus=0))
        empty = stack.enter_context(empty_server(directory))
        before = here.cpu_seconds()
        values, floors = asyncio.run(_measure(here, empty, rounds, calls))
        spent = here.cpu_seconds()["manager"] - before["manager"]
    return [
        Result(
            part="b",
            what="single submits",
            unit="calls/s",
            values=tuple(values),
            floor=f"empty unary calls to a server of its own, as the submits by {CALLERS} callers",
            floors=tuple(floors),
            ratios=ratios(values, floors),
            must="≥ 0.6",
            # The warm-up is a tenth of a round.
            details={"manager µs/submit": spent * 1e6 / ((rounds + 0.1) * calls)},
        )
    ]


async def _measure(
    here: Cluster, empty: str, rounds: int, calls: int
) -> tuple[list[float], list[float]]:
    async with open_aio_channel(here.address) as channel, open_aio_channel(empty) as empty_channel:
        submit = submitter(channel, here, calls)
        call = _empty_caller(empty_channel)
        await calls_per_second(submit, calls // 10)
        await calls_per_second(call, calls // 10)
        floors = [await calls_per_second(call, calls)]
        values = []
        for _ in range(rounds):
            values.append(await calls_per_second(submit, calls))
            floors.append(await calls_per_second(call, calls))
        return values, floors


def submitter(
    channel: grpc.aio.Channel, here: Cluster, calls: int, *, cpus_milli: int = 1000
) -> Submit:
    """What submits a job, given a number below `calls`, and returns its id."""
    stub: manager_pb2_grpc.ManagerServiceAsyncStub = manager_pb2_grpc.ManagerServiceStub(channel)
    # Made before the clock starts: what the caller needs for that is the same in any system.
    requests = [
        submit_request(b"/bin/true", request_id=b"", cpus_milli=cpus_milli) for _ in range(calls)
    ]

    async def submit(number: int) -> int:
        request = requests[number]
        request.request_id = os.urandom(16)
        return (await stub.SubmitJob(request, metadata=here.metadata)).job_ids[0]

    return submit


def _empty_caller(channel: grpc.aio.Channel) -> Call:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        f"/{EMPTY_SERVICE}/{EMPTY_METHOD}"
    )

    async def call(_number: int) -> None:
        await method(b"")

    return call


async def calls_per_second(call: Call, calls: int) -> float:
    """Calls a second; each of the callers makes the next one when its last is answered."""
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - start)
