"""The one way in and out of the manager's services.

In: a call of who may not make it gets no further (`callers.py`, `permissions.py`) and is not read,
and one that changes jobs no sooner than `admission.py` lets it. Out: whatever a handler answers, or
refuses, leaves when everything that it may depend on is durable (invariant 7). Handlers are plain
functions; only those that have to ask another process wait by themselves.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from titan.errors import AccessDenied, Busy, InvalidJob, NotFound, PermissionDenied, TitanError
from titan.manager import caller, permissions
from titan.manager.admission import Admission, Place
from titan.manager.caller import NOBODY
from titan.manager.callers import Callers
from titan.manager.history_sync import HistorySync
from titan.manager.lapse import Lapse
from titan.manager.shell import Shell
from titan.metrics.calls import Calls
from titan.rpc.audit import Audit
from titan.rpc.reading import UNREADABLE, read_message
from titan.rpc.status import status_of, trailers_of

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[Any, Any]
# What a handler does in several turns of the loop. Where a step yields something to be awaited it
# is, outside of any turn, and if that fails so does the call.
Steps = Generator[Awaitable[None] | None, None, Any]

# A sentence goes in a header, of which peers take 8 KiB, and a byte takes three there if it isn't
# ASCII. It may repeat what it is about, which may have had 16 MiB.
DETAILS_BYTES_MAX: Final = 2_500
_UNMEASURED: Final = nullcontext()


class Gate:
    """Wraps handlers for one manager. Each is told which method of the service it answers."""

    def __init__(
        self,
        shell: Shell,
        callers: Callers,
        audit: Audit | None = None,
        history: HistorySync | None = None,
        calls: Calls | None = None,
    ) -> None:
        """With `history` a submit is answered when it has its rows, too; `calls` counts them, if
        somebody is to."""
        self._shell = shell
        self._callers = callers
        self._audit = audit or Audit()
        self._history = history
        self._calls = calls
        # Places of calls that have gone, until what they changed is durable.
        self._leaving: set[asyncio.Task[None]] = set()

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether the request of that call is to be read; if not the call has its status.

        Who calls is entered for the handler. All but what is `admitted` comes through here first.
        """
        try:
            self._let_in(method, context)
        except TitanError as error:
            self._refused(method, context, error)
            if self._calls is not None:
                self._calls.note(method, status_of(error).name)
            return False
        return True

    def whose(self, context: Context) -> str:
        """Whose call it is that was let in: over how many connections does not count, if proven."""
        who = caller.current()
        return str(who) if who.is_proven else context.peer()

    def lets_in_open(self, service: str, context: Context) -> bool:
        """The same for gRPC's own services, which may be anybody's."""
        return self._callers.are_open or self.lets_in(service, context)

    def unary(
        self,
        method: str,
        handler: Callable[[Request], Reply | Awaitable[Reply]],
        *,
        waits: bool = True,
    ) -> Callable[[Request, Context], Awaitable[Reply]]:
        """A call with one answer; without `waits` it says nothing, and goes at once."""
        shell = self._shell

        async def call(request: Request, context: Context) -> Any:
            with self._measure(method, context):
                try:
                    self._check(request)
                    answer = handler(request)
                    reply = await answer if inspect.isawaitable(answer) else answer
                except TitanError as error:
                    await shell.wait_durable(shell.lsn)
                    return self._refused(method, context, error)
                if waits:
                    await shell.wait_durable(shell.lsn)
                return reply

        return call

    def admitted(
        self,
        method: str,
        handler: Callable[[Request], Any],
        parse: Callable[[bytes], Request],
        admission: Admission,
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
        """A call with one answer that waits for its turn at that door.

        Its handler may be a generator (`Steps`): between its steps others take turns. The call is
        to be served as one with a stream of requests, which takes bytes: then its message is read
        when it may come in, and not before.
        """

        async def call(_requests: AsyncIterator[bytes], context: Context) -> Any:
            with self._measure(method, context):
                try:
                    self._let_in(method, context)
                    place = await admission.enter(context.peer)
                except TitanError as error:
                    # Nothing was looked at that could depend on anything.
                    return self._refused(method, context, error)
                reply = await self._decide(method, handler, parse, place, context)
                if self._history is None or reply is None:
                    return reply
                # Its place at the door is free by now: whoever waits here holds up nobody.
                try:
                    await self._history.wait(reply)
                except TitanError as error:
                    return self._refused(method, context, error)
                return reply

        return call

    def stream(
        self, method: str, handler: Callable[[Request], AsyncIterator[Reply]]
    ) -> Callable[[Request, Context], AsyncIterator[Reply]]:
        """A call with a stream of answers."""
        shell = self._shell

        async def call(request: Request, context: Context) -> AsyncIterator[Reply]:
            with self._measure(method, context):
                try:
                    self._check(request)
                    async with aclosing(self._replies(handler(request), context)) as replies:
                        async for reply in replies:
                            await shell.wait_durable(shell.lsn)
                            # It may have lasted for days: he may be nobody any more.
                            self._let_in(method, context)
                            yield reply
                except TitanError as error:
                    await shell.wait_durable(shell.lsn)
                    self._refused(method, context, error)

        return call

    async def _replies(
        self, replies: AsyncIterator[Reply], context: Context
    ) -> AsyncGenerator[Reply, None]:
        """The same, as long as the caller is one. Raises AccessDenied after that."""
        if self._callers.are_open:
            # The one token that there is counts as long as the manager runs.
            async for reply in replies:
                yield reply
            return
        with Lapse(lambda: self._callers.identify(context)) as lapse:
            while True:
                try:
                    reply = await lapse.next(replies)
                except StopAsyncIteration:
                    return
                yield reply

    def incoming(
        self, method: str, handler: Callable[[AsyncIterator[Request]], Awaitable[Reply]]
    ) -> Callable[[AsyncIterator[Request], Context], Awaitable[Reply]]:
        """A call with a stream of requests, whose answer says nothing of the state."""

        async def call(requests: AsyncIterator[Request], context: Context) -> Any:
            with self._measure(method, context):
                try:
                    permissions.known_caller()
                    return await handler(requests)
                except TitanError as error:
                    return self._refused(method, context, error)

        return call

    async def _decide(
        self,
        method: str,
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
            return self._refused(method, context, error)
        except TitanError as error:
            await shell.wait_durable(shell.lsn)
            return self._refused(method, context, error)
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

    def _measure(self, method: str, context: Context) -> AbstractContextManager[object]:
        return _UNMEASURED if self._calls is None else self._calls.measure(method, context)

    def _let_in(self, method: str, context: Context) -> None:
        """Finds out who calls, and enters it. Raises AccessDenied, PermissionDenied."""
        # What is refused before it is known who calls is nobody's.
        caller.enter(NOBODY)
        who = self._callers.identify(context)
        caller.enter(who)
        permissions.check_method(method, who)

    def _refused(self, method: str, context: Context, error: TitanError) -> Any:
        """What a handler returns that refuses."""
        if isinstance(error, AccessDenied | PermissionDenied):
            who = str(caller.current())
            self._audit.denied(who=who, what=method, peer=context.peer(), why=str(error))
        return _refuse(context, error)

    def _check(self, request: Any) -> None:
        permissions.sign(request)
        at_least = getattr(request, "at_least_lsn", 0)
        if at_least > self._shell.lsn:
            raise NotFound(
                f"this manager's log ends at {self._shell.lsn}, before {at_least}: "
                "it is another one, or an older copy"
            )


def _refuse(context: Context, error: TitanError) -> Any:
    """Not by `abort`: the exception that it raises is kept with the call, and keeps the call's
    frame with all that is in it, a circle that nobody but the garbage collector breaks.
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
) -> Steps:
    """What the handler does, which is one step or, if it is a generator, its own."""
    try:
        request = parse(message)
        del message
        permissions.sign(request)
    except DecodeError as error:
        raise InvalidJob(UNREADABLE) from error
    answer = handler(request)
    return (yield from answer) if inspect.isgenerator(answer) else answer


async def _take_turns(place: Place, steps: Steps) -> Any:
    """What the steps come to, each of them in a turn of its own. Raises Busy before the first."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            await place.wait_turn()
            start = loop.time()
            try:
                waited_for = next(steps)
            except StopIteration as end:
                return end.value
            finally:
                place.note_turn(loop.time() - start)
            if waited_for is not None:
                await waited_for
    finally:
        # Whoever called may have gone, and what was begun for him is to be put away now.
        steps.close()
