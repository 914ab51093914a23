"""The shell of the simulation: the real kernel without asyncio, and a log that others keep.

The rules of the real shell that it keeps (`titan/manager/shell.py`, `gate.py`, `dispatch.py`):
a decision is applied at once; what one turn decided is one record; replies, refusals and batches
carry the last LSN and leave when it is durable, heartbeats' answers at once; one batch under way
for each session.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import grpc

from tests.simulation.checks import Witness
from tests.simulation.lines import Line, PullLine
from tests.simulation.network import Answer, Network, Reply
from tests.simulation.plan import LEASE_US
from tests.simulation.world import Clockwork, World
from titan import events as ev
from titan.errors import TitanError
from titan.manager import clock, translate, translate_workers
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import Changed, Command, DeregisterWorker, Requeued
from titan.manager.kernel.outbox import Outbox
from titan.manager.shell import TICK_SECONDS
from titan.queries import views
from titan.rpc.status import status_of
from titan.rpc.v1 import manager_pb2, worker_pb2
from titan.state.cluster import ClusterState

TICK_US: Final = int(TICK_SECONDS * 1e6)
SETTINGS: Final = Settings(
    heartbeat_timeout_us=10_000_000, heartbeat_interval_us=1_000_000, lease_us=LEASE_US
)


class SimShell(ABC):
    """Runs one kernel, until it dies. Whoever keeps the log is a class of its own."""

    world: World
    network: Network
    witness: Witness
    node: str
    # In which it leads; 0: its log is its own.
    term = 0

    def __init__(self, state: ClusterState, settings: Settings, clockwork: Clockwork) -> None:
        self.is_alive = True
        self.kernel = Kernel(state, settings)
        self._clock = clock.Clock(not_before_us=state.time_us)
        self._turn_clock = clock.TurnClock()
        self.clockwork = clockwork
        self._turn_is_planned = False
        # What the loop knows to be durable, and what waits for more.
        self._durable_lsn = state.lsn
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._lines: dict[bytes, Line | PullLine] = {}

    # What whoever keeps the log adds.

    @property
    @abstractmethod
    def room(self) -> bool:
        """Whether the log has room for more than ends."""

    @abstractmethod
    def append(self, payload: bytes) -> int:
        """The log takes a record, and tells `_advance` once it is durable; its LSN."""

    @abstractmethod
    def flush_later(self) -> None:
        """What was appended becomes durable."""

    @abstractmethod
    def awake_us(self) -> int:
        """The monotonic clock."""

    @abstractmethod
    def keep_house(self) -> None:
        """Snapshots, and what is removed after them."""

    def let_out(self, action: Callable[[], None]) -> None:
        """Whatever leaves, and waits for no record, or waited for it."""
        action()

    # ------------------------------------------------------------------------------------------

    @property
    def lsn(self) -> int:
        """What leaves now has to wait for this LSN."""
        return self.kernel.state.lsn

    def write_start(self) -> None:
        """The first record of this manager."""
        random = self.world.random
        self.kernel.start(
            cluster_id=random.randbytes(16),
            epoch=random.getrandbits(63),
            version="0",
            now_us=self._clock.now_us(),
        )
        self._turn()

    def later(self, delay_us: int, action: Callable[[], None]) -> None:
        """It does that then, unless it is dead; later when it stands still."""
        self.clockwork.after(delay_us, partial(self._do, action))

    def run(self, action: Callable[[], None]) -> None:
        """It does that now, or when it goes on."""
        self.clockwork.run(partial(self._do, action))

    def _do(self, action: Callable[[], None]) -> None:
        if self.is_alive:
            action()

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """A call comes in: the gate, and the servicers behind it."""
        self.run(lambda: self._answer(method, request, reply))

    def when_durable(self, lsn: int, action: Callable[[], None]) -> None:
        """The only way out for anything."""
        if lsn <= self._durable_lsn:
            self.let_out(action)
        else:
            self._waiting.append((lsn, action))

    def _answer(self, method: str, request: Any, reply: Reply) -> None:
        try:
            message = _HANDLERS[method](self, request)
        except TitanError as error:
            answer = Answer(status_of(error), details=str(error))
            self.world.count(f"{method} refused")
            self.when_durable(self.lsn, lambda: reply(answer))
            return
        if method == "Heartbeat":
            self._answer_heartbeat(request, message, reply)
        else:
            self.when_durable(self.lsn, lambda: reply(Answer(grpc.StatusCode.OK, message)))

    def _execute(self, command: Any) -> Any:
        kernel = self.kernel
        kernel.room = self.room
        answer = kernel.decide(command, self._clock.now_us(), self._turn_clock.turned_us())
        self._plan_turn()
        return answer

    def _plan_turn(self) -> None:
        if not self._turn_is_planned:
            self._turn_is_planned = True
            self.later(self.world.random.randint(0, 200), self._turn)

    def _turn(self) -> None:
        self._turn_is_planned = False
        kernel = self.kernel
        kernel.room = self.room
        kernel.schedule(self._clock.now_us())
        self._append()
        if kernel.schedule_wanted and kernel.room:
            self._plan_turn()
        for outbox in kernel.take_ready_outboxes():
            self._line(outbox).wake()
        self.witness.turned(kernel)

    def _line(self, outbox: Outbox) -> Line | PullLine:
        line = self._lines.get(outbox.session)
        if line is None:
            kind = PullLine if outbox.is_fetched else Line
            line = self._lines[outbox.session] = kind(self, outbox)
        return line

    def _answer_heartbeat(
        self, request: worker_pb2.HeartbeatRequest, message: Any, reply: Reply
    ) -> None:
        line = self._line(self.kernel.sessions[request.session])
        if isinstance(line, PullLine) and request.wait_ms:
            line.poll(request.held.dispatch_seq, request.wait_ms * 1000, reply)
        else:
            self.let_out(lambda: reply(Answer(grpc.StatusCode.OK, message)))

    def _append(self) -> None:
        record = self.kernel.take_record()
        if record is None:
            return
        time_us, events = record
        payload = ev.encode_record(time_us, events)
        lsn = self.append(payload)
        self.witness.appended(lsn, payload, self.kernel, self.awake_us())
        self.flush_later()

    def _advance(self, lsn: int) -> None:
        self._durable_lsn = max(self._durable_lsn, lsn)
        ready = [action for wanted, action in self._waiting if wanted <= self._durable_lsn]
        self._waiting = [each for each in self._waiting if each[0] > self._durable_lsn]
        for action in ready:
            self.let_out(action)

    def tick(self) -> None:
        """Comes all the time."""
        self.later(TICK_US, self.tick)
        if not self._turn_clock.note_turn(TICK_US):
            self.world.count("late tick skipped")
            return
        self.kernel.room = self.room
        self.kernel.tick(self._clock.now_us(), self._turn_clock.turned_us())
        self._plan_turn()
        if self.world.chance(2):
            self.keep_house()

    # The servicers: translate, decide, render. ----------------------------------------------------

    def register(self, request: worker_pb2.RegisterWorkerRequest) -> Any:
        random = self.world.random
        command = translate_workers.register_command(
            request, new_worker_id=random.randbytes(16), session=random.randbytes(16)
        )
        answer = self._execute(command)
        self.witness.heard(answer.worker)
        return worker_pb2.RegisterWorkerResponse(
            worker_id=answer.worker_id,
            session=command.session,
            cluster_id=self.kernel.state.cluster_id,
            heartbeat_interval_ms=SETTINGS.heartbeat_interval_us // 1000,
            lsn=self.lsn,
            term=self.term,
        )

    def deregister(self, request: worker_pb2.DeregisterWorkerRequest) -> Any:
        dispatch_seq = request.dispatch_seq if request.HasField("dispatch_seq") else None
        self._execute(DeregisterWorker(session=request.session, dispatch_seq=dispatch_seq))
        self.world.count("deregistered")
        return worker_pb2.DeregisterWorkerResponse(lsn=self.lsn)

    def heartbeat(self, request: worker_pb2.HeartbeatRequest) -> Any:
        self._execute(translate_workers.heartbeat_command(request))
        self._note_heard(request.session)
        outbox = self.kernel.sessions[request.session]
        is_there = outbox.is_fetched or outbox.address in self.network.servers
        return worker_pb2.HeartbeatResponse(cannot_call="" if is_there else "connection refused")

    def report(self, request: worker_pb2.ReportTaskStatusRequest) -> Any:
        outbox = self.kernel.sessions.get(request.session)
        if outbox is not None and request.first_seq <= outbox.applied_seq:
            self.world.count("duplicate report")
        report_seq = self._execute(translate_workers.report_command(request))
        self._note_heard(request.session)
        return worker_pb2.ReportTaskStatusResponse(
            report_seq=report_seq,
            lsn=self.lsn,
            dispatch_seq=self.kernel.sessions[request.session].dispatch_seq,
        )

    def submit(self, request: manager_pb2.SubmitJobRequest) -> Any:
        answer = self._execute(translate.submit_command(request))
        return manager_pb2.SubmitJobResponse(job_ids=answer.job_ids, lsn=self.lsn)

    def cancel(self, request: manager_pb2.CancelJobRequest) -> Any:
        answer = self._execute(translate.cancel_command(request))
        return manager_pb2.CancelJobResponse(already_ended=answer.already_ended, lsn=self.lsn)

    def drain(self, request: manager_pb2.DrainWorkerRequest) -> Any:
        numbers = self._execute(translate.drain_command(request))
        workers = [self.kernel.state.get_worker(each) for each in numbers]
        return manager_pb2.DrainWorkerResponse(
            workers=[views.worker_message(each, last_heard_us=0, reason="") for each in workers],
            lsn=self.lsn,
        )

    def hold(self, request: manager_pb2.HoldJobRequest) -> Any:
        return self._change(translate.hold_command(request))

    def suspend(self, request: manager_pb2.SuspendJobRequest) -> Any:
        return self._change(translate.suspend_command(request))

    def update(self, request: manager_pb2.UpdateJobRequest) -> Any:
        return self._change(translate.update_command(request))

    def requeue(self, request: manager_pb2.RequeueJobRequest) -> Any:
        answer: Requeued = self._execute(translate.requeue_command(request))
        return manager_pb2.RequeueJobResponse(submitted_again=answer.submitted_again, lsn=self.lsn)

    def _change(self, command: Command) -> Any:
        answer: Changed = self._execute(command)
        return manager_pb2.ChangeJobResponse(already_ended=answer.already_ended, lsn=self.lsn)

    def _note_heard(self, session: bytes) -> None:
        self.witness.heard(self.kernel.sessions[session].worker)


_HANDLERS: Final[dict[str, Callable[[SimShell, Any], Any]]] = {
    "RegisterWorker": SimShell.register,
    "DeregisterWorker": SimShell.deregister,
    "Heartbeat": SimShell.heartbeat,
    "ReportTaskStatus": SimShell.report,
    "SubmitJob": SimShell.submit,
    "CancelJob": SimShell.cancel,
    "HoldJob": SimShell.hold,
    "SuspendJob": SimShell.suspend,
    "UpdateJob": SimShell.update,
    "RequeueJob": SimShell.requeue,
    "DrainWorker": SimShell.drain,
}
