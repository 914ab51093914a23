"""gRPC's own services, health and reflection, for those alone who may call the server at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

# Whether the call may go on; if not, it has its refusal, or is aborted.
Guard: TypeAlias = Callable[[str, Any], Awaitable[bool]]

HEALTH: Final = "Health"
REFLECTION: Final = "ServerReflection"


async def add_guarded_services(
    server: grpc.aio.Server, names: Sequence[str], guard: Guard
) -> HealthServicer:
    """Adds both, for the services of these full names; returns what answers for their health."""
    checker = _Health(guard)
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    for name in ("", *names):
        await checker.set(name, health_pb2.HealthCheckResponse.SERVING)
    add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add_reflection(_Reflection(guard, (*names, reflection.SERVICE_NAME)), server)
    return checker


class _Health(HealthServicer):
    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  (gRPC's names)
        if not await self._guard(HEALTH, context):
            return None
        return await super().Check(request, context)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        # gRPC's own has it in the protocol, and no answer.
        if await self._guard(HEALTH, context):
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        if await self._guard(HEALTH, context):
            await super().Watch(request, context)


class _Reflection(ReflectionServicer):
    def __init__(self, guard: Guard, names: Sequence[str]) -> None:
        super().__init__(names)
        self._guard = guard

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        if await self._guard(REFLECTION, context):
            answers: Any = super().ServerReflectionInfo(request_iterator, context)
            async for answer in answers:
                yield answer
