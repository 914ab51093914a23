"""The manager watched once for all who look, and only while somebody does.

Each viewer is a position in what changed (`recent.py`). One who comes with a position that is
not remembered here any more is answered by a watch of his own from there, up to now. The cluster
in numbers is asked for once a second at most, less often where the answer takes long to make.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from titan.client.aio_session import AioSession
from titan.client.cursors import WatchCursor
from titan.client.views import View, job_view, stats_view, worker_view
from titan.errors import Busy, TitanError
from titan.logs import LogLine
from titan.rpc.v1 import manager_pb2
from titan.web.answers import encode
from titan.web.recent import Position, Recent, event, jobs_events
from titan.web.streams import ALIVE, ALIVE_SECONDS

_log = logging.getLogger("titan.web")

T = TypeVar("T")

VIEWERS_MAX: Final = 200
# The manager tells what changes no more often than that.
INTERVAL_MS: Final = 200
# Who reloads a page is back in less.
LINGER_SECONDS: Final = 30.0
POLL_SECONDS: Final = 1.0
# Of what it takes to answer it, the share of the time that the cluster may be asked for.
POLL_SHARE: Final = 1 / 50
POLL_SECONDS_MAX: Final = 10.0
AWAY_FIRST_SECONDS: Final = 0.1
AWAY_MAX_SECONDS: Final = 1.0
# What somebody who comes back is told at most; beyond that he is to look anew.
CATCH_UP_JOBS_MAX: Final = 10_000
CATCH_UP_SECONDS: Final = 20.0
CATCH_UPS_MAX: Final = 2
# They change all the time and mean nothing by themselves.
_RESTLESS: Final = frozenset({"lsn", "time"})
_RESET: Final = event("reset", b"{}")
# No cluster is called so.
_NOWHERE: Final = Position("", 0)


class Shared(Generic[T]):
    """The answer to a question that many ask: it is asked once, and good for a while."""

    def __init__(self, ask: Callable[[], Awaitable[T]], seconds: float = POLL_SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked: asyncio.Task[tuple[T, float]] | None = None

    async def get(self) -> T:
        """The answer, at most so many seconds old. Raises what asking raised."""
        now = asyncio.get_running_loop().time()
        asked = self._asked
        if asked is None or (asked.done() and not self._is_good(asked, now)):
            asked = self._asked = asyncio.create_task(self._ask_now())
            # It may fail when nobody waits for it any more.
            asked.add_done_callback(lambda each: each.cancelled() or each.exception())
        answer, _ = await asyncio.shield(asked)
        return answer

    def forget(self) -> None:
        """What was answered before counts no more."""
        self._asked = None

    def _is_good(self, asked: asyncio.Task[tuple[T, float]], now: float) -> bool:
        if asked.cancelled() or asked.exception() is not None:
            return False
        _, began = asked.result()
        return now - began < self._seconds

    async def _ask_now(self) -> tuple[T, float]:
        began = asyncio.get_running_loop().time()
        return await self._ask(), began


class Live:
    """What happens in the cluster, as server-sent events for any number of viewers."""

    def __init__(self, session: AioSession) -> None:
        """Asks nothing as long as nobody looks."""
        self._session = session
        self.stats: Shared[manager_pb2.GetStatsResponse] = Shared(session.stats)
        self.workers: Shared[manager_pb2.ListWorkersResponse] = Shared(session.workers)
        self.error: str | None = None
        """Why the manager can't be reached; None: it can, as far as is known."""
        self._recent: Recent | None = None
        # What was told to those who were caught up may be ahead of what is watched.
        self._caught_up_lsn = 0
        self._cluster = b""
        self._viewers: set[asyncio.Event] = set()
        self._tasks: list[asyncio.Task[None]] = []
        # Cancelled, and to be waited for.
        self._resting: list[asyncio.Task[None]] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._catching_up: dict[Position, asyncio.Task[tuple[list[bytes], Position]]] = {}
        self._catch_ups = asyncio.Semaphore(CATCH_UPS_MAX)
        self._is_closed = False

    @property
    def is_watching(self) -> bool:
        """Whether the manager is asked for anything."""
        return bool(self._tasks)

    async def close(self) -> None:
        """Ends all streams, and asks nothing more."""
        self._is_closed = True
        self._wake()
        await self._stop()

    def check_room(self) -> None:
        """Raises Busy when so many look that one more is too many."""
        if len(self._viewers) >= VIEWERS_MAX:
            raise Busy(f"{VIEWERS_MAX} pages are open already: close one of them")

    async def events(self, after: Position | None) -> AsyncGenerator[bytes, None]:
        """All that changes from now on, or from that position on, until this is closed."""
        changed = asyncio.Event()
        self._sit_down(changed)
        try:
            async with aclosing(self._tell(changed, after)) as told:
                async for each in told:
                    yield each
        finally:
            self._stand_up(changed)

    async def _tell(
        self, changed: asyncio.Event, after: Position | None
    ) -> AsyncGenerator[bytes, None]:
        # Where he is; None: nowhere yet.
        position = after
        cluster = b""
        error: str | None = None
        while not self._is_closed:
            changed.clear()
            if error != self.error:
                error = self.error
                yield event("manager", encode({"reachable": error is None, "error": error}))
            recent = self._recent
            if recent is not None:
                if position is None or not self._is_known(position, recent):
                    if position is not None:
                        yield _RESET
                    position = recent.position
                    yield event("hello", encode({"lsn": position.lsn}), position)
                events, position = await self._after(recent, position)
                for each in events:
                    yield each
                if position == _NOWHERE:
                    continue
            # Where he is comes first.
            if recent is not None and cluster != self._cluster:
                cluster = self._cluster
                yield cluster
            if not changed.is_set() and not await _is_set_within(changed, ALIVE_SECONDS):
                yield ALIVE

    def _is_known(self, position: Position, recent: Recent) -> bool:
        """Whether it is a position in the log of this cluster."""
        is_of_cluster = position.cluster_id == recent.position.cluster_id
        return is_of_cluster and position.lsn <= max(recent.lsn, self._caught_up_lsn)

    async def _after(self, recent: Recent, position: Position) -> tuple[Iterable[bytes], Position]:
        """What changed after that, and up to where: nowhere, if it can't be told any more."""
        events = recent.events_after(position.lsn)
        if events is not None:
            return events, max(position, recent.position)
        # Others may ask for the same.
        asked = self._catching_up.get(position)
        if asked is None:
            asked = asyncio.create_task(self._catch_up(position))
            self._catching_up[position] = asked
            asked.add_done_callback(lambda _: self._catching_up.pop(position, None))
        return await asyncio.shield(asked)

    async def _catch_up(self, position: Position) -> tuple[list[bytes], Position]:
        """The same by asking the manager, for a position that is forgotten here."""
        lsn = position.lsn
        cursor = WatchCursor(after_lsn=lsn)
        found: dict[int, manager_pb2.Job] = {}
        with suppress(TitanError, TimeoutError):
            async with (
                self._catch_ups,
                asyncio.timeout(CATCH_UP_SECONDS),
                aclosing(self._session.watch(cursor)) as changes,
            ):
                async for jobs in changes:
                    found.update((job.job_id, job) for job in jobs)
                    if len(found) > CATCH_UP_JOBS_MAX:
                        break
                    if cursor.lsn > lsn:
                        told = [encode(job_view(job)) for job in found.values()]
                        position = position._replace(lsn=cursor.lsn)
                        self._caught_up_lsn = max(self._caught_up_lsn, cursor.lsn)
                        return jobs_events(told, position), position
        return [], _NOWHERE

    def _sit_down(self, changed: asyncio.Event) -> None:
        self._viewers.add(changed)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if not self._tasks and not self._is_closed:
            self._tasks = [
                asyncio.create_task(self._watch()),
                asyncio.create_task(self._poll()),
            ]

    def _stand_up(self, changed: asyncio.Event) -> None:
        self._viewers.discard(changed)
        if not self._viewers and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(LINGER_SECONDS, self._rest)

    def _rest(self) -> None:
        """Nobody has looked for a while. Who comes next looks anew."""
        self._lingering = None
        for task in self._tasks:
            task.cancel()
        self._resting, self._tasks = self._tasks, []
        self._recent = None
        self._cluster = b""

    async def _stop(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        tasks = [*self._tasks, *self._resting, *self._catching_up.values()]
        self._tasks = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        for changed in self._viewers:
            changed.set()

    def _note_manager(self, error: str | None) -> None:
        if error is None or self.error is None:
            if error != self.error:
                change = "the manager is back" if error is None else "the manager is away"
                _log.info(LogLine(change, error=error))
            self.error = error
            self._wake()

    async def _watch(self) -> None:
        pause = AWAY_FIRST_SECONDS
        while True:
            try:
                recent = await self._begin()
                pause = AWAY_FIRST_SECONDS
                await self._follow(recent)
            except TitanError as error:
                self._note_manager(str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, AWAY_MAX_SECONDS)

    async def _begin(self) -> Recent:
        """Where the watch goes on: behind what is known, unless it is of another cluster."""
        stats = await self._session.stats()
        position = Position(str(UUID(bytes=stats.cluster_id)), stats.lsn)
        if self._recent is None or not _is_past(self._recent.position, position):
            self._recent = Recent(position)
            self._caught_up_lsn = 0
        self._note_manager(None)
        self._wake()
        return self._recent

    async def _follow(self, recent: Recent) -> None:
        """Until the manager is away."""
        cursor = WatchCursor(after_lsn=recent.lsn, interval_ms=INTERVAL_MS)
        found: dict[int, manager_pb2.Job] = {}
        watch = self._session.watch(cursor, retry_for_seconds=0)
        async with aclosing(watch) as changes:
            async for jobs in changes:
                found.update((job.job_id, job) for job in jobs)
                # Of a long answer only its end moves the position on.
                if cursor.lsn > recent.lsn:
                    told = [(job_id, encode(job_view(job))) for job_id, job in found.items()]
                    recent.put(told, cursor.lsn)
                    found.clear()
                    if told:
                        self._wake()

    async def _poll(self) -> None:
        """Asks for the cluster in numbers."""
        loop = asyncio.get_running_loop()
        before: Any = None
        while True:
            began = loop.time()
            with suppress(TitanError):
                stats, workers = await asyncio.gather(self.stats.get(), self.workers.get())
                view = {
                    "stats": stats_view(stats),
                    "workers": [worker_view(each) for each in workers.workers],
                }
                now = view | {"stats": _without(stats_view(stats), _RESTLESS)}
                if now != before:
                    before = now
                    self._cluster = event("cluster", encode(view))
                    self._wake()
            pause = (loop.time() - began) / POLL_SHARE
            await asyncio.sleep(min(max(pause, POLL_SECONDS), POLL_SECONDS_MAX))


def _is_past(position: Position, now: Position) -> bool:
    """Whether it is one of the same log that came before, or is the same."""
    return position.cluster_id == now.cluster_id and position.lsn <= now.lsn


def _without(view: View, keys: frozenset[str]) -> View:
    return {key: value for key, value in view.items() if key not in keys}


async def _is_set_within(changed: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    return True
