"""Puts the services of a manager on its server: of one that leads, or of one that stands by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from titan.manager import permissions
from titan.manager.admission import Admission, Doors
from titan.manager.callers import Callers
from titan.manager.control_service import ControlService
from titan.manager.dispatch import Dispatcher
from titan.manager.entry import Entry
from titan.manager.explain_service import ExplainService
from titan.manager.gate import Gate
from titan.manager.history_desk import NONE_WRITTEN, HistoryDesk
from titan.manager.history_service import HistoryService
from titan.manager.history_sync import HistorySync
from titan.manager.leadership import ALONE, Leadership
from titan.manager.overview_service import OverviewService
from titan.manager.past import PastDesk
from titan.manager.reach import Reach
from titan.manager.roster import Roster
from titan.manager.secret_desk import SecretDesk
from titan.manager.shell import Shell
from titan.manager.switching import SwitchingHandlers
from titan.manager.user_service import UserService
from titan.manager.worker_service import WorkerService
from titan.metrics.calls import Calls
from titan.rpc.guarded import Health, add_guarded_services
from titan.rpc.reading import READ_AT_ONCE, ReadingHandlers
from titan.rpc.v1 import manager_pb2, worker_pb2

USERS: Final = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
WORKERS: Final = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
_SUBMITS: Final = frozenset({"SubmitJob", "RequeueJob"})
_CHANGES: Final = frozenset({"CancelJob", "HoldJob", "SuspendJob", "UpdateJob"})
# Whose health is that of a manager that leads.
_LEADING: Final = ("leader", USERS.full_name, WORKERS.full_name)
_NO_DOORS: Final[Mapping[str, Admission]] = {}


class Services:
    """What one server answers, from its start to its end.

    Its health, by service: that of the empty name is the process's. `leader`, for whoever shares
    calls out, and those of both services are that of a manager that leads.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        entry: Entry,
        switching: SwitchingHandlers,
        health: Health,
    ) -> None:
        self.entry = entry
        self.health = health
        self._server = server
        self._switching = switching
        self._is_started = False

    async def start(self) -> None:
        """Begins to answer, if it has not yet: one that leads may have stood by before."""
        if not self._is_started:
            self._is_started = True
            await self._server.start()

    async def stand_by(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The manager stands by: `standby_handlers` answer from now on."""
        self._switching.serve(handlers)
        await self.health.stand(_LEADING, is_up=False)

    async def lead(
        self, handlers: Sequence[grpc.GenericRpcHandler], leadership: Leadership = ALONE
    ) -> None:
        """The manager leads: `leader_handlers` answer from now on."""
        self._switching.serve(handlers)
        self.health.require(_LEADING, leadership.leads)
        await self.health.stand(_LEADING, is_up=True)


async def open_services(
    server: grpc.aio.Server, callers: Callers, *, calls: Calls | None = None
) -> Services:
    """Adds what a manager serves to its server, which is not started yet.

    `calls` counts what is called, if somebody is to. It is to `stand_by` or `lead` before the
    start.
    """
    entry = Entry(callers, calls=calls)
    switching = SwitchingHandlers()
    server.add_generic_rpc_handlers((switching,))
    names = (USERS.full_name, WORKERS.full_name)
    health = await add_guarded_services(server, names, entry.lets_in_open)
    return Services(server, entry, switching, health)


def leader_handlers(
    entry: Entry,
    shell: Shell,
    dispatcher: Dispatcher,
    past: PastDesk,
    secrets: SecretDesk,
    doors: Doors | None = None,
    *,
    history: HistoryDesk | None = None,
    history_sync: HistorySync | None = None,
    step_down: Callable[[], None] | None = None,
) -> tuple[grpc.GenericRpcHandler, ...]:
    """What a manager answers that leads.

    `step_down` has it stop leading in good order, soon and not at once; None: nobody else could
    lead.
    """
    gate = Gate(shell, entry, history=history_sync)
    roster = Roster(shell)
    user_services = (
        UserService(shell, Reach(shell, dispatcher), roster, past, secrets),
        ControlService(shell, step_down),
        ExplainService(shell, past),
        OverviewService(shell, past),
        HistoryService(history or HistoryDesk(NONE_WRITTEN)),
    )
    doors = doors or Doors()
    door_of = dict.fromkeys(_SUBMITS, doors.submits) | dict.fromkeys(_CHANGES, doors.changes)
    worker_service = WorkerService(shell, dispatcher, roster)
    return (
        _handlers(gate, USERS, user_services, door_of=door_of),
        _handlers(gate, WORKERS, (worker_service,), at_once="Heartbeat"),
    )


def _handlers(
    gate: Gate,
    service: ServiceDescriptor,
    parts: Sequence[object],
    *,
    door_of: Mapping[str, Admission] = _NO_DOORS,
    at_once: str = "",
) -> grpc.GenericRpcHandler:
    """The methods of a service, each behind the gate; `parts` have a method for each of them.

    Those with a door wait there, and the one that is answered `at_once` for nothing.
    """
    served: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in service.methods:
        name = method.name
        assert name in permissions.ROLES_OF_METHOD, f"for whom is {name}?"
        (handler,) = (getattr(each, name) for each in parts if hasattr(each, name))
        parse = GetMessageClass(method.input_type).FromString
        serialize = _serializer(GetMessageClass(method.output_type).SerializeToString)
        if name in door_of:
            admitted = gate.admitted(name, handler, parse, door_of[name])
            served[name] = grpc.stream_unary_rpc_method_handler(admitted, None, serialize)
        elif method.server_streaming:
            stream = gate.stream(name, handler)
            served[name] = grpc.unary_stream_rpc_method_handler(stream, parse, serialize)
        elif method.client_streaming:
            incoming = gate.incoming(name, handler)
            served[name] = grpc.stream_unary_rpc_method_handler(incoming, parse, serialize)
        else:
            unary = gate.unary(name, handler, waits=name != at_once)
            served[name] = grpc.unary_unary_rpc_method_handler(unary, parse, serialize)
    handlers = grpc.method_handlers_generic_handler(service.full_name, served)
    return ReadingHandlers(
        handlers, guard=gate.lets_in, at_once=READ_AT_ONCE, whose=gate.entry.whose
    )


def _serializer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """The same, but for what is bytes already: another process has made it."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)
