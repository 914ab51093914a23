"""The one way in and out of the manager's services.

In: a call without the access token gets no further and is not read, and one that changes jobs no
sooner than `admission.py` lets it. Out: whatever a handler answers, or refuses, leaves when
everything that it may depend on is durable (invariant 7). Handlers are plain functions; only those
that have to ask another process wait by themselves.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from titan.errors import AccessDenied, Busy, InvalidJob, NotFound, TitanError
from titan.manager.admission import Admission, Place
from titan.manager.shell import Shell
from titan.rpc import access, tokens
from titan.rpc.reading import UNREADABLE, read_message
from titan.rpc.status import status_of, trailers_of

_log = logging.getLogger("titan.rpc")

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[Any, Any]

# A sentence goes in a header, of which peers take 8 KiB, and a byte takes three there if it isn't
# ASCII. It may repeat what it is about, which may have had 16 MiB.
DETAILS_BYTES_MAX: Final = 2_500

_NO_TOKEN = f"{access.no_token_text('manager')}, or name it with --access FILE"


class Gate:
    """Wraps handlers for one manager."""

    def __init__(self, shell: Shell, token: str) -> None:
        self._shell = shell
        self._token = token
        # Places of calls that have gone, until what they changed is durable.
        self._leaving: set[asyncio.Task[None]] = set()

    def lets_in(self, context: Context) -> bool:
        """Whether the request of that call is to be read; if not the call has its status."""
        try:
            self._check_token(context)
        except TitanError as error:
            _refused(context, error)
            return False
        return True

    def unary(
        self, handler: Callable[[Request], Reply | Awaitable[Reply]], *, waits: bool = True
    ) -> Callable[[Request, Context], Awaitable[Reply]]:
        """A call with one answer; without `waits` it says nothing, and goes at once."""
        shell = self._shell

        async def call(request: Request, context: Context) -> Any:
            try:
                self._check(request, context)
                answer = handler(request)
                reply = await answer if inspect.isawaitable(answer) else answer
            except TitanError as error:
                await shell.wait_durable(shell.lsn)
                return _refused(context, error)
            if waits:
                await shell.wait_durable(shell.lsn)
            return reply

        return call

    def admitted(
        self,
        handler: Callable[[Request], Any],
        parse: Callable[[bytes], Request],
        admission: Admission,
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
        """A call with one answer that waits for its turn at that door.

        Its handler may be a generator: between its steps others take their turns. The call is to
        be served as one with a stream of requests, which takes bytes: then its message is read
        when it may come in, and not before.
        """

        async def call(_requests: AsyncIterator[bytes], context: Context) -> Any:
            try:
                self._check_token(context)
                place = await admission.enter(context.peer)
            except TitanError as error:
                # Nothing was looked at that could depend on anything.
                return _refused(context, error)
            return await self._decide(handler, parse, place, context)

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
                _refused(context, error)

        return call

    def incoming(
        self, handler: Callable[[AsyncIterator[Request]], Awaitable[Reply]]
    ) -> Callable[[AsyncIterator[Request], Context], Awaitable[Reply]]:
        """A call with a stream of requests, whose answer says nothing of the state."""

        async def call(requests: AsyncIterator[Request], context: Context) -> Any:
            try:
                self._check(None, context)
                return await handler(requests)
            except TitanError as error:
                return _refused(context, error)

        return call

    async def _decide(
        self,
        handler: Callable[[Request], Any],
        parse: Callable[[bytes], Request],
        place: Place,
        context: Context,
    ) -> Any:
        shell = self._shell
        has_gone = False
        try:
            message = await read_message(context)
            place.note_read(len(message))
            steps = _steps(handler, parse, message)
            del message
            answer = await _take_turns(place, steps)
            reply = await answer if inspect.isawaitable(answer) else answer
            await shell.wait_durable(shell.lsn)
        except Busy as error:
            # It saw nothing that anything depends on.
            return _refused(context, error)
        except TitanError as error:
            await shell.wait_durable(shell.lsn)
            return _refused(context, error)
        except asyncio.CancelledError:
            has_gone = True
            raise
        finally:
            if has_gone:
                self._leave_when_durable(place)
            else:
                place.leave()
        return reply

    def _leave_when_durable(self, place: Place) -> None:
        """Frees the place of a caller that has gone when all is durable that he may have written.

        Else those that come and go while the disk stands still would fill the memory.
        """

        async def wait() -> None:
            # What is waited for never falls, so it is what it is when the waiting begins.
            await self._shell.wait_durable(self._shell.lsn)

        leaving = asyncio.create_task(wait())
        self._leaving.add(leaving)

        def leave(task: asyncio.Task[None]) -> None:
            self._leaving.discard(task)
            place.leave()

        leaving.add_done_callback(leave)

    def _check_token(self, context: Context) -> None:
        if not tokens.is_granted(context.invocation_metadata(), self._token):
            _log.warning("a call without the access token peer=%s", context.peer())
            raise AccessDenied(_NO_TOKEN)

    def _check(self, request: Any, context: Context) -> None:
        self._check_token(context)
        at_least = getattr(request, "at_least_lsn", 0)
        if at_least > self._shell.lsn:
            raise NotFound(
                f"this manager's log ends at {self._shell.lsn}, before {at_least}: "
                "it is another one, or an older copy"
            )


def _refused(context: Context, error: TitanError) -> Any:
    """What a handler returns that refuses.

    Not by `abort`: the exception that it raises is kept with the call, and keeps the call's frame
    with all that is in it, a circle that nobody but the garbage collector breaks.
    """
    context.set_code(status_of(error))
    context.set_details(_fitting(str(error)))
    context.set_trailing_metadata(trailers_of(error))
    return None


def _fitting(sentence: str) -> str:
    data = sentence.encode()
    if len(data) <= DETAILS_BYTES_MAX:
        return sentence
    return data[:DETAILS_BYTES_MAX].decode(errors="ignore") + "…"


def _steps(
    handler: Callable[[Request], Any], parse: Callable[[bytes], Request], message: bytes
) -> Generator[None, None, Any]:
    """What the handler does, which is one step or, if it is a generator, its own."""
    try:
        request = parse(message)
        del message
    except DecodeError as error:
        raise InvalidJob(UNREADABLE) from error
    answer = handler(request)
    return (yield from answer) if inspect.isgenerator(answer) else answer


async def _take_turns(place: Place, steps: Generator[None, None, Any]) -> Any:
    """What the steps come to, each of them in a turn of its own. Raises Busy before the first."""
    loop = asyncio.get_running_loop()
    while True:
        await place.wait_turn()
        start = loop.time()
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        finally:
            place.note_turn(loop.time() - start)
