"""What is asked for: each handler makes one call of the manager and shows its answer as JSON.

The names and units are those of `titan … --json` (`titan.client.views`).
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from titan.client import requests, views
from titan.client.aio_session import AioSession
from titan.client.cursors import OutputCursor
from titan.client.retry import WORKER_PATIENCE_SECONDS
from titan.client.views import View
from titan.errors import Busy, TitanError
from titan.rpc.v1 import manager_pb2
from titan.web.answers import encode, job_of
from titan.web.api import Call
from titan.web.live import Live
from titan.web.recent import Position, event, parse_position
from titan.web.streams import EventStream, kept_alive

ATTEMPTS_MAX: Final = 10_000
EVENTS_MAX: Final = 10_000
# A page waits for so much of a job's story; it asks for the rest.
STORY_SECONDS: Final = 5.0
OUTPUTS_MAX: Final = 100
TASKS_MAX: Final = 1_000_000
WORKFLOW_MAX: Final = 1_000
TAIL_LINES_MAX: Final = 100_000
_INDEX_MAX: Final = 10_000_000
# No cluster is called so.
_UNKNOWN: Final = Position("unknown", 0)


class Dated(Protocol):
    """An answer that may be from the past."""

    @property
    def lsn(self) -> int:
        """Of the state that it tells of."""

    @property
    def at_us(self) -> int:
        """The time of that record; 0: it tells of now."""


class Reading:
    """The handlers of GET."""

    def __init__(self, session: AioSession, live: Live) -> None:
        self._session = session
        self._live = live
        self._outputs = 0

    async def stats(self, call: Call) -> View:
        """The cluster in numbers."""
        at = _only_at(call)
        stats = await (self._live.stats.get() if at is None else self._session.stats(at))
        return views.stats_view(stats) | dated(stats)

    async def workers(self, call: Call) -> View:
        """All workers."""
        at = _only_at(call)
        answer = await (self._live.workers.get() if at is None else self._session.workers(at))
        return dated(answer) | {"workers": [views.worker_view(each) for each in answer.workers]}

    async def jobs(self, call: Call) -> View:
        """A page of jobs."""
        query = call.query
        wanted = requests.job_filter(
            all=query.flag("all"),
            states=query.texts("state"),
            user=query.text("user"),
            name=query.text("name"),
        )
        request = manager_pb2.ListJobsRequest(
            filter=wanted,
            limit=query.number("limit", requests.PAGE_JOBS_MAX, 1, requests.PAGE_JOBS_MAX),
            after_job_id=query.number("after", 0),
            before_job_id=query.number("before", 0),
            at=query.at(),
        )
        query.check_all_read()
        answer = await self._session.page(request)
        jobs = [views.job_view(job) for job in answer.jobs]
        return dated(answer) | {"jobs": jobs, "more": answer.more}

    async def job(self, call: Call) -> View:
        """A job with some of its attempts."""
        query = call.query
        request = requests.status_request(
            job_of(call.request),
            user="",
            attempts=query.number("attempts", 100, 0, ATTEMPTS_MAX),
            states=query.texts("state"),
            at=query.at(),
        )
        # Workers are asked what runs there uses only where somebody wants to know.
        request.live = query.flag("live")
        query.check_all_read()
        answer = await self._session.status(request)
        return dated(answer) | {"job": views.show_view(answer)}

    async def events(self, call: Call) -> View:
        """What happened to a job, from a position of the log on: some records, all of each."""
        query = call.query
        request = requests.events_request(job_of(call.request), user="", at=query.at())
        request.after_lsn = query.number("after_lsn", 0)
        limit = query.number("limit", 1000, 1, EVENTS_MAX)
        query.check_all_read()
        found: list[manager_pb2.Event] = []
        lsn, more = request.after_lsn, False
        loop = asyncio.get_running_loop()
        end = loop.time() + STORY_SECONDS
        async with aclosing(self._session.events(request)) as pages:
            async for page in pages:
                found += page.events
                lsn = max(lsn, page.lsn)
                # A record is told whole: whoever goes on behind it would miss the rest.
                has_whole = bool(found) and found[0].lsn <= lsn
                is_late = loop.time() >= end
                if (has_whole and (is_late or len(found) >= limit)) or (is_late and not found):
                    more = True
                    break
        told = [each for each in found if each.lsn <= lsn]
        if len(told) > limit:
            cut = max(told[limit].lsn, told[0].lsn + 1)
            told = [each for each in told if each.lsn < cut]
            lsn, more = told[-1].lsn, True
        return {"lsn": lsn, "events": list(map(views.event_view, told)), "more": more}

    async def why(self, call: Call) -> View:
        """Why a task waits, or how it came to be where it is."""
        index = call.query.number("index", -1, 0, _INDEX_MAX)
        job = job_of(call.request)
        if index >= 0:
            job = f"{job.partition('.')[0]}.{index}"
        request = requests.why_request(job, user="", at=_only_at(call))
        answer = await self._session.why(request)
        return dated(answer) | views.explanation_view(answer.explanation)

    async def tasks(self, call: Call) -> View:
        """The states of a job's tasks, a letter for each."""
        query = call.query
        request = requests.tasks_request(
            job_of(call.request),
            user="",
            first=query.number("first", 0, 0, _INDEX_MAX),
            count=query.number("count", 100_000, 1, TASKS_MAX),
            at=query.at(),
        )
        query.check_all_read()
        answer = await self._session.tasks(request)
        return dated(answer) | views.tasks_view(answer)

    async def workflow(self, call: Call) -> View:
        """The jobs that hang together with one, and who waits for whom."""
        query = call.query
        request = manager_pb2.GetWorkflowRequest(
            job=requests.job_selector(job_of(call.request), ""),
            limit=query.number("limit", WORKFLOW_MAX, 1, WORKFLOW_MAX),
            at=query.at(),
        )
        query.check_all_read()
        answer = await self._session.workflow(request)
        jobs = [views.job_view(job) for job in answer.jobs]
        edges = edges_of(answer.jobs)
        return dated(answer) | {"jobs": jobs, "edges": edges, "more": answer.more}

    async def moments(self, call: Call) -> View:
        """Which moments of the past can be asked about."""
        call.query.check_all_read()
        answer = await self._session.log_range()
        return {
            "first": {"lsn": answer.first_lsn, "time": answer.first_us / 1e6},
            "last": {"lsn": answer.last_lsn, "time": answer.last_us / 1e6},
        }

    async def output(self, call: Call) -> EventStream:
        """What a task wrote and writes."""
        query = call.query
        job_id = int(job_of(call.request).partition(".")[0])
        stream = query.choice("stream", "stdout", "stderr")
        cursor = OutputCursor(
            job_id,
            query.number("index", 0, 0, _INDEX_MAX),
            attempt=query.number("attempt", 0, 0, 2**31 - 1),
            streams=[stream] if stream else (),
            tail_lines=query.number("tail", 1000, 0, TAIL_LINES_MAX),
            follow=query.flag("follow", default=True),
        )
        query.check_all_read()
        if not call.viewer.is_admin:
            answer = await self._session.status(requests.whole_job_request(job_id))
            call.viewer.check_owns(answer.job.user, job_id)
        if self._outputs >= OUTPUTS_MAX:
            raise Busy(f"{OUTPUTS_MAX} outputs are being watched already: close one of them")
        return EventStream(kept_alive(self._follow_output(cursor)), call.check)

    async def live_events(self, call: Call) -> EventStream:
        """What changes, from now on or from a position on."""
        after = call.query.text("after")
        call.query.check_all_read()
        # A browser that comes back says where it was by itself, whatever the URL was at first.
        last = call.request.headers.get("last-event-id") or after
        self._live.check_room()
        # What is no position of ours is none that can be resumed.
        position = parse_position(last) or _UNKNOWN if last else None
        return EventStream(self._live.events(position), call.check)

    async def _follow_output(self, cursor: OutputCursor) -> AsyncGenerator[bytes, None]:
        self._outputs += 1
        # Pieces of output may end within a character.
        decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        patience = WORKER_PATIENCE_SECONDS
        try:
            output = self._session.output(cursor, patience_seconds=patience)
            async with aclosing(output) as chunks:
                async for chunk in chunks:
                    view = {
                        "stream": chunk.stream,
                        "offset": chunk.offset,
                        "text": decoders[chunk.stream].decode(chunk.data),
                        "attempt": chunk.attempt,
                        "hole_bytes": chunk.hole_bytes,
                    }
                    yield event("data", encode(view))
            yield event("end", b"{}")
        except TitanError as error:
            yield event("error", encode({"error": str(error)}))
        finally:
            self._outputs -= 1


def edges_of(jobs: Sequence[manager_pb2.Job]) -> list[View]:
    """Who of them waited for whom, from the one that goes first."""
    known = {job.job_id for job in jobs}
    return [
        {
            "from": each.job.job.job_id,
            "to": job.job_id,
            "condition": condition_name(each.condition),
            "same_index": each.same_index,
            "index": each.index if each.HasField("index") else None,
        }
        for job in jobs
        for each in job.scheduling.after
        if each.job.job.job_id in known
    ]


def condition_name(number: int) -> str:
    """OK, ANY or FAILED."""
    known = manager_pb2.DependencyCondition.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix("DEPENDENCY_") if number and known else "OK"


def dated(answer: Dated) -> View:
    """Which moment an answer tells of; `at_time` is None for one that tells of now."""
    return {"lsn": answer.lsn, "at_time": answer.at_us / 1e6 if answer.at_us else None}


def _only_at(call: Call) -> Any:
    at = call.query.at()
    call.query.check_all_read()
    return at
