"""Scenes: a real worker and a manager in this process, and what they often do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from tests.worker.fake_manager import DEADLINE_SECONDS, FakeManager, wait_for
from tests.worker.worker_process import WorkerProcess
from titan.rpc import channel
from titan.rpc.v1 import worker_pb2

Scene = Callable[[FakeManager, WorkerProcess], Awaitable[None]]
Play = Callable[[Scene], None]


async def wait_exit(worker: WorkerProcess) -> int:
    """The agent's exit code."""
    process = worker.process
    assert process is not None
    await wait_for(lambda: process.poll() is not None, "the agent to end")
    assert process.returncode is not None
    return process.returncode


async def status_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """How a call that must fail failed."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was answered")


@asynccontextmanager
async def connection_to(worker_address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection that stands: a call that has to make it first fails when one of both sides
    pauses for two seconds meanwhile."""
    async with channel.open_aio_channel(worker_address) as connection:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await connection.channel_ready()
        yield connection


async def run_sleeper(manager: FakeManager, worker: WorkerProcess, job_id: int = 1) -> int:
    """A task that runs for a long time, as its agent and the manager know; its pid."""
    attempt = await manager.run("sh", "-c", "echo $$; exec sleep 600", job_id=job_id)
    await manager.wait_report(attempt, worker_pb2.REPORT_STARTED)
    output = worker.path / "output" / str(job_id) / "0" / "0.1.out"
    await wait_for(lambda: output.exists() and output.read_text().endswith("\n"), "its pid")
    return int(output.read_text())
