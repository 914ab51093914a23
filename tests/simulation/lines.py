"""The manager's line to one worker: the outbox's batches in calls, one at a time, or fetched.

Keeps the rules of `titan/manager/dispatch.py` and `pull.py`, and makes their messages. Unlike
them, a line never looks up by itself: whoever forgets to wake it stands out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import grpc

from tests.simulation.network import Answer, Network, Reply
from tests.simulation.world import World
from titan.manager import batches, dispatch
from titan.manager.kernel import Kernel
from titan.manager.kernel.outbox import Batch, Outbox
from titan.rpc.v1 import worker_pb2

CALL_US: Final = int(dispatch.CALL_SECONDS * 1e6)
BACKOFF_US_MIN: Final = int(dispatch.BACKOFF_SECONDS_MIN * 1e6)
BACKOFF_US_MAX: Final = int(dispatch.BACKOFF_SECONDS_MAX * 1e6)


class Process(Protocol):
    """What a line needs of its manager process."""

    world: World
    network: Network
    kernel: Kernel
    node: str

    @property
    def lsn(self) -> int:
        """What leaves now has to wait for this LSN."""

    def when_durable(self, lsn: int, action: Callable[[], None]) -> None:
        """The only way out for anything."""

    def let_out(self, action: Callable[[], None]) -> None:
        """Whatever leaves, and waits for no record."""

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        """Does that then, unless it is dead."""

    def run(self, action: Callable[[], None]) -> None:
        """Does that now, unless it is dead."""


class Line:
    """The calls of one session, in order."""

    def __init__(self, process: Process, outbox: Outbox) -> None:
        self._process = process
        self._outbox = outbox
        self._is_busy = False
        self._backoff_us = 0

    def wake(self) -> None:
        """The outbox has something to send."""
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        process, outbox = self._process, self._outbox
        self._is_busy = False
        if process.kernel.sessions.get(outbox.session) is not outbox:
            return
        state = process.kernel.state
        batch = outbox.next_batch(state)
        if batch is None:
            return
        self._is_busy = True
        if batch.stops:
            method: str = "StopTask"
            request: Any = batches.stop_request_of(outbox.session, batch)
            process.world.count("stop sent", len(batch.stops))
        else:
            method = "StartTask"
            request, _ = batches.start_request_of(state, outbox.session, batch)
        process.when_durable(process.lsn, partial(self._send, method, request, batch))

    def _send(self, method: str, request: Any, batch: Batch) -> None:
        process = self._process
        process.network.call(
            process.node, self._outbox.address, method, request, CALL_US,
            lambda answer: process.run(partial(self._answered, batch, answer)),
        )  # fmt: skip

    def _answered(self, batch: Batch, answer: Answer) -> None:
        if answer.is_ok:
            self._outbox.acknowledged(batch)
            self._backoff_us = 0
            self._next()
            return
        process = self._process
        process.world.count("batch failed")
        self._outbox.failed(batch, process.kernel.state)
        self._backoff_us = min(max(self._backoff_us * 2, BACKOFF_US_MIN), BACKOFF_US_MAX)
        process.later(int(self._backoff_us * process.world.random.uniform(0.5, 1.0)), self._next)


class PullLine:
    """What the worker of one session fetches."""

    def __init__(self, process: Process, outbox: Outbox) -> None:
        self._process = process
        self._outbox = outbox
        self._polls = 0
        # Who waits for an answer.
        self._reply: Reply | None = None
        self._under_way: Batch | None = None

    def wake(self) -> None:
        """The outbox has something to send."""
        process, outbox = self._process, self._outbox
        if self._reply is None or process.kernel.sessions.get(outbox.session) is not outbox:
            return
        batch = outbox.next_batch(process.kernel.state)
        if batch is None:
            return
        reply, self._reply = self._reply, None
        self._under_way = batch
        answer = worker_pb2.HeartbeatResponse(waited=True)
        if batch.stops:
            answer.stop.CopyFrom(batches.stop_request_of(outbox.session, batch))
        else:
            state = process.kernel.state
            start, _ = batches.start_request_of(state, outbox.session, batch)
            answer.start.CopyFrom(start)
        process.world.count("batch fetched")
        process.when_durable(process.lsn, lambda: reply(Answer(grpc.StatusCode.OK, answer)))

    def poll(self, has_seq: int, wait_us: int, reply: Reply) -> None:
        """A heartbeat came, and may be answered so much later."""
        self._polls += 1
        self._end(waited=False)
        self._reply = reply
        batch, self._under_way = self._under_way, None
        if batch is not None and has_seq >= batch.dispatch_seq:
            self._outbox.acknowledged(batch)
        elif batch is not None:
            self._process.world.count("fetched batch lost")
            self._outbox.failed(batch, self._process.kernel.state)
        self.wake()
        number = self._polls

        def over() -> None:
            if self._polls == number:
                self._end(waited=True)

        self._process.later(wait_us, over)

    def _end(self, *, waited: bool) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            answer = Answer(grpc.StatusCode.OK, worker_pb2.HeartbeatResponse(waited=waited))
            self._process.let_out(partial(reply, answer))
