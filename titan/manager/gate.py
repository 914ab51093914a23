"""The one way in and out of the manager's services.

In: a call without the access token gets no further. Out: whatever a handler answers, or
refuses, leaves when everything that it may depend on is durable (invariant 7). Handlers
are plain functions; only those that have to ask another process wait by themselves.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from titan.errors import AccessDenied, NotFound, TitanError
from titan.manager.shell import Shell
from titan.rpc import access, tokens
from titan.rpc.status import status_of, trailers_of

_log = logging.getLogger("titan.rpc")

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[Any, Any]

_NO_TOKEN = f"{access.no_token_text('manager')}, or name it with --access FILE"


class Gate:
    """Wraps handlers for one manager."""

    def __init__(self, shell: Shell, token: str) -> None:
        self._shell = shell
        self._token = token

    def unary(
        self, handler: Callable[[Request], Reply | Awaitable[Reply]], *, waits: bool = True
    ) -> Callable[[Request, Context], Awaitable[Reply]]:
        """A call with one answer; without `waits` it says nothing, and goes at once."""
        shell = self._shell

        async def call(request: Request, context: Context) -> Reply:
            try:
                self._check(request, context)
                answer = handler(request)
                reply = await answer if inspect.isawaitable(answer) else answer
            except TitanError as error:
                await shell.wait_durable(shell.lsn)
                await context.abort(status_of(error), str(error), trailers_of(error))
            if waits:
                await shell.wait_durable(shell.lsn)
            return reply

        return call

    def stream(
        self, handler: Callable[[Request], AsyncIterator[Reply]]
    ) -> Callable[[Request, Context], AsyncIterator[Reply]]:
        """A call with a stream of answers."""
        shell = self._shell

        async def call(request: Request, context: Context) -> AsyncIterator[Reply]:
            try:
                self._check(request, context)
                async for reply in handler(request):
                    await shell.wait_durable(shell.lsn)
                    yield reply
            except TitanError as error:
                await shell.wait_durable(shell.lsn)
                await context.abort(status_of(error), str(error), trailers_of(error))

        return call

    def incoming(
        self, handler: Callable[[AsyncIterator[Request]], Awaitable[Reply]]
    ) -> Callable[[AsyncIterator[Request], Context], Awaitable[Reply]]:
        """A call with a stream of requests, whose answer says nothing of the state."""

        async def call(requests: AsyncIterator[Request], context: Context) -> Reply:
            try:
                self._check(None, context)
                return await handler(requests)
            except TitanError as error:
                await context.abort(status_of(error), str(error), trailers_of(error))
                raise AssertionError from error

        return call

    def _check(self, request: Any, context: Context) -> None:
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            _log.warning("a call without the access token peer=%s", context.peer())
            raise AccessDenied(_NO_TOKEN)
        at_least = getattr(request, "at_least_lsn", 0)
        if at_least > self._shell.lsn:
            raise NotFound(
                f"this manager's log ends at {self._shell.lsn}, before {at_least}: "
                "it is another one, or an older copy"
            )
