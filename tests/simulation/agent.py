"""The agent of the simulation: the real core, calls over the simulated network.

Keeps the rules of `titan/worker/agent/agent.py`, `manager_link.py`, `host_process.py` and
`task_service.py`, and makes their messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import grpc

from tests.simulation.host import SimHost
from tests.simulation.link import Link
from tests.simulation.machine import Machine
from tests.simulation.network import MANAGER, UNAVAILABLE, Answer, Call, Reply
from tests.simulation.plan import LEASE_US
from tests.simulation.world import Clockwork
from titan.rpc.v1 import task_pb2, types_pb2, worker_pb2
from titan.worker import protocol
from titan.worker.agent import actions, manager_link, translate
from titan.worker.agent.actions import Action
from titan.worker.agent.agent import LEAVE_CALLS_SECONDS, LEAVE_GRACE_MS, REGISTERING_SECONDS
from titan.worker.agent.core import Core, Failure, HostState, Verdict
from titan.worker.agent.node import Statistics

_CallAction = actions.Register | actions.SendReports | actions.SendHeartbeat | actions.Deregister
_PassAction = (
    actions.PassCluster
    | actions.PassStart
    | actions.PassStop
    | actions.PassAcknowledged
    | actions.PassLease
    | actions.PassLeave
)
_DEADLINES_US: Final[dict[type[_CallAction], int]] = {
    actions.Register: int(manager_link.REGISTER_SECONDS * 1e6),
    actions.SendReports: int(manager_link.REPORT_SECONDS * 1e6),
    actions.SendHeartbeat: int(manager_link.HEARTBEAT_SECONDS * 1e6),
    actions.Deregister: int(manager_link.DEREGISTER_SECONDS * 1e6),
}
_STATISTICS: Final = Statistics(0.0, 0, 0, 0.0, 0)


class SimAgent:
    """One agent process."""

    def __init__(self, machine: Machine, have_host: Callable[[], SimHost | None]) -> None:
        """`have_host` is the host that listens now; without one it starts one."""
        machine.agents_started += 1
        self.node = machine.name
        self.is_alive = True
        self._machine = machine
        self._world = machine.world
        self.clockwork = Clockwork(machine.world, machine.clockwork)
        self._have_host = have_host
        self.address = f"{machine.name}:{machine.agents_started}"
        self._core = Core(machine.worker_id, fetches=machine.worker.fetches, lease_us=LEASE_US)
        self._core.note_fault(machine.fault)
        self._link: Link | None = None
        self._is_welcome = False
        self._calls: list[Call] = []
        # The manager's calls that wait for a registration's answer.
        self._parked: list[Callable[[], None]] = []
        self._beats = 0
        self._was_to_drain = False
        if not (machine.worker.fetches or machine.worker.is_unreachable):
            machine.network.servers[self.address] = self
        self._later(self._world.random.randint(20_000, 300_000), self._connect)

    @property
    def is_settled(self) -> bool:
        """Whether it is registered and everything is acknowledged."""
        return self._core.is_registered and not self._core.unacknowledged_count

    def die(self) -> None:
        """Killed, or ended by itself."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._machine.network.died(self)
        self._machine.network.servers.pop(self.address, None)
        self._world.note(f"{self.address} agent is gone")
        if self._link is not None:
            self._link.agent_gone()

    def leave(self) -> None:
        """SIGINT: hand all back."""
        self._perform(self._core.leave(LEAVE_GRACE_MS))
        self._later(
            LEAVE_GRACE_MS * 1000 + int(LEAVE_CALLS_SECONDS * 1e6),
            lambda: self._perform(self._core.give_up()),
        )

    def drain(self) -> None:
        """SIGTERM with --on-stop drain."""
        self._perform(self._core.drain())
        self._was_to_drain = self._core.is_draining

    # The host -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        host = self._have_host()
        if host is None:
            self._later(100_000, self._connect)
            return
        self._is_welcome = False
        self._link = Link(self._world, self, host)
        host.connected(self._link)
        self._link.to_host(
            protocol.Hello(
                protocol.VERSION_MAJOR, protocol.VERSION_MINOR, self._machine.name, MANAGER,
                self._machine.plan.detach_ms,
            )
        )  # fmt: skip

    def receive(self, message: protocol.Message) -> None:
        """The host says something."""
        if not self._is_welcome and not isinstance(message, protocol.Welcome):
            assert self._link is not None
            self._link.agent_gone()
            self._link = None
            self._later(200_000, self._connect)
            return
        match message:
            case protocol.Welcome():
                self._is_welcome = True
                self._world.count("attempts found at the host", len(message.live))
                self._perform(
                    self._core.host_connected(
                        HostState(
                            instance=message.instance,
                            cluster_id=message.cluster_id,
                            live=message.live,
                            reports=message.reports,
                            report_seq=message.report_seq,
                            starts=message.starts,
                        )
                    )
                )
            case protocol.Reports():
                self._perform(self._core.host_reported(message.reports))
            case protocol.LeftAll():
                self._perform(self._core.host_left())
            case _:
                raise AssertionError(message)

    def disconnected(self, link: Link) -> None:
        """The host is gone."""
        if link is not self._link:
            return
        self._link = None
        if self._is_welcome:
            self._perform(self._core.host_lost())
        self._later(10_000, self._connect)

    # The manager's calls --------------------------------------------------------------------

    def serve(self, method: str, request: Any, reply: Reply) -> None:
        """A call of the manager."""
        self._run(partial(self._take, method, request, reply))

    def _take(self, method: str, request: Any, reply: Reply) -> None:
        for each in request.starts if method == "StartTask" else ():
            spec = request.specs[each.spec]
            self._machine.witness.told(spec.epoch, spec.job_id, each.index, each.attempt)
        if request.session != self._core.session and not self._core.is_registered:
            self._world.count("call before the registration's answer")
            is_done = False

            def go_on() -> None:
                nonlocal is_done
                if not is_done:
                    is_done = True
                    self._serve(method, request, reply)

            self._parked.append(go_on)
            self._later(int(REGISTERING_SECONDS * 1e6), go_on)
            return
        self._serve(method, request, reply)

    def _serve(self, method: str, request: Any, reply: Reply) -> None:
        session, seq = request.session, request.dispatch_seq
        if method == "StartTask":
            batch = translate.start_batch_of(request)
            verdict, todo = self._core.start(session, seq, batch)
        else:
            verdict, todo = self._core.stop(session, seq, translate.stops_of(request))
        self._perform(todo)
        if verdict is not Verdict.ACCEPTED:
            self._world.count(f"verdict {verdict.value}")
            reply(Answer(grpc.StatusCode.FAILED_PRECONDITION, details=verdict.value))
            return
        if not todo:
            self._world.count("batch came twice")
        start = task_pb2.StartTaskResponse() if method == "StartTask" else None
        reply(Answer(grpc.StatusCode.OK, start or task_pb2.StopTaskResponse()))

    # Actions --------------------------------------------------------------------------------

    def _perform(self, todo: Sequence[Action]) -> None:
        if self._core.is_registered:
            parked, self._parked = self._parked, []
            for go_on in parked:
                self._later(0, go_on)
        for action in todo:
            if not self.is_alive:
                return
            match action:
                case (
                    actions.Register()
                    | actions.SendReports()
                    | actions.SendHeartbeat()
                    | actions.Deregister()
                ):
                    self._plan_call(action)
                case (
                    actions.PassCluster()
                    | actions.PassStart()
                    | actions.PassStop()
                    | actions.PassAcknowledged()
                    | actions.PassLease()
                    | actions.PassLeave()
                ):
                    self._pass(action)
                case actions.KeepIdentity():
                    self._machine.worker_id = action.worker_id
                case actions.BeatEvery():
                    self._beats += 1
                    self._later(0, partial(self._beat, self._beats, action.interval_ms * 1000))
                case actions.Say():
                    self._world.note(f"{self.address}: {action.message}")
                case actions.Quit():
                    if self._was_to_drain:
                        self._world.count("ended drained")
                    self.die()

    def _pass(self, action: _PassAction) -> None:
        if self._link is None:
            return
        message: protocol.Message
        match action:
            case actions.PassStart():
                message = protocol.StartTasks(action.batch)
            case actions.PassStop():
                message = protocol.StopTasks(action.stops)
            case actions.PassAcknowledged():
                message = protocol.Acknowledge(action.report_seq)
            case actions.PassCluster():
                message = protocol.Cluster(action.cluster_id)
            case actions.PassLease():
                message = protocol.Lease(action.until_us)
            case actions.PassLeave():
                message = protocol.Leave(action.grace_ms)
        self._link.to_host(message)

    def _beat(self, number: int, interval_us: int) -> None:
        if number == self._beats:
            self._perform(self._core.note_fault(self._machine.fault))
            self._perform(self._core.heartbeat_due())
            self._later(interval_us, partial(self._beat, number, interval_us))

    def _plan_call(self, action: _CallAction) -> None:
        delay_us = 0
        if isinstance(action, actions.Register | actions.SendReports):
            delay_us = int(action.delay_us * self._world.random.uniform(0.5, 1.0))
        self._later(delay_us, partial(self._call, action))

    def _call(self, action: _CallAction) -> None:
        if not self._core.awaits(action.call):
            return
        if isinstance(action, actions.Register):
            # Over a new connection: calls on the old one fail.
            calls, self._calls = self._calls, []
            for each in calls:
                each.finish(UNAVAILABLE)
            if not self._core.awaits(action.call):
                return
        self._calls = [each for each in self._calls if not each.is_over]
        method, request = self._request(action)
        deadline_us = _DEADLINES_US[type(action)]
        if isinstance(action, actions.SendHeartbeat):
            deadline_us += action.wait_ms * 1000
        sent_us = self._world.elapsed_us
        self._calls.append(
            self._machine.network.call(
                *(self.node, MANAGER, method, request, deadline_us),
                lambda answer: self._run(partial(self._answered, action, sent_us, answer)),
            )
        )

    def _request(self, action: _CallAction) -> tuple[str, Any]:
        match action:
            case actions.SendReports():
                return "ReportTaskStatus", translate.report_request(action)
            case actions.SendHeartbeat():
                return "Heartbeat", translate.heartbeat_request(action, _STATISTICS)
            case actions.Deregister():
                return "DeregisterWorker", worker_pb2.DeregisterWorkerRequest(
                    session=action.session, dispatch_seq=action.dispatch_seq
                )
            case actions.Register():
                machine = self._machine
                return "RegisterWorker", worker_pb2.RegisterWorkerRequest(
                    worker_id=action.worker_id,
                    instance=action.instance,
                    host_starts=action.host_starts,
                    boot_id=f"boot {machine.boot}",
                    name=machine.name,
                    address="" if self._core.fetches else self.address,
                    capacity=types_pb2.Resources(
                        cpus_milli=machine.worker.cpus_milli,
                        memory_bytes=1 << 34,
                        named={"gpu": machine.worker.gpus} if machine.worker.gpus else {},
                    ),
                    version="0",
                    labels={"zone": machine.worker.zone},
                    cluster_id=action.cluster_id,
                    held=translate.held(action.held),
                    acknowledged_seq=action.acknowledged_seq,
                    stopping=action.is_stopping,
                    fault=action.fault,
                )

    def _answered(self, action: _CallAction, sent_us: int, answer: Answer) -> None:
        core, call = self._core, action.call
        if not answer.is_ok:
            failure = _failure_of(
                answer.status, is_registering=isinstance(action, actions.Register)
            )
            self._perform(core.failed(call, failure, answer.details))
            return
        message = answer.message
        if not isinstance(action, actions.SendHeartbeat):
            self._machine.witness.changed(message.lsn)
        todo: list[Action]
        is_over = False
        match action:
            case actions.Register():
                is_over = core.is_over(message.term, message.cluster_id)
                todo = core.registered(
                    call,
                    worker_id=message.worker_id,
                    session=message.session,
                    cluster_id=message.cluster_id,
                    heartbeat_interval_ms=message.heartbeat_interval_ms,
                    term=message.term,
                )
            case actions.SendReports():
                todo = core.reports_taken(call, message.report_seq, message.dispatch_seq)
            case actions.SendHeartbeat():
                todo = self._fetched(call, message)
            case actions.Deregister():
                todo = core.deregistered(call)
        if is_over:
            self._world.count("term refused by a worker")
        elif isinstance(action, actions.Register | actions.SendHeartbeat):
            todo = core.lease_renewed(sent_us) + todo
        self._perform(todo)

    def _fetched(self, call: int, message: worker_pb2.HeartbeatResponse) -> list[Action]:
        for each in message.start.starts:
            spec = message.start.specs[each.spec]
            self._machine.witness.told(spec.epoch, spec.job_id, each.index, each.attempt)
        fetches = self._core.fetches
        todo = self._core.heartbeat_taken(call, translate.fetched_of(message))
        if self._core.fetches and not fetches:
            self._world.count("told to fetch")
        return todo

    def _later(self, delay_us: int, action: Callable[[], None]) -> None:
        self.clockwork.after(delay_us, partial(self._do, action))

    def _run(self, action: Callable[[], None]) -> None:
        self.clockwork.run(partial(self._do, action))

    def _do(self, action: Callable[[], None]) -> None:
        if self.is_alive:
            action()


def _failure_of(status: grpc.StatusCode, *, is_registering: bool) -> Failure:
    """As `manager_link` has it."""
    if status in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        return Failure.REFUSED if is_registering else Failure.UNREGISTERED
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return Failure.REFUSED
    return Failure.UNREACHABLE
