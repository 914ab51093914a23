"""Puts the services on a server: every handler behind the gate, health and reflection beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1._async import HealthServicer

from titan.manager import permissions
from titan.manager.admission import Admission, Doors
from titan.manager.callers import Callers
from titan.manager.control_service import ControlService
from titan.manager.dispatch import Dispatcher
from titan.manager.explain_service import ExplainService
from titan.manager.gate import Gate
from titan.manager.history_desk import NONE_WRITTEN, HistoryDesk
from titan.manager.history_service import HistoryService
from titan.manager.history_sync import HistorySync
from titan.manager.overview_service import OverviewService
from titan.manager.past import PastDesk
from titan.manager.reach import Reach
from titan.manager.roster import Roster
from titan.manager.secret_desk import SecretDesk
from titan.manager.shell import Shell
from titan.manager.user_service import UserService
from titan.manager.worker_service import WorkerService
from titan.metrics.calls import Calls
from titan.rpc.guarded import add_guarded_services
from titan.rpc.reading import READ_AT_ONCE, ReadingHandlers
from titan.rpc.v1 import manager_pb2, worker_pb2

_SUBMITS: Final = frozenset({"SubmitJob", "RequeueJob"})
_CHANGES: Final = frozenset({"CancelJob", "HoldJob", "SuspendJob", "UpdateJob"})
_NO_DOORS: Final[Mapping[str, Admission]] = {}


async def add_services(
    server: grpc.aio.Server,
    shell: Shell,
    dispatcher: Dispatcher,
    past: PastDesk,
    secrets: SecretDesk,
    callers: Callers,
    doors: Doors | None = None,
    *,
    history: HistoryDesk | None = None,
    history_sync: HistorySync | None = None,
    calls: Calls | None = None,
) -> HealthServicer:
    """Adds everything that a manager serves; returns what answers for its health.

    `calls` counts what is called, if somebody is to.
    """
    gate = Gate(shell, callers, history=history_sync, calls=calls)
    roster = Roster(shell)
    users = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
    workers = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
    user_services = (
        UserService(shell, Reach(shell, dispatcher), roster, past, secrets),
        ControlService(shell),
        ExplainService(shell, past),
        OverviewService(shell, past),
        HistoryService(history or HistoryDesk(NONE_WRITTEN)),
    )
    doors = doors or Doors()
    door_of = dict.fromkeys(_SUBMITS, doors.submits) | dict.fromkeys(_CHANGES, doors.changes)
    worker_service = WorkerService(shell, dispatcher, roster)
    server.add_generic_rpc_handlers(
        (
            _handlers(gate, users, user_services, door_of=door_of),
            _handlers(gate, workers, (worker_service,), at_once="Heartbeat"),
        )
    )
    names = (users.full_name, workers.full_name)
    return await add_guarded_services(server, names, gate.lets_in_open)


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
    return ReadingHandlers(handlers, guard=gate.lets_in, at_once=READ_AT_ONCE, whose=gate.whose)


def _serializer(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """The same, but for what is bytes already: another process has made it."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)
