"""What is no message of its kind is refused, and not taken for a mistake of the handler's.

gRPC's own server answers UNKNOWN to a message that protobuf cannot read, and writes a traceback to
the log for each: whoever sends such bytes would fill the disk with them.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

UNREADABLE: Final = "the request cannot be read: it is no message of its kind"
# What the handler gets in place of such a message, whose call is over by then.
_UNREADABLE: Final = object()


class ParsingHandlers(grpc.GenericRpcHandler):
    """The same handlers, which never see what cannot be read: it is INVALID_ARGUMENT."""

    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner
        # By what the inner one answers: it has the same for each call of a method.
        self._wrapped: dict[int, tuple[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None: it is another's."""
        handler: Any = self._inner.service(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        known = self._wrapped.get(id(handler))
        if known is None:
            # It is kept, so that nothing else gets its id.
            known = self._wrapped[id(handler)] = (handler, _wrap(handler))
        return known[1]


def _wrap(handler: Any) -> Any:
    parse, serialize = _or_unreadable(handler.request_deserializer), handler.response_serializer
    kind = (handler.request_streaming, handler.response_streaming)
    if kind == (False, False):
        return grpc.unary_unary_rpc_method_handler(_one(handler.unary_unary), parse, serialize)
    if kind == (False, True):
        return grpc.unary_stream_rpc_method_handler(_one(handler.unary_stream), parse, serialize)
    if kind == (True, False):
        return grpc.stream_unary_rpc_method_handler(
            _several(handler.stream_unary), parse, serialize
        )
    return grpc.stream_stream_rpc_method_handler(_several(handler.stream_stream), parse, serialize)


def _or_unreadable(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_or_not(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return _UNREADABLE

    return parse_or_not


def _one(inner: Any) -> Any:
    """A handler of one request; like the inner one a generator of answers, or none."""
    if inspect.isasyncgenfunction(inner):

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            if request is _UNREADABLE:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNREADABLE)
            async with aclosing(inner(request, context)) as answers:
                async for each in answers:
                    yield each

        return stream

    async def call(request: Any, context: Any) -> Any:
        if request is _UNREADABLE:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNREADABLE)
        return await inner(request, context)

    return call


def _several(inner: Any) -> Any:
    """A handler of many: the first that cannot be read is the end, and the call's status."""

    async def readable(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for each in requests:
            if each is _UNREADABLE:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNREADABLE)
            yield each

    if inspect.isasyncgenfunction(inner):

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async with aclosing(inner(readable(requests, context), context)) as answers:
                async for each in answers:
                    yield each

        return stream

    async def call(requests: AsyncIterator[Any], context: Any) -> Any:
        return await inner(readable(requests, context), context)

    return call
