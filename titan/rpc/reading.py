"""Requests are read when it is known who calls, a few at once, and refused if they are none.

gRPC's own server reads the message of a call before anybody looks at the call: a few connections
without a token that each begin messages of 16 MiB, and end none, had a manager take gigabytes. And
what protobuf cannot read it answers with UNKNOWN and a traceback in the log. So calls with one
request are served as streams of requests, which leave the message where it is until it is asked
for: a server that is bounded (`channel.py`) keeps 128 KiB of it till then.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from titan.errors import Busy, InvalidJob, TitanError
from titan.rpc.places import Places
from titan.rpc.status import status_of, trailers_of

NO_REQUEST: Final = "the call carries no request"
UNREADABLE: Final = "the request cannot be read: it is no message of its kind"
# A message comes at once or in some seconds over a slow line.
READ_SECONDS: Final = 10.0
# Each may take as much as a message has at most.
READ_AT_ONCE: Final = 32
# Of those who need not say who they are: health and reflection.
READ_AT_ONCE_OF_ANYBODY: Final = 4
# Their streams, which last as long as they like: whoever watches the health.
STREAMS_OF_ANYBODY_MAX: Final = 100

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Guard: TypeAlias = Callable[[str, Context], bool]
"""Whether the call of that method may be read. If not it has set its status."""
_END: Final = object()


def _peer(context: Context) -> str:
    """The connection that a call came over."""
    return context.peer()


class ReadingHandlers(grpc.GenericRpcHandler):
    """The same handlers, whose requests are read here."""

    def __init__(
        self,
        inner: grpc.GenericRpcHandler,
        *,
        guard: Guard | None = None,
        at_once: int = READ_AT_ONCE_OF_ANYBODY,
        is_open: bool | None = None,
        whose: Callable[[Context], str] = _peer,
    ) -> None:
        """`is_open`: the guard may let anybody in; None: where there is none it does.

        `whose`: among whom the places are shared, those who have been let in.
        """
        self._inner = inner
        self._guard = guard
        self._is_open = guard is None if is_open is None else is_open
        self._places = Places(at_once)
        self._whose = whose
        self._streams = 0
        # By what the inner one answers, which is the same for each call of a method.
        self._wrapped: dict[int, tuple[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None: it is another's."""
        handler: Any = self._inner.service(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            # What takes bytes reads them by itself.
            return handler
        known = self._wrapped.get(id(handler))
        if known is None:
            # It is kept, so that nothing else gets its id.
            method = handler_call_details.method.rpartition("/")[2]
            known = self._wrapped[id(handler)] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Any) -> Any:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        inner: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        prepare = self._many if handler.request_streaming else self._one
        is_limited = handler.response_streaming and self._is_open
        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        call = _call(inner, partial(prepare, method), parse)
        return make(self._limited(call) if is_limited else call, None, serialize)

    def _limited(self, inner: Any) -> Any:
        """The same for so many at once."""
        if inspect.isasyncgenfunction(inner):

            async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:
                if self._is_full(context):
                    return
                self._streams += 1
                try:
                    async with aclosing(inner(requests, context)) as answers:
                        async for each in answers:
                            yield each
                finally:
                    self._streams -= 1

            return stream

        async def call(requests: Any, context: Context) -> Any:
            if self._is_full(context):
                return
            self._streams += 1
            try:
                await inner(requests, context)
            finally:
                self._streams -= 1

        return call

    def _is_full(self, context: Context) -> bool:
        if self._streams < STREAMS_OF_ANYBODY_MAX:
            return False
        _refuse(context, Busy("too many streams are open: try again"))
        return True

    async def _one(self, method: str, context: Context, parse: Callable[[bytes], Any]) -> Any:
        """The request; `_END`: the call has its status."""
        if self._guard is not None and not self._guard(method, context):
            return _END
        try:
            request = await self._read(context, parse)
            if request is _END:
                raise InvalidJob(NO_REQUEST)
        except TitanError as error:
            return _refuse(context, error)
        return request

    async def _many(self, method: str, context: Context, parse: Callable[[bytes], Any]) -> Any:
        """The requests of a stream, of which the first that cannot be read is the last."""
        if self._guard is not None and not self._guard(method, context):
            return _END
        return self._requests(context, parse)

    async def _requests(
        self, context: Context, parse: Callable[[bytes], Any]
    ) -> AsyncIterator[Any]:
        # Whoever has said who he is may take his time between two of them.
        is_bounded = True
        while True:
            try:
                if is_bounded:
                    request = await self._read(context, parse)
                else:
                    request = _parsed(parse, await context.read())
            except InvalidJob as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except Busy as error:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), trailers_of(error)
                )
            if request is _END:
                return
            is_bounded = self._is_open
            yield request

    async def _read(self, context: Context, parse: Callable[[bytes], Any]) -> Any:
        """Raises InvalidJob, Busy."""
        who = self._whose(context)
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._places.take(who)
        except TimeoutError as error:
            raise Busy("too many requests are being read: try again") from error
        try:
            data = await _read_in_time(context)
        finally:
            self._places.leave(who)
        return _parsed(parse, data)


class Guarding:
    """A server for generated functions that add handlers to one: it gets them behind a guard."""

    def __init__(
        self, server: grpc.aio.Server, guard: Guard, *, at_once: int, is_open: bool = False
    ) -> None:
        self._server = server
        self._guard = guard
        self._at_once = at_once
        self._is_open = is_open

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """As of a server."""
        self._server.add_generic_rpc_handlers(
            tuple(
                ReadingHandlers(
                    each, guard=self._guard, at_once=self._at_once, is_open=self._is_open
                )
                for each in handlers
            )
        )

    def add_registered_method_handlers(self, name: str, handlers: object) -> None:
        """They are served as generic ones."""


async def read_message(context: Context) -> bytes:
    """The one message of a call. Raises InvalidJob."""
    message = await _read_in_time(context)
    if not isinstance(message, bytes):
        raise InvalidJob(NO_REQUEST)
    return message


async def _read_in_time(context: Context) -> Any:
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await context.read()
    except TimeoutError as error:
        raise InvalidJob(f"no request came within {READ_SECONDS:g} s of its call") from error


def _parsed(parse: Callable[[bytes], Any], data: Any) -> Any:
    """`_END` where there is no more. Raises InvalidJob."""
    if data is grpc.aio.EOF:
        return _END
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidJob(UNREADABLE) from error


def _call(inner: Any, prepare: Any, parse: Callable[[bytes], Any]) -> Any:
    """A handler of a stream of requests; like the inner one a generator of answers, or none."""
    if inspect.isasyncgenfunction(inner):

        async def stream(_requests: Any, context: Context) -> AsyncIterator[Any]:
            request = await prepare(context, parse)
            if request is _END:
                return
            async with aclosing(inner(request, context)) as answers:
                del request
                async for each in answers:
                    yield each

        return stream

    async def call(_requests: Any, context: Context) -> Any:
        request = await prepare(context, parse)
        return None if request is _END else await inner(request, context)

    return call


def _refuse(context: Context, error: TitanError) -> Any:
    context.set_code(status_of(error))
    context.set_details(str(error))
    context.set_trailing_metadata(trailers_of(error))
    return _END
