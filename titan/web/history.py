"""What is asked of all that ever ran: the manager passes it on to its history in SQL."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from titan.accounting import ENDS, GROUPS, RUNNING, SOURCES
from titan.client import accounting
from titan.client.accounting import Filter
from titan.client.aio_history import AioHistoryCalls
from titan.client.aio_session import AioSession
from titan.client.views import View
from titan.errors import Refused, TitanError
from titan.rpc import history as messages
from titan.web.answers import Answer, Query, encode
from titan.web.api import Call
from titan.web.live import Shared

DAY_SECONDS: Final = 86_400.0
ROWS_MAX: Final = 10_000
SLOTS_MAX: Final = 1_000
# Whether one is written is asked so seldom, and waited for no longer than that.
KNOWN_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 1.0
# How bars are, a letter each: as of tasks, and what becomes of attempts alone.
BAR_LETTERS: Final = {
    RUNNING: "R",
    "COMPLETED": "C",
    "FAILED": "F",
    "CANCELLED": "X",
    "LOST": "L",
    "RECALLED": "P",
    "UNKNOWN": "U",
}
assert set(BAR_LETTERS) == {RUNNING, *ENDS}


class _Calls(AioHistoryCalls):
    def __init__(self, session: AioSession) -> None:
        self._session = session


class History:
    """The handlers of /history and /timeline."""

    def __init__(self, session: AioSession) -> None:
        self._session = session
        self._calls = _Calls(session)
        self._is_written = Shared(self._ask_whether_written, KNOWN_SECONDS)

    async def is_written(self) -> bool:
        """Whether the manager writes one, as far as it can be told soon."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._is_written.get()
        except (TitanError, TimeoutError):
            return False

    async def usage(self, call: Call) -> View:
        """How busy the cluster was."""
        query = call.query
        since, until = _stretch(query)
        slots = query.number("count", 60, 1, SLOTS_MAX)
        query.check_all_read()
        return await self._calls.usage(since, until, slots=slots)

    async def totals(self, call: Call) -> list[View]:
        """Cpu-hours by user, day or worker."""
        query = call.query
        by = query.choice("by", *GROUPS) or "user"
        since, until, which = query.time("since"), query.time("until"), _filter(query)
        query.check_all_read()
        answer = await self._calls.history_totals(by, since=since, until=until, **which)
        return answer.rows

    async def attempts(self, call: Call) -> list[View]:
        """Attempts that ended, the last first or the slowest."""
        query = call.query
        since, until, which = query.time("since"), query.time("until"), _filter(query)
        limit = query.number("limit", 1000, 1, ROWS_MAX)
        slowest = query.flag("slowest")
        query.check_all_read()
        answer = await self._calls.history(
            since=since, until=until, limit=limit, slowest=slowest, **which
        )
        return answer.rows

    async def failing(self, call: Call) -> list[View]:
        """Names under which most attempts failed."""
        query = call.query
        since, until, which = query.time("since"), query.time("until"), _filter(query)
        limit = query.number("limit", 100, 1, ROWS_MAX)
        query.check_all_read()
        answer = await self._calls.history_failing(since=since, until=until, limit=limit, **which)
        return answer.rows

    async def timeline(self, call: Call) -> Answer:
        """What ran when and where, in columns."""
        query = call.query
        since, until = _stretch(query)
        which = _filter(query)
        limit = query.number("limit", messages.BARS_MAX, 1, messages.BARS_MAX)
        query.check_all_read()
        request = accounting.history_request(
            since, until, timeline=accounting.timeline_question(limit), **which
        )
        pages = await self._session.history(request)
        # Some hundred thousand bars take a while, in which others are to be answered.
        body = await asyncio.to_thread(lambda: _timeline(messages.timeline_of(pages), since, until))
        return Answer(body)

    async def _ask_whether_written(self) -> bool:
        now = time.time()
        try:
            await self._calls.history(since=now - 1, until=now, limit=1)
        except Refused:
            return False
        return True


def _stretch(query: Query) -> tuple[float, float]:
    """From when to when; without a word the last day."""
    until = query.time("until")
    until = time.time() if until is None else until
    since = query.time("since")
    return (until - DAY_SECONDS if since is None else since), until


def _filter(query: Query) -> Filter:
    job = query.number("job", 0)
    return Filter(
        user=query.text("user"),
        name=query.text("name"),
        worker=query.text("worker"),
        state=query.texts("state"),
        job=job or None,
        source=query.choice("source", *SOURCES),
    )


def _timeline(found: Any, since: float, until: float) -> bytes:
    """The bars in JSON: times in seconds after `since`, states a letter each."""
    users: dict[str, int] = {}
    jobs = [
        {
            "job_id": job["job_id"],
            "name": job["name"],
            "user": users.setdefault(job["user"], len(users)),
        }
        for job in found["jobs"]
    ]
    bars = found["bars"]
    letters = [BAR_LETTERS.get(each, BAR_LETTERS["UNKNOWN"]) for each in found["states"]]
    return encode(
        {
            "lsn": found["lsn"],
            "time": found["time"],
            "since": since,
            "until": until,
            "more": found["more"],
            "workers": found["workers"],
            "users": list(users),
            "jobs": jobs,
            "bars": {
                "worker": bars["worker"],
                "job": bars["job"],
                "index": bars["index"],
                "attempt": bars["attempt"],
                "start": [round(each - since, 3) for each in bars["start_time"]],
                "end": [
                    None if each is None else round(each - since, 3) for each in bars["end_time"]
                ],
                "state": "".join(letters[each] for each in bars["state"]),
            },
        }
    )
