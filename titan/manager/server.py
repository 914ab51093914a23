"""Puts the services on a server: every handler behind the gate, health and reflection beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from titan.manager import permissions
from titan.manager.admission import Admission, Doors
from titan.manager.callers import Callers
from titan.manager.control_service import ControlService
from titan.manager.dispatch import Dispatcher
from titan.manager.explain_service import ExplainService
from titan.manager.gate import Gate
from titan.manager.past import PastDesk
from titan.manager.reach import Reach
from titan.manager.roster import Roster
from titan.manager.shell import Shell
from titan.manager.user_service import UserService
from titan.manager.worker_service import WorkerService
from titan.rpc.v1 import manager_pb2, worker_pb2

_SUBMITS: Final = frozenset({"SubmitJob", "RequeueJob"})
_CHANGES: Final = frozenset({"CancelJob", "HoldJob", "SuspendJob", "UpdateJob"})
_NO_DOORS: Final[Mapping[str, Admission]] = {}


async def add_services(
    server: grpc.aio.Server,
    shell: Shell,
    dispatcher: Dispatcher,
    past: PastDesk,
    callers: Callers,
    doors: Doors | None = None,
) -> HealthServicer:
    """Adds everything that a manager serves; returns what answers for its health."""
    gate = Gate(shell, callers)
    roster = Roster(shell)
    users = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
    workers = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
    user_services = (
        UserService(shell, Reach(shell, dispatcher), roster, past),
        ControlService(shell),
        ExplainService(shell, past),
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
    health = _Health(gate)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", users.full_name, workers.full_name):
        await health.set(name, serving)
    names = (users.full_name, workers.full_name, reflection.SERVICE_NAME)
    add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add_reflection(_Reflection(gate, names), server)
    return health


class _Health(HealthServicer):
    """That of gRPC, behind the gate."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  (gRPC's names)
        """As it stands."""
        is_let_in = self._gate.check_open("Health", context)
        return await super().Check(request, context) if is_let_in else None

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """As it changes."""
        if self._gate.check_open("Health", context):
            await super().Watch(request, context)


class _Reflection(ReflectionServicer):
    """That of gRPC, behind the gate."""

    def __init__(self, gate: Gate, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self._gate = gate

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        """What there is to be called."""
        if self._gate.check_open("ServerReflection", context):
            answers: Any = super().ServerReflectionInfo(request_iterator, context)
            async for answer in answers:
                yield answer


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
        serialize = GetMessageClass(method.output_type).SerializeToString
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
    return grpc.method_handlers_generic_handler(service.full_name, served)
