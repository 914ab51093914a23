"""Questions to the history and their answers as messages, for both who ask and who answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from titan.accounting import (
    ENDS,
    GROUPS,
    RUNNING,
    SHARES,
    SOURCES,
    HistoryRows,
    Row,
    Usage,
    Wanted,
    attempt_view,
    total_views,
)
from titan.errors import InvalidJob
from titan.rpc.v1 import history_pb2

Request = history_pb2.GetHistoryRequest
Response = history_pb2.GetHistoryResponse

# What one question may ask for at most; whoever wants more asks for stretches of time.
ATTEMPTS_MAX: Final = 1_000_000
FAILING_MAX: Final = 100_000
BARS_MAX: Final = 300_000
SLOTS_MAX: Final = 10_000
STATES_MAX: Final = 16

_OPTIONAL: Final = (
    "index", "attempt", "worker", "reason", "detail", "exit_code", "signal", "start_time",
    "wait_seconds", "run_seconds", "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes",
    "stdout_path", "stderr_path", "source_job",
)  # fmt: skip
_LIMITS: Final = {"attempts": ATTEMPTS_MAX, "most_failing": FAILING_MAX, "timeline": BARS_MAX}


def filter_message(wanted: Wanted, *, mine: bool = False) -> history_pb2.HistoryFilter:
    """What a question says of which attempts. `mine`: the caller's own, who says that he is `user`.

    Raises InvalidJob.
    """
    try:
        return history_pb2.HistoryFilter(
            since_us=_microseconds(wanted.since),
            until_us=_microseconds(wanted.until),
            user=wanted.user,
            name=wanted.name,
            worker=wanted.worker,
            states=wanted.states,
            job_id=wanted.job_id,
            source=wanted.source,
            mine=mine,
        )
    except (ValueError, OverflowError) as error:
        raise InvalidJob(f"that cannot be asked of the history: {error}") from error


def wanted_of(message: history_pb2.HistoryFilter) -> Wanted:
    """The same on the other side."""

    def given(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    since_us, until_us = given("since_us"), given("until_us")
    return Wanted(
        since=None if since_us is None else since_us / 1e6,
        until=None if until_us is None else until_us / 1e6,
        user=given("user"),
        name=given("name"),
        worker=given("worker"),
        states=tuple(message.states),
        job_id=given("job_id"),
        source=given("source"),
    )


def check_question(request: Request) -> None:
    """Raises InvalidJob for what no history could answer."""
    kind = request.WhichOneof("question")
    if kind is None:
        raise InvalidJob("nothing is asked of the history")
    chosen = request.filter
    _check_filter(chosen, (*ENDS, RUNNING) if kind == "timeline" else ENDS)
    if kind in _LIMITS and not 1 <= getattr(request, kind).limit <= _LIMITS[kind]:
        raise InvalidJob(f"the limit is from 1 to {_LIMITS[kind]}")
    if kind == "totals":
        _check_one_of("by", request.totals.by, GROUPS)
    elif kind == "usage":
        if not 1 <= request.usage.slots <= SLOTS_MAX:
            raise InvalidJob(f"the slots are from 1 to {SLOTS_MAX}")
        others = {each.name for each, _ in chosen.ListFields()} - {"since_us", "until_us"}
        if others:
            raise InvalidJob(f"usage is of the whole cluster: leave out {min(others)}")
    if kind in ("usage", "timeline"):
        if not (chosen.HasField("since_us") and chosen.HasField("until_us")):
            raise InvalidJob(f"{kind} needs since and until")
        if chosen.since_us == chosen.until_us:
            raise InvalidJob("that time has no length: since is until")


def _check_filter(chosen: history_pb2.HistoryFilter, states: tuple[str, ...]) -> None:
    is_timed = chosen.HasField("since_us") and chosen.HasField("until_us")
    if is_timed and chosen.since_us > chosen.until_us:
        raise InvalidJob("that time ends before it begins: since is after until")
    if len(chosen.states) > STATES_MAX:
        raise InvalidJob(f"at most {STATES_MAX} states can be asked for")
    for each in chosen.states:
        _check_one_of("state", each, states)
    if chosen.HasField("source"):
        _check_one_of("source", chosen.source, SOURCES)
    for name in ("user", "name", "worker"):
        # PostgreSQL's text has none.
        if "\0" in getattr(chosen, name):
            raise InvalidJob(f"no {name} has a NUL in it")


def attempt_message(columns: Mapping[str, Any]) -> history_pb2.HistoryAttempt:
    """An attempt from its columns, under the names of the message."""
    return history_pb2.HistoryAttempt(**columns)


def total_message(sums: Row) -> history_pb2.HistoryTotal:
    """Sums with their `key`."""
    key = sums["key"]
    values = {name: value for name, value in sums.items() if name != "key"}
    if isinstance(key, str):
        return history_pb2.HistoryTotal(name=key, **values)
    return history_pb2.HistoryTotal(quarter=key, **values)


def failing_message(row: Row) -> history_pb2.HistoryFailing:
    """A name under which attempts FAILED."""
    return history_pb2.HistoryFailing(**row)


def usage_message(usage: Usage) -> history_pb2.HistoryUsage:
    """How busy it was."""
    return history_pb2.HistoryUsage(
        since=usage.since,
        until=usage.until,
        waits=[each for each in usage.waits if each is not None],
        ended=usage.ended,
        failed=usage.failed,
        busy_cpus=usage.busy_cpus,
        cpus=usage.cpus,
        waiting_tasks=usage.waiting,
    )


def attempts_of(pages: Iterable[Response]) -> HistoryRows:
    """Rows as --json has them, of all pages of an answer; so are the next ones."""
    return _rows(pages, lambda page: (attempt_view(_attempt(each)) for each in page.attempts))


def failing_of(pages: Iterable[Response]) -> HistoryRows:
    """Names under which attempts FAILED."""
    return _rows(pages, lambda page: map(_fields, page.most_failing))


def totals_of(pages: Iterable[Response], by: str) -> HistoryRows:
    """Totals; days are those of this process's time zone."""
    sums = _rows(pages, lambda page: map(_sums, page.totals))
    return sums._replace(rows=total_views(sums.rows, by))


def usage_of(pages: Iterable[Response]) -> Usage:
    """How busy it was. Raises ValueError where nothing came."""
    for page in pages:
        found = page.usage
        return Usage(
            since=found.since,
            until=found.until,
            waits=tuple(found.waits) or (None,) * len(SHARES),
            ended=tuple(found.ended),
            failed=tuple(found.failed),
            busy_cpus=tuple(found.busy_cpus),
            cpus=tuple(found.cpus),
            waiting=tuple(found.waiting_tasks),
        )
    raise ValueError("an answer without a page")


def timeline_of(pages: Iterable[Response]) -> Row:
    """Bars in columns, and what they refer to by position: JSON as it is.

    {workers: [name], jobs: [{job_id, name, user}], states: [name], bars: {worker, job, index,
    attempt, start_time, end_time, state: a list each}, more, lsn, time}. Times are Unix seconds;
    the end of what runs is None.
    """
    whole = Response()
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("worker", "job", "index", "attempt", "start_time", "end_time", "state")
    }
    names: dict[str, list[Any]] = {"workers": [], "jobs": [], "states": []}
    for page in pages:
        _note_place(whole, page)
        part = page.timeline
        names["workers"] += part.workers
        names["jobs"] += map(_fields, part.jobs)
        names["states"] += part.states
        for name in ("worker", "job", "index", "attempt", "state"):
            columns[name] += getattr(part, name)
        start_us = 0
        is_running = [each == RUNNING for each in names["states"]]
        for step, run_us, state in zip(part.start_us, part.run_us, part.state, strict=True):
            start_us += step
            columns["start_time"].append(start_us / 1e6)
            columns["end_time"].append(None if is_running[state] else (start_us + run_us) / 1e6)
    place = {"more": whole.more, "lsn": whole.lsn, "time": whole.time_us / 1e6}
    return {**names, "bars": columns, **place}


def _rows(pages: Iterable[Response], rows_of: Any) -> HistoryRows:
    whole, rows = Response(), []
    for page in pages:
        _note_place(whole, page)
        rows += rows_of(page)
    return HistoryRows(rows, whole.more, whole.lsn, whole.time_us / 1e6)


def _note_place(whole: Response, page: Response) -> None:
    whole.lsn, whole.time_us = page.lsn, page.time_us
    whole.more = whole.more or page.more


def _attempt(message: Any) -> Row:
    row = _fields(message)
    for name in _OPTIONAL:
        if not message.HasField(name):
            row[name] = None
    return row


def _sums(message: history_pb2.HistoryTotal) -> Row:
    row = _fields(message)
    name, quarter = row.pop("name"), row.pop("quarter")
    return {"key": quarter if message.WhichOneof("key") == "quarter" else name, **row}


def _fields(message: Any) -> Row:
    return {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _check_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidJob(f"{value!r} is no {what}: there are {', '.join(known)}")
