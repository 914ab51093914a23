"""gRPC's own services, health and reflection, for those alone who may call the server at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from titan.rpc.reading import READ_AT_ONCE_OF_ANYBODY, Guard, Guarding


async def add_guarded_services(
    server: grpc.aio.Server, names: Sequence[str], guard: Guard
) -> Health:
    """Adds both, for the services of these full names; returns what answers for their health."""
    guarding: Any = Guarding(server, guard, at_once=READ_AT_ONCE_OF_ANYBODY, is_open=True)
    checker = Health()
    health_pb2_grpc.add_HealthServicer_to_server(checker, guarding)
    for name in ("", *names):
        await checker.set(name, health_pb2.HealthCheckResponse.SERVING)
    add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add_reflection(ReflectionServicer((*names, reflection.SERVICE_NAME)), guarding)
    return checker


class Health(HealthServicer):
    """Of the services of one server, by name; the empty name is the server's."""

    def __init__(self) -> None:
        super().__init__()
        self._conditions: dict[str, Callable[[], bool]] = {}

    async def stand(self, names: Sequence[str], *, is_up: bool) -> None:
        """They serve from now on, or do not."""
        status = health_pb2.HealthCheckResponse
        for name in names:
            await self.set(name, status.SERVING if is_up else status.NOT_SERVING)

    def require(self, names: Sequence[str], condition: Callable[[], bool]) -> None:
        """Whoever asks for one of them is told that it does not serve while the condition fails."""
        self._conditions.update(dict.fromkeys(names, condition))

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  (gRPC's name)
        """As of any, and by the condition of that name."""
        response: Any = await super().Check(request, context)
        condition = self._conditions.get(request.service)
        if condition is not None and not condition():
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
        return response

    async def List(self, request: Any, context: Any) -> None:  # noqa: N802  (gRPC's name)
        """It is in the protocol, and gRPC's own raises for it."""
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
