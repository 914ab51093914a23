"""The manager's calls, each made when it is first used.

The generated stub makes all of them at once, and its module takes longer to load than a command
of one call takes to wait for the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from titan.rpc.v1 import manager_pb2

if TYPE_CHECKING:
    from titan.rpc.v1 import manager_pb2_grpc


def manager_stub(channel: grpc.Channel) -> manager_pb2_grpc.ManagerServiceStub:
    """What the generated class of that name is to its callers."""
    service = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
    return cast("manager_pb2_grpc.ManagerServiceStub", _Stub(channel, service))


class _Stub:
    def __init__(self, channel: grpc.Channel, service: ServiceDescriptor) -> None:
        self._channel = channel
        self._service = service

    def __getattr__(self, name: str) -> Any:
        method = self._service.methods_by_name.get(name)
        if method is None:
            raise AttributeError(f"{self._service.full_name} has no method {name}")
        assert not method.client_streaming
        channel = self._channel
        kind = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(
            f"/{self._service.full_name}/{name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        setattr(self, name, call)
        return call
