"""What the agent asks its task host: to start programs for clients, and what it has.

Beside the core, which deals with the manager's attempts: nothing here is reported to anybody.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias, TypeVar

from titan.model import AttemptKey, HeldAttempt, HeldState, Stop
from titan.worker import protocol
from titan.worker.agent.host_process import HostConnection
from titan.worker.messages import Environment, Launch

# The host answers within a turn of its loop, which takes milliseconds even when it is busy.
ANSWER_SECONDS: Final = 5.0

_Question: TypeAlias = protocol.StartDirect | protocol.Describe
_Answer: TypeAlias = protocol.DirectStarted | protocol.Described
_T = TypeVar("_T", protocol.DirectStarted, protocol.Described)


class NotNow(Exception):
    """The host does not do it now; the text is a sentence for people."""


class TooMany(NotNow):
    """It would be more than the host runs at once."""


class HostQuestions:
    """The questions of one agent, to the host that it has at the moment."""

    def __init__(self) -> None:
        self._connection: HostConnection | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}
        self._live: set[AttemptKey] = set()

    @property
    def host_pid(self) -> int:
        """The parent of all tasks; 0: there is none now."""
        return self._connection.welcome.pid if self._connection else 0

    @property
    def live(self) -> Collection[AttemptKey]:
        """The programs that clients started and that have not ended."""
        return self._live

    def connected(self, connection: HostConnection) -> None:
        """A host was taken up."""
        self._connection = connection
        self._live = set(connection.welcome.direct)

    def lost(self) -> None:
        """The link to the host broke: what was asked is not answered."""
        self._connection = None
        self._live.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotNow("the task host went away"))
        self._waiting.clear()

    def take(self, message: protocol.Message) -> None:
        """The host said something that may be for here."""
        if isinstance(message, protocol.DirectEnded):
            self._live.discard(message.key)
        elif isinstance(message, protocol.DirectStarted | protocol.Described):
            # At once, and not when the asker is awake: the end may be the next message.
            if isinstance(message, protocol.DirectStarted):
                self._live.update(message.keys)
            future = self._waiting.pop(message.number, None)
            if future is not None and not future.done():
                future.set_result(message)

    def find_held(self, key: AttemptKey) -> HeldAttempt | None:
        """A program that a client started and that has not ended."""
        return HeldAttempt(key, HeldState.RUNNING, 0) if key in self._live else None

    async def start(
        self, environments: Sequence[Environment], launches: Sequence[Launch]
    ) -> tuple[AttemptKey, ...]:
        """Start programs now. Raises NotNow."""
        connection = self._connection
        is_old = connection is not None and connection.welcome.minor < protocol.MINOR_SECRETS
        if is_old and any(each.has_secrets for each in environments):
            raise NotNow(
                "the task host is of an older Titan and gives programs no secrets; a new one takes "
                "its place once its tasks have ended and the worker is stopped for a while"
            )
        question = protocol.StartDirect(next(self._numbers), tuple(environments), tuple(launches))
        answer = await self._ask(question, protocol.DirectStarted)
        if answer.sentence:
            raise (TooMany if answer.is_full else NotNow)(answer.sentence)
        return answer.keys

    async def describe(
        self, keys: Sequence[AttemptKey], after: AttemptKey | None, limit: int
    ) -> protocol.Described:
        """What is known of these, or of all after that one. Raises NotNow."""
        question = protocol.Describe(next(self._numbers), tuple(keys), after, limit)
        return await self._ask(question, protocol.Described)

    def stop(self, stops: Sequence[Stop]) -> None:
        """Stop programs that clients started."""
        if self._connection is not None:
            self._connection.send(protocol.StopTasks(tuple(stops)))

    async def _ask(self, question: _Question, kind: type[_T]) -> _T:
        connection = self._connection
        if connection is None:
            raise NotNow("there is no task host at the moment; one is being started")
        if connection.welcome.minor < protocol.MINOR_DIRECT:
            raise NotNow(
                f"the task host (pid {connection.welcome.pid}) is of an older Titan and cannot do "
                "this; a new one takes its place once its tasks have ended and the worker is "
                "stopped for a while"
            )
        future = asyncio.get_running_loop().create_future()
        self._waiting[question.number] = future
        connection.send(question)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await future
        except TimeoutError as error:
            raise NotNow(f"the task host did not answer within {ANSWER_SECONDS:g} s") from error
        finally:
            self._waiting.pop(question.number, None)
        assert isinstance(answer, kind), answer
        return answer
