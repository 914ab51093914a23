"""Every RPC that a manager serves, with the requests of the table that says who may make them."""

from __future__ import annotations

import uuid
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from tests.manager.harness import DEADLINE_SECONDS
from tests.security.world import REQUESTS, SERVICES
from titan.rpc import status
from titan.rpc.channel import open_aio_channel
from titan.rpc.v1 import manager_pb2, types_pb2, worker_pb2

OURS: Final = ("ManagerService", "WorkerService")
METHODS: Final = [f"{name}.{method.name}" for name in OURS for method in SERVICES[name].methods]
Metadata: TypeAlias = tuple[tuple[str, str], ...]


class Here:
    """What the requests are about, in place of the whole cluster that the table is made for."""

    worker_id = b"V" * 16

    def __init__(self, session: bytes) -> None:
        self._session = session

    def job(self) -> manager_pb2.JobSelector:
        return manager_pb2.JobSelector(job_id=1)

    def session(self) -> bytes:
        return self._session

    def registration(self) -> worker_pb2.RegisterWorkerRequest:
        return worker_pb2.RegisterWorkerRequest(
            worker_id=self.worker_id, instance=uuid.uuid4().bytes, name="w2",
            capacity=types_pb2.Resources(cpus_milli=1000),
        )  # fmt: skip


async def call(
    address: str, here: Here, method_name: str, metadata: Metadata, request: Any = None
) -> list[Any]:
    """The first answer, or none; to the request of the table if there is no other.

    Raises AioRpcError.
    """
    service, _, name = method_name.partition(".")
    method = SERVICES[service].methods_by_name[name]
    output: Any = method.output_type
    request = REQUESTS[method_name](here) if request is None else request  # type: ignore[arg-type]
    shape = (
        f"{'stream' if method.client_streaming else 'unary'}_"
        f"{'stream' if method.server_streaming else 'unary'}"
    )
    async with open_aio_channel(address) as channel:
        # Else one that is slow to shake hands would be away.
        await channel.channel_ready()
        make = getattr(channel, shape)(
            f"/{method.containing_service.full_name}/{name}",
            type(request).SerializeToString,
            GetMessageClass(output).FromString,
        )
        sent = iter([request]) if method.client_streaming else request
        answer = make(sent, timeout=DEADLINE_SECONDS, metadata=metadata)
        if not method.server_streaming:
            return [await answer]
        first = await answer.read()
        if first is not grpc.aio.EOF:
            answer.cancel()
            return [first]
        # The end of a stream is an answer, too: it raises what it ended with.
        if (code := await answer.code()) is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                code, await answer.initial_metadata(), await answer.trailing_metadata()
            )
        return []


def leader_named(error: grpc.aio.AioRpcError) -> str | None:
    """Whom it names that says that it does not lead."""
    return status.not_leader(error.trailing_metadata())
