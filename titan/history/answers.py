"""Answers to the questions that come through the manager, in pages that a message can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from titan.accounting import Wanted
from titan.history.questions import (
    Questions,
    find_place,
    select_attempts,
    select_failing,
    select_sums,
)
from titan.history.timeline import Bar, select_bars
from titan.history.usage import measure_usage
from titan.rpc.history import (
    Request,
    Response,
    attempt_message,
    failing_message,
    total_message,
    usage_message,
    wanted_of,
)
from titan.rpc.v1 import history_pb2

T = TypeVar("T")

# Small enough that nobody waits long for it on its way, large enough that few are needed.
PAGE_BYTES: Final = 512 * 1024
# What a bar takes in its columns, or some more, without the names that come with it.
_BAR_BYTES: Final = 24


def answer(questions: Questions, request: Request) -> Iterator[Response]:
    """The pages, one at least; of a request that `rpc.history.check_question` lets pass.

    Raises HistoryRefused.
    """
    wanted = wanted_of(request.filter)
    with questions.asked() as connection:
        lsn, time = find_place(connection)
        for page in _pages(connection, wanted, request):
            page.lsn, page.time_us = lsn, round(time * 1e6)
            yield page


def _pages(connection: sa.Connection, wanted: Wanted, request: Request) -> Iterator[Response]:
    kind = request.WhichOneof("question")
    if kind == "attempts":
        attempts = select_attempts(
            connection, wanted, request.attempts.limit + 1, slowest=request.attempts.slowest
        )
        messages = map(attempt_message, attempts)
        yield from _listed(messages, request.attempts.limit, lambda page: page.attempts)
    elif kind == "most_failing":
        limit = request.most_failing.limit
        failing = map(failing_message, select_failing(connection, wanted, limit + 1))
        yield from _listed(failing, limit, lambda page: page.most_failing)
    elif kind == "totals":
        sums = map(total_message, select_sums(connection, wanted, request.totals.by))
        yield from _listed(sums, None, lambda page: page.totals)
    elif kind == "usage":
        assert wanted.since is not None
        assert wanted.until is not None
        usage = measure_usage(connection, wanted.since, wanted.until, request.usage.slots)
        yield Response(usage=usage_message(usage))
    else:
        limit = request.timeline.limit
        yield from _timeline(select_bars(connection, wanted, limit + 1), limit)


def _listed(
    messages: Iterable[Any], limit: int | None, field: Callable[[Response], Any]
) -> Iterator[Response]:
    page, size = Response(), 0
    for number, message in enumerate(messages):
        if number == limit:
            page.more = True
            break
        if size >= PAGE_BYTES:
            yield page
            page, size = Response(), 0
        field(page).append(message)
        size += message.ByteSize()
    yield page


class _Places(dict[T, int]):
    """Numbers things as they come."""

    def place(self, thing: T) -> tuple[int, bool]:
        """Its number, and whether it is a new one."""
        count = len(self)
        number = self.setdefault(thing, count)
        return number, number == count


def _timeline(bars: Iterable[Bar], limit: int) -> Iterator[Response]:
    workers, jobs, states = _Places[str](), _Places[int](), _Places[str]()
    page, size, last_us = Response(), 0, 0
    for number, bar in enumerate(bars):
        if number == limit:
            page.more = True
            break
        if size >= PAGE_BYTES:
            yield page
            page, size, last_us = Response(), 0, 0
        columns = page.timeline
        worker, is_new = workers.place(bar.worker)
        if is_new:
            columns.workers.append(bar.worker)
            size += len(bar.worker.encode())
        job, is_new = jobs.place(bar.job_id)
        if is_new:
            named = history_pb2.TimelineJob(job_id=bar.job_id, name=bar.name, user=bar.user)
            columns.jobs.append(named)
            size += named.ByteSize()
        state, is_new = states.place(bar.state)
        if is_new:
            columns.states.append(bar.state)
        start_us = round(bar.start_time * 1e6)
        end_us = start_us if bar.end_time is None else round(bar.end_time * 1e6)
        columns.worker.append(worker)
        columns.job.append(job)
        columns.index.append(bar.task_index)
        columns.attempt.append(bar.attempt)
        columns.start_us.append(start_us - last_us)
        columns.run_us.append(max(end_us - start_us, 0))
        columns.state.append(state)
        last_us = start_us
        size += _BAR_BYTES
    yield page
