"""Brings the outboxes' batches to the workers.

One call is under way for each worker; what gathers meanwhile goes in the next. Workers that
cannot be called fetch theirs: `pull.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import Final

import grpc
import grpc.aio

from titan.errors import NotLeader
from titan.logs import LogLine
from titan.manager.batches import start_request_of, stop_request_of
from titan.manager.kernel.outbox import Batch, Outbox
from titan.manager.pull import PullLine
from titan.manager.secret_desk import SecretDesk
from titan.manager.shell import Shell
from titan.rpc import access
from titan.rpc.channel import open_aio_channel, split_address
from titan.rpc.v1 import task_pb2_grpc
from titan.tls.identity import worker_host
from titan.tls.pem import PemFiles

_log = logging.getLogger("titan.dispatch")

CALL_SECONDS: Final = 10.0
# A line without work; each of thousands of idle workers has one.
LOOK_UP_SECONDS: Final = 60.0
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 2.0
# An agent that is being started again listens before it registers.
CONNECT_SECONDS: Final = 2.0
CONNECT_TRIES: Final = 2
CONNECT_PAUSE_SECONDS: Final = 0.2


class Dispatcher:
    """A line to each worker that has called in; lines end with their sessions."""

    def __init__(self, files: PemFiles | None = None) -> None:
        """`files`: the certificates of the manager, by which it proves itself to workers."""
        self.files = files
        self._shell: Shell | None = None
        self._secrets: SecretDesk | None = None
        self._lines: dict[bytes, _Line] = {}
        self._pulls: dict[bytes, PullLine] = {}

    def bind(self, shell: Shell, secrets: SecretDesk) -> None:
        """Whose outboxes they are, and secrets; before the first `wake`."""
        self._shell = shell
        self._secrets = secrets

    def wake(self, outbox: Outbox) -> None:
        """The outbox has something to send."""
        if outbox.is_fetched:
            self.pull_line(outbox).wake()
        else:
            self._line(outbox).wake()

    def greet(self, outbox: Outbox) -> None:
        """A session has begun: finds out whether its worker can be called."""
        if not outbox.is_fetched:
            self._line(outbox)

    def find_fault(self, outbox: Outbox) -> str:
        """Why the worker cannot be called at its address; empty: it can, or nobody has tried."""
        line = self._lines.get(outbox.session)
        return line.fault if line else ""

    def pull_line(self, outbox: Outbox) -> PullLine:
        """What the worker of that session fetches."""
        assert self._shell is not None
        assert self._secrets is not None
        line = self._pulls.get(outbox.session)
        if line is None:
            # Sessions end rarely: those that did are looked for when one begins.
            self._pulls = {key: each for key, each in self._pulls.items() if each.is_current}
            line = self._pulls[outbox.session] = PullLine(outbox, self._shell, self._secrets)
        return line

    def release_polls(self) -> None:
        """The manager stops: nobody waits for news from it any more."""
        for line in self._pulls.values():
            line.release()

    def _line(self, outbox: Outbox) -> _Line:
        assert self._shell is not None
        assert self._secrets is not None
        line = self._lines.get(outbox.session)
        if line is None:
            line = _Line(outbox, self._shell, self._secrets, self.files)
            self._lines[outbox.session] = line
            line.task.add_done_callback(lambda _: self._lines.pop(outbox.session, None))
        return line

    async def close(self) -> None:
        """Ends all lines."""
        tasks = [line.task for line in self._lines.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """The calls of one session, in order."""

    def __init__(
        self, outbox: Outbox, shell: Shell, secrets: SecretDesk, files: PemFiles | None
    ) -> None:
        self._outbox = outbox
        self._shell = shell
        self._secrets = secrets
        self._files = files
        self._woken = asyncio.Event()
        self._backoff_seconds = 0.0
        self.fault = ""
        """Why the worker cannot be called; it is told in the answer to a heartbeat."""
        self.task = asyncio.create_task(self._run())

    def wake(self) -> None:
        self._woken.set()

    @property
    def _is_current(self) -> bool:
        return self._shell.kernel.sessions.get(self._outbox.session) is self._outbox

    async def _run(self) -> None:
        await self._try_to_connect()
        async with open_worker_channel(self._shell, self._outbox, self._files) as channel:
            stub = task_pb2_grpc.TaskServiceStub(channel)
            while self._is_current:
                batch = self._outbox.next_batch(self._shell.kernel.state)
                if batch is None:
                    self._woken.clear()
                    # Looks up now and then so that it ends with its session.
                    await _wait(self._woken, LOOK_UP_SECONDS)
                elif not await self._send(stub, batch):
                    await asyncio.sleep(self._backoff_seconds * random.uniform(0.5, 1.0))

    async def _try_to_connect(self) -> None:
        """Notes whether the address can be connected to. One that is away for a moment can."""
        why = ""
        for tries in range(CONNECT_TRIES):
            if tries:
                await asyncio.sleep(CONNECT_PAUSE_SECONDS)
            why = await _connect_fault(self._outbox.address)
            if not why and self._files is not None:
                why = await self._handshake_fault()
            if not why:
                break
        if why and not self.fault:
            _log.warning(
                LogLine(
                    "a worker cannot be called and is told to fetch its tasks",
                    worker=self._shell.kernel.state.get_worker(self._outbox.worker).name,
                    address=self._outbox.address,
                    detail=why,
                )
            )
        self.fault = why

    async def _handshake_fault(self) -> str:
        """Why whoever listens there is not the worker; empty: he is."""
        try:
            async with (
                asyncio.timeout(CONNECT_SECONDS),
                open_worker_channel(self._shell, self._outbox, self._files) as channel,
            ):
                await channel.channel_ready()
        except TimeoutError:
            return f"nobody there proves within {CONNECT_SECONDS:g} s to be that worker"
        return ""

    async def _send(self, stub: task_pb2_grpc.TaskServiceAsyncStub, batch: Batch) -> bool:
        state = self._shell.kernel.state
        metadata = access.metadata(self._outbox.token)
        try:
            if batch.stops:
                stop_request = stop_request_of(self._outbox.session, batch)
                await self._shell.wait_durable(self._shell.lsn)
                await stub.StopTask(stop_request, timeout=self._seconds(), metadata=metadata)
            else:
                start_request, secret_ids = start_request_of(
                    state, self._outbox.session, batch, self._shell.sampler
                )
                await self._secrets.fill(start_request, secret_ids)
                await self._shell.wait_durable(self._shell.lsn)
                await stub.StartTask(start_request, timeout=self._seconds(), metadata=metadata)
        except NotLeader:
            # Whoever leads has an outbox of his own, which this worker empties by his session.
            self._failed(batch)
            return False
        except grpc.aio.AioRpcError as error:
            self._failed(batch)
            _log.warning(
                LogLine(
                    "a batch did not get through",
                    worker=state.get_worker(self._outbox.worker).name,
                    address=self._outbox.address,
                    status=error.code().name,
                    detail=error.details(),
                )
            )
            await self._try_to_connect()
            return False
        self._outbox.acknowledged(batch)
        self._backoff_seconds = 0.0
        return True

    def _seconds(self) -> float:
        """How long a call may take: one that waits for its connection leaves while the manager
        leads, or never."""
        return min(CALL_SECONDS, max(self._shell.leadership.seconds_left, 0.0))

    def _failed(self, batch: Batch) -> None:
        self._outbox.failed(batch, self._shell.kernel.state)
        self._backoff_seconds = min(
            max(self._backoff_seconds * 2, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX
        )


def open_worker_channel(shell: Shell, outbox: Outbox, files: PemFiles | None) -> grpc.aio.Channel:
    """A channel to the worker of that session, who has to be the one of that name."""
    name = shell.kernel.state.get_worker(outbox.worker).name
    return open_aio_channel(outbox.address, files, host=worker_host(name) if files else "")


async def _connect_fault(address: str) -> str:
    """Why there is no connection to that address, empty when there is one."""
    try:
        host, port = split_address(address)
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {CONNECT_SECONDS:g} s"
    except ValueError as error:
        return str(error)
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    writer.close()
    return ""


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
