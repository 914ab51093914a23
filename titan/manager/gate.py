"""The one way in and out of the manager's services.

In: a call of who may not make it gets no further (`entry.py`) and is not read, and one that changes
jobs no sooner than `admission.py` lets it. Out: whatever a handler answers, or refuses, leaves when
everything that it may depend on is durable (invariant 7). And neither way while the manager does
not lead (`leadership.py`): that is looked at before each step of a handler, and last of all before
anything leaves. Handlers are plain functions; only those that have to ask another process wait by
themselves.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from titan.errors import Busy, InvalidJob, NotFound, NotLeader, TitanError
from titan.manager import permissions
from titan.manager.admission import Admission, Place
from titan.manager.entry import Context, Entry
from titan.manager.history_sync import HistorySync
from titan.manager.lapse import Lapse
from titan.manager.leadership import ALONE
from titan.manager.shell import Shell
from titan.rpc.reading import UNREADABLE, read_message

Request = TypeVar("Request")
Reply = TypeVar("Reply")
# What a handler does in several turns of the loop. Where a step yields something to be awaited it
# is, outside of any turn, and if that fails so does the call.
Steps = Generator[Awaitable[None] | None, None, Any]


class Gate:
    """Wraps handlers for one manager. Each is told which method of the service it answers."""

    def __init__(self, shell: Shell, entry: Entry, history: HistorySync | None = None) -> None:
        """With `history` a submit is answered when it has its rows, too."""
        self._shell = shell
        self.entry: Final = entry
        self._history = history
        # Places of calls that have gone, until what they changed is durable.
        self._leaving: set[asyncio.Task[None]] = set()

    def lets_in(self, method: str, context: Context) -> bool:
        """Whether the request of that call is to be read; if not the call has its status.

        Who calls is entered for the handler. All but what is `admitted` comes through here first.
        """
        if not self.entry.lets_in(method, context):
            return False
        try:
            self._shell.check_leads()
        except NotLeader as error:
            self.entry.send_away(method, context, error)
            return False
        return True

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
            with self.entry.measure(method, context):
                try:
                    self._check(request)
                    answer = handler(request)
                    reply = await answer if inspect.isawaitable(answer) else answer
                    if waits:
                        await shell.wait_durable(shell.lsn)
                    else:
                        shell.check_leads()
                except TitanError as error:
                    return self.entry.refuse(method, context, await self._durable(error))
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
            with self.entry.measure(method, context):
                try:
                    self.entry.let_in(method, context)
                    self._shell.check_leads()
                    place = await admission.enter(context.peer)
                except TitanError as error:
                    # Nothing was looked at that could depend on anything.
                    return self.entry.refuse(method, context, error)
                reply = await self._decide(method, handler, parse, place, context)
                if self._history is None or reply is None:
                    return reply
                # Its place at the door is free by now: whoever waits here holds up nobody.
                try:
                    await self._history.wait(reply)
                    self._shell.check_leads()
                except TitanError as error:
                    return self.entry.refuse(method, context, self._now(error))
                return reply

        return call

    def stream(
        self, method: str, handler: Callable[[Request], AsyncIterator[Reply]]
    ) -> Callable[[Request, Context], AsyncIterator[Reply]]:
        """A call with a stream of answers."""
        shell = self._shell

        async def call(request: Request, context: Context) -> AsyncIterator[Reply]:
            with self.entry.measure(method, context):
                try:
                    self._check(request)
                    async with aclosing(self._replies(handler(request), context)) as replies:
                        async for reply in replies:
                            await shell.wait_durable(shell.lsn)
                            # It may have lasted for days: he may be nobody any more.
                            self.entry.let_in(method, context)
                            yield reply
                    # That there is no more says something as well.
                    await shell.wait_durable(shell.lsn)
                except TitanError as error:
                    self.entry.refuse(method, context, await self._durable(error))

        return call

    async def _replies(
        self, replies: AsyncIterator[Reply], context: Context
    ) -> AsyncGenerator[Reply, None]:
        """The same, as long as the caller is one and the manager leads.

        Raises AccessDenied, NotLeader after that.
        """
        if self.entry.is_lasting and self._shell.leadership is ALONE:
            async for reply in replies:
                yield reply
            return
        with Lapse(lambda: self._look(context)) as lapse:
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
            with self.entry.measure(method, context):
                try:
                    permissions.known_caller()
                    self._shell.check_leads()
                    reply = await handler(requests)
                    self._shell.check_leads()
                except TitanError as error:
                    return self.entry.refuse(method, context, self._now(error))
                return reply

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
            answer = await _take_turns(place, steps, shell.check_leads)
            reply = await answer if inspect.isawaitable(answer) else answer
            await shell.wait_durable(shell.lsn)
        except Busy as error:
            # It saw nothing that anything depends on.
            return self.entry.refuse(method, context, self._now(error))
        except TitanError as error:
            return self.entry.refuse(method, context, await self._durable(error))
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
            with suppress(NotLeader):
                await self._shell.wait_durable(self._shell.lsn)

        leaving = asyncio.create_task(wait())
        self._leaving.add(leaving)

        def leave(task: asyncio.Task[None]) -> None:
            self._leaving.discard(task)
            place.leave()

        leaving.add_done_callback(leave)

    async def _durable(self, error: TitanError) -> TitanError:
        """What a call is refused with, when all is durable that this may depend on."""
        try:
            await self._shell.wait_durable(self._shell.lsn)
        except NotLeader as not_leader:
            return not_leader
        return error

    def _now(self, error: TitanError) -> TitanError:
        """What a call is refused with at this moment, where it depends on nothing."""
        try:
            self._shell.check_leads()
        except NotLeader as not_leader:
            return not_leader
        return error

    def _look(self, context: Context) -> None:
        """Raises AccessDenied, NotLeader."""
        self.entry.identify(context)
        self._shell.check_leads()

    def _check(self, request: Any) -> None:
        permissions.sign(request)
        # It may have taken a while to read.
        self._shell.check_leads()
        at_least = getattr(request, "at_least_lsn", 0)
        if at_least > self._shell.lsn:
            raise NotFound(
                f"this manager's log ends at {self._shell.lsn}, before {at_least}: "
                "it is another one, or an older copy"
            )


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


async def _take_turns(place: Place, steps: Steps, check: Callable[[], None]) -> Any:
    """What the steps come to, each of them in a turn of its own and after a `check`.

    Raises what that does, and Busy before the first.
    """
    loop = asyncio.get_running_loop()
    try:
        while True:
            await place.wait_turn()
            check()
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
