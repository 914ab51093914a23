"""Puts the services on a server: every handler behind the gate, health and reflection beside."""

from __future__ import annotations

from typing import Any, cast

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

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
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, worker_pb2, worker_pb2_grpc


class _Gated:
    """Servicers that share a service's methods, each of which went through the gate."""

    def __init__(self, gate: Gate, descriptor: Any, *services: object, at_once: str = "") -> None:
        for method in descriptor.methods:
            (handler,) = (
                getattr(each, method.name) for each in services if hasattr(each, method.name)
            )
            if method.server_streaming:
                wrapped: Any = gate.stream(handler)
            elif method.client_streaming:
                wrapped = gate.incoming(handler)
            else:
                wrapped = gate.unary(handler, waits=method.name != at_once)
            setattr(self, method.name, wrapped)


async def add_services(
    server: grpc.aio.Server, shell: Shell, dispatcher: Dispatcher, past: PastDesk, token: str
) -> HealthServicer:
    """Adds everything that a manager serves; returns what answers for its health."""
    gate = Gate(shell, token)
    roster = Roster(shell)
    users = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
    workers = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
    user_service = UserService(shell, Reach(dispatcher), roster, past)
    parts = (ControlService(shell), ExplainService(shell, past))
    worker_service = WorkerService(shell, dispatcher, roster)
    manager_pb2_grpc.add_ManagerServiceServicer_to_server(
        cast("Any", _Gated(gate, users, user_service, *parts)), server
    )
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(
        cast("Any", _Gated(gate, workers, worker_service, at_once="Heartbeat")), server
    )
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    serving = health_pb2.HealthCheckResponse.SERVING
    for name in ("", users.full_name, workers.full_name):
        await health.set(name, serving)
    names = (users.full_name, workers.full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return health
