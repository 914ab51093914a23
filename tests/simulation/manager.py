"""The manager of the simulation: the real kernel and log in a shell without asyncio.

The rules of the real shell that it keeps (`titan/manager/shell.py`, `gate.py`,
`dispatch.py`, `main.py`): a decision is applied at once; what one turn decided is one
record; replies, refusals and batches carry the last LSN and leave when it is durable,
heartbeats' answers at once; one batch under way for each session; the start of a manager
is durable before it serves. The log flushes as its thread would: what was appended
meanwhile goes in the next flush, and the loop learns of the end of one a little later.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc

import wal
from tests.simulation.checks import Witness
from tests.simulation.lines import Line, PullLine
from tests.simulation.network import Answer, Network, Reply
from tests.simulation.plan import LEASE_US
from tests.simulation.world import Clockwork, World, check
from tests.wal.fake_fs import Call, FakeFileSystem, Moment, SimulatedCrash
from titan import events as ev
from titan.errors import TitanError
from titan.manager import clock, translate, translate_workers
from titan.manager.kernel import Kernel, Settings
from titan.manager.kernel.commands import Changed, Command, DeregisterWorker, Requeued
from titan.manager.kernel.outbox import Outbox
from titan.manager.recovery import recover
from titan.manager.retention import Limits, Retention
from titan.manager.shell import TICK_SECONDS
from titan.queries import views
from titan.rpc.status import status_of
from titan.rpc.v1 import manager_pb2, worker_pb2
from titan.snapshots import take_snapshot

NODE: Final = "manager"
DIRECTORY: Final = Path("/data")
# Small, so that a run goes through several segments.
SEGMENT_BYTES: Final = 1 << 14
UP_US: Final = 500_000_000_000
TICK_US: Final = int(TICK_SECONDS * 1e6)
LIMITS: Final = Limits(retain_us=2_000_000, spacing_bytes_min=4096)
SETTINGS: Final = Settings(
    heartbeat_timeout_us=10_000_000, heartbeat_interval_us=1_000_000, lease_us=LEASE_US
)


class SimManager:
    """The manager's machine: its disk, and the process that runs on it now."""

    def __init__(
        self, world: World, network: Network, witness: Witness, preempt: str = "off"
    ) -> None:
        self.settings = replace(SETTINGS, preempt=preempt)
        self.world = world
        self.network = network
        self.witness = witness
        self.disk = FakeFileSystem(world.random)
        self.clockwork = Clockwork(world)
        self.process: ManagerProcess | None = None
        self.wall_offset_us = 0
        # How long it was suspended, which its monotonic clock does not count.
        self._asleep_us = 0
        self._is_slow_until_us = 0

    def time_ns(self) -> int:
        """The wall clock, in place of `time.time_ns`."""
        return (self.world.now_us + self.wall_offset_us) * 1000

    def monotonic_ns(self) -> int:
        """In place of `time.monotonic_ns`: the machine has been up for some days."""
        return self.awake_us() * 1000

    def awake_us(self) -> int:
        """The monotonic clock."""
        return self.world.elapsed_us + UP_US - self._asleep_us

    def start(self) -> None:
        """A process starts, if there is none."""
        if self.process is not None:
            return
        try:
            self.process = ManagerProcess(self)
            self.process.take_over()
        except SimulatedCrash:
            self.lose_power()
        except (wal.LogFailed, OSError) as error:
            self.world.note(f"manager does not start: {error!r}")
            self.kill()

    def kill(self, down_us: int = 200_000) -> None:
        """The process is gone; what it wrote is in the page cache."""
        self._end(down_us)
        self.disk.kill()

    def lose_power(self, down_us: int = 200_000) -> None:
        """The machine is gone: what was not synced may be, in whole or in part."""
        self._asleep_us -= self.clockwork.release()
        self._end(down_us)
        random = self.world.random
        if random.random() < 0.3:
            self.disk.crash(torn=random.randrange(200))
        else:
            self.disk.crash(random.choice(("none", "all", "random")))

    def die_in_call(self, number: int) -> None:
        """It dies in that call of its file system from now."""
        moments: tuple[Moment, ...] = ("before", "during", "during", "after")
        moment = self.world.random.choice(moments)
        self.disk.crash_at(len(self.disk.calls) + 1 + number, moment)

    def sleep(self, for_us: int) -> None:
        """Everything on it stands still for so long, and so does its monotonic clock."""
        longer_us = self.clockwork.hold(for_us)
        self._asleep_us += longer_us
        self.witness.manager_stands(longer_us)

    def slow_disk(self, for_us: int) -> None:
        """Each flush takes long meanwhile."""
        self._is_slow_until_us = self.world.now_us + for_us

    def flush_us(self) -> int:
        """How long it takes from an append to the end of its flush."""
        random = self.world.random
        if self.world.now_us < self._is_slow_until_us:
            self.world.count("slow flush")
            return random.randint(100_000, 3_000_000)
        return random.randint(50, 500_000 if self.world.chance(2) else 500)

    def fail_call(self, number: int, error: int) -> None:
        """That call of its file system from now fails."""
        number += len(self.disk.calls) + 1

        def failing(call: Call) -> int | None:
            if call.number < number:
                return None
            self.disk.fail_while(None)
            self.world.count(f"failed: {call.operation}")
            return error

        self.disk.fail_while(failing)

    def fill_disk(self, for_us: int, left_bytes: int) -> None:
        """Others take all room but so much, and give it back later."""
        self.disk.capacity = self.disk.used + left_bytes
        self.world.after(for_us, self._clear_disk)

    def fail_sync(self) -> None:
        """The next sync of data fails."""

        def failing(call: Call) -> int | None:
            if call.operation != "fdatasync":
                return None
            self.disk.fail_while(None)
            return errno.EIO

        self.disk.fail_while(failing)

    def calm(self) -> None:
        """No fault is planned any more."""
        self.disk.crash_at(-1)
        self.disk.fail_while(None)
        self._clear_disk()

    def _clear_disk(self) -> None:
        self.disk.capacity = None

    def _end(self, down_us: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.is_alive = False
            if not process.kernel.events_count:
                self.witness.looked_at(process.kernel)
            self.network.died(process)
            self.network.servers.pop(NODE, None)
        self.world.note("manager is down")
        self.world.count("manager crashed")
        self.clockwork.after(down_us, self.start)


class ManagerProcess:
    """One manager process, from replay to its death."""

    node = NODE

    def __init__(self, machine: SimManager) -> None:
        self.machine = machine
        self.world, self.network, self.witness = machine.world, machine.network, machine.witness
        self.is_alive = True
        machine.disk.make_directory(str(DIRECTORY))
        found = recover(
            DIRECTORY,
            file_system=machine.disk,
            segment_bytes=SEGMENT_BYTES,
            random_bytes=self.world.random.randbytes,
            on_warning=self._warn,
        )
        check(not found.unusable, "a snapshot under its name can be used")
        if found.snapshot_lsn:
            self.world.count("started from a snapshot")
        self.log, state = found.log, found.state
        self.witness.recovered(state, found.records)
        self.retention = Retention(DIRECTORY, LIMITS, file_system=machine.disk)
        self.kernel = Kernel(state, machine.settings)
        self._clock = clock.Clock(not_before_us=state.time_us)
        self._turn_clock = clock.TurnClock()
        self.clockwork = Clockwork(machine.world, machine.clockwork)
        self._turn_is_planned = False
        self._flush_is_planned = False
        # What the loop knows to be durable, and what waits for more.
        self._durable_lsn = self.log.durable_lsn
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._lines: dict[bytes, Line | PullLine] = {}

    @property
    def lsn(self) -> int:
        """What leaves now has to wait for this LSN."""
        return self.kernel.state.lsn

    def take_over(self) -> None:
        """The first record; then it serves."""
        random = self.world.random
        self.kernel.start(
            cluster_id=random.randbytes(16),
            epoch=random.getrandbits(63),
            version="0",
            now_us=self._clock.now_us(),
        )
        self._turn()
        self.when_durable(self.lsn, self._serve)

    def stall(self, for_us: int) -> None:
        """It does nothing for so long."""
        self.witness.manager_stands(self.clockwork.hold(for_us))

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
            action()
        else:
            self._waiting.append((lsn, action))

    def _serve(self) -> None:
        self.network.servers[NODE] = self
        self.later(TICK_US, self._tick)

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
        kernel.room = self.log.room
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
        kernel.room = self.log.room
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
            reply(Answer(grpc.StatusCode.OK, message))

    def _append(self) -> None:
        record = self.kernel.take_record()
        if record is None:
            return
        time_us, events = record
        payload = ev.encode_record(time_us, events)
        lsn = self.log.append(payload)
        self.witness.appended(lsn, payload, self.kernel, self.machine.awake_us())
        if not self._flush_is_planned:
            self._flush_is_planned = True
            self.machine.clockwork.after(self.machine.flush_us(), self._flush)

    def _flush(self) -> None:
        """The log's thread: it turns even when the loop does not."""
        if not self.is_alive:
            return
        self._flush_is_planned = False
        try:
            done = self.log.flush()
        except SimulatedCrash:
            self._die_in_call()
            return
        except wal.LogFailed:
            self.world.count("sync failed")
            self.machine.kill()
            return
        self.witness.durable(self.log.durable_lsn)
        self.later(self.world.random.randint(10, 300), partial(self._advance, self.log.durable_lsn))
        if not done or not self.log.room:
            self.world.count("disk full")
            self._flush_is_planned = True
            self.machine.clockwork.after(100_000, self._flush)

    def _die_in_call(self) -> None:
        self.world.count("died in a call of the file system")
        if self.world.chance(50):
            self.machine.kill()
        else:
            self.machine.lose_power()

    def _keep_house(self) -> None:
        """The snapshotter, another process, and what is removed when it is done."""
        disk = self.machine.disk
        try:
            taken = take_snapshot(DIRECTORY, _unusable, left_free_bytes=0, file_system=disk)
            if taken is not None:
                self.world.count("snapshot taken")
            plan = self.retention.tidy(
                now_us=self._clock.now_us(),
                end_lsn=self.log.durable_lsn,
                last_segment_bytes=self.log.last_segment_bytes,
            )
        except SimulatedCrash:
            self._die_in_call()
        except (TitanError, wal.WalError, OSError) as error:
            self.world.note(f"no snapshot: {error}")
            self.world.count("snapshot failed")
        else:
            if plan.records_before_lsn:
                self.world.count("old records removed")

    def _advance(self, lsn: int) -> None:
        self._durable_lsn = max(self._durable_lsn, lsn)
        ready = [action for wanted, action in self._waiting if wanted <= self._durable_lsn]
        self._waiting = [each for each in self._waiting if each[0] > self._durable_lsn]
        for action in ready:
            action()

    def _tick(self) -> None:
        self.later(TICK_US, self._tick)
        if not self._turn_clock.note_turn(TICK_US):
            self.world.count("late tick skipped")
            return
        self.kernel.room = self.log.room
        self.kernel.tick(self._clock.now_us(), self._turn_clock.turned_us())
        self._plan_turn()
        if self.world.chance(2):
            self._keep_house()

    def _warn(self, message: str) -> None:
        self.world.note(f"log: {message}")
        if "torn tail" in message:
            self.world.count("torn tail")

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


def _unusable(error: TitanError) -> None:
    check(False, f"a snapshot under its name can be used: {error}")


_HANDLERS: Final[dict[str, Callable[[ManagerProcess, Any], Any]]] = {
    "RegisterWorker": ManagerProcess.register,
    "DeregisterWorker": ManagerProcess.deregister,
    "Heartbeat": ManagerProcess.heartbeat,
    "ReportTaskStatus": ManagerProcess.report,
    "SubmitJob": ManagerProcess.submit,
    "CancelJob": ManagerProcess.cancel,
    "HoldJob": ManagerProcess.hold,
    "SuspendJob": ManagerProcess.suspend,
    "UpdateJob": ManagerProcess.update,
    "RequeueJob": ManagerProcess.requeue,
    "DrainWorker": ManagerProcess.drain,
}
