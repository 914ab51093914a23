"""`titan show`."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any, Final

import click

from titan import units
from titan.cli.command import (
    READING_STALE,
    Command,
    Reading,
    Settings,
    retry_option,
    say,
    say_as_of,
    say_how_far,
    time_of,
)
from titan.cli.describe import (
    end_text,
    span_text,
    state_text,
    task_text,
    time_limit_text,
    why_ended,
)
from titan.cli.describe_scheduling import (
    after_text,
    array_text,
    placement_text,
    priority_text,
    retries_text,
)
from titan.cli.table import print_table
from titan.cli.text import is_terminal, local_time, print_json, printable
from titan.client import requests
from titan.client.connection import os_user
from titan.client.cursors import OutputCursor
from titan.client.enums import enum_name
from titan.client.execution import execution_words
from titan.client.session import Session
from titan.client.views import counts_view, event_view, show_view, to_text
from titan.errors import NotFound, TitanError
from titan.model import State
from titan.rpc.v1 import manager_pb2, types_pb2

_ATTEMPTS: Final = 100
# Of a task that was named, all of them.
_TASK_ATTEMPTS: Final = 10_000
_STDERR_LINES: Final = 10
_STATES: Final = [state.name for state in State if state > State.PENDING]


@click.command(
    cls=Command,
    takes=READING_STALE,
    epilog="""\b
Examples:
  titan show 42
  titan show 42.7
  titan show last --state FAILED --attempts 20
  titan show 42 --json
  titan show 42 --at 1h\\ ago
  titan show 42.7 --events
  titan show 42 --script
""",
)
@click.argument("job", metavar="JOB")
@click.option(
    "--attempts",
    type=click.IntRange(0),
    metavar="N",
    help=f"Show at most N attempts [{_ATTEMPTS}; all of a task].",
)
@click.option(
    "--state",
    type=click.Choice(_STATES, case_sensitive=False),
    multiple=True,
    help="Show only attempts in that state. May be repeated.",
)
@click.option("--events", is_flag=True, help="Show all that happened to it, from the log.")
@click.option("--script", is_flag=True, help="Print the script that it was submitted with.")
@retry_option
@click.pass_obj
def show(
    settings: Settings,
    *,
    job: str,
    attempts: int | None,
    state: tuple[str, ...],
    events: bool,
    script: bool,
    retry_for: float,
) -> int:
    """Show all about a job: what it asks for, how it went, its attempts.

    JOB is a number (42), a task of an array (42.7, 42.0-9), last, or name:NAME. For a
    failed job the last lines of its stderr follow.
    """
    if script and (events or attempts is not None or state):
        raise click.UsageError("--script prints the script alone: leave out the other options")
    if events:
        if settings.is_stale:
            raise click.UsageError("--events is told by the manager that leads: leave out --stale")
        if attempts is not None or state:
            raise click.UsageError("--events shows all: leave out --attempts and --state")
        wanted = requests.events_request(job, user=os_user(), at=settings.at)
        with settings.reader(retry_for) as reader:
            print_events(reader, wanted, as_json=settings.json)
        return 0
    request = requests.status_request(
        job,
        user=os_user(),
        attempts=0,
        states=state,
        at=settings.at,
        stale=settings.is_stale,
    )
    if script:
        request.script = True
        with settings.reader(retry_for) as session:
            print_script(session.status(request), as_json=settings.json)
        return 0
    default = _TASK_ATTEMPTS if request.job.indexes else _ATTEMPTS
    request.attempts_limit = default if attempts is None else attempts
    with settings.reader(retry_for) as session:
        response = session.status(request)
        if settings.json:
            print_json(show_view(response))
            return 0
        say_how_far(settings, response)
        print_job(response)
        print_attempts(response)
        has_failed = response.job.state == types_pb2.FAILED
        # Output is the leader's to ask for, who is not asked here.
        if has_failed and isinstance(session, Session) and not settings.is_stale:
            print_stderr(session, response, request)
    return 0


def print_script(response: manager_pb2.GetJobStatusResponse, *, as_json: bool) -> None:
    """The script's bytes as they are, on a terminal made safe. Raises NotFound without a script."""
    job = response.job
    if not response.script:
        words = shlex.join(to_text(word) for word in job.command)
        what = f"job {job.job_id} was submitted without a script: it runs {words}"
        if job.execution.script_source == types_pb2.SCRIPT_ON_WORKER:
            what += ", which lives on its worker"
        raise NotFound(what)
    if as_json:
        print_json({"job_id": job.job_id, "script": to_text(response.script)})
        return
    say_as_of(response)
    sys.stdout.flush()
    if is_terminal(sys.stdout):
        # Whose ever it is, it is to be read there.
        for line in to_text(response.script).removesuffix("\n").split("\n"):
            print("\t".join(map(printable, line.split("\t"))))
        return
    sys.stdout.buffer.write(response.script)
    sys.stdout.buffer.flush()


def print_events(reader: Reading, request: manager_pb2.GetEventsRequest, *, as_json: bool) -> None:
    """A line for each, as it comes; as JSON one list."""
    pages = (page.events for page in reader.events(request))
    if as_json:
        print_json([event_view(event) for page in pages for event in page])
        return
    is_first = True
    for page in pages:
        for event in page:
            if is_first:
                if event.event not in _BEGINNINGS:
                    say(f"what happened before LSN {event.lsn} is no longer in the log")
                print(event_line("LSN", "TIME", "EVENT", ""))
                is_first = False
            moment = local_time(event.time_us / 1e6)
            print(event_line(str(event.lsn), moment, event.event, event_words(event)))
    if is_first:
        say("the log tells nothing of it")


def event_line(lsn: str, moment: str, name: str, words: str) -> str:
    """The columns: so many come that they are not measured before."""
    return printable(f"{lsn:>8}  {moment:<19}  {name:<15}  {words}".rstrip())


def event_words(event: manager_pb2.Event) -> str:
    """What it says beside its name: without the job's number, digests, and what is nothing."""
    fields: dict[str, Any] = json.loads(event.fields)
    if fields.get("time_limit_ms") == 0 and "grace_ms" in fields:
        # It has its default, mostly.
        del fields["grace_ms"]
    return " ".join(
        _field_words(name, value)
        for name, value in fields.items()
        if name == "index" or (name not in _NOT_FOR_PEOPLE and value not in _NOTHING)
    )


_BEGINNINGS: Final = ("JobSubmitted", "RequestAccepted")
_NOT_FOR_PEOPLE: Final = ("job_id", "environment", "request_id", "content", "policy_version")
_NOTHING: Final[tuple[Any, ...]] = (0, -1, "", None, [], {}, False)


def _field_words(name: str, value: Any) -> str:
    match name:
        case "start_us" | "end_us":
            return f"{name.removesuffix('_us')}={local_time(value / 1e6)[11:]}"
        case "begin_us" | "deadline_us" | "until_us" | "not_before_us":
            return f'{name.removesuffix("_us")}="{local_time(value / 1e6)}"'
        case "scheduling" if isinstance(value, dict):
            return " ".join(_field_words(each, asked) for each, asked in value.items())
        case "cpu_user_us" | "cpu_system_us":
            return f"{name.removesuffix('_us')}={value / 1e6:.3f}s"
        case "time_limit_ms" | "grace_ms" | "end_signal_before_ms":
            return f"{name.removesuffix('_ms')}={units.format_duration(value / 1000)}"
        case "cpus_milli":
            return f"cpus={units.format_cpus(value)}"
        case "memory_bytes" | "max_rss_bytes":
            return f"{name.removesuffix('_bytes')}={units.format_size(value)}"
        case "command":
            return f"command={json.dumps(shlex.join(value))}"
    is_word = isinstance(value, str) and " " not in value
    return f"{name}={value if is_word else json.dumps(value)}"


def print_job(response: manager_pb2.GetJobStatusResponse) -> None:
    """Aligned names and values."""
    job = response.job
    asked = job.resources
    counts = [f"{count} {name}" for name, count in counts_view(job.tasks).items() if count]
    cpus = units.format_cpus(asked.cpus_milli)
    memory = f", {units.format_size(asked.memory_bytes)} memory" if asked.memory_bytes else ""
    named = "".join(f", {name}={count}" for name, count in sorted(asked.named.items()))
    why = why_ended(job)
    took = span_text(job.start_us, job.end_us) if job.start_us and job.end_us else ""
    fields = [
        ("job", str(job.job_id)),
        ("name", job.name),
        ("user", job.user),
        ("state", state_text(job) + (f": {why}" if why else "")),
        ("detail", job.detail if job.detail not in why else ""),
        ("waiting for", job.waiting_for),
        ("command", shlex.join(to_text(word) for word in job.command)),
        ("cwd", to_text(job.cwd)),
        ("asks for", f"{cpus} cpu{'s' if cpus != '1' else ''}{memory}{named}"),
        ("only on", job.on),
        ("placement", placement_text(job)),
        ("time limit", time_limit_text(job)),
        ("runs with", execution_words(job.execution)),
        ("secrets", ", ".join(map(to_text, job.secret_env))),
        ("priority", priority_text(job)),
        ("after", after_text(job)),
        ("begins", _time_text(job.scheduling.begin_us)),
        ("deadline", _time_text(job.scheduling.deadline_us)),
        ("retries", retries_text(job)),
        ("array", array_text(job)),
        ("tasks", ", ".join(counts) if job.array else ""),
        ("worker", job.worker),
        ("uses", live_use_text(response)),
        ("submitted", local_time(job.submit_us / 1e6)),
        ("started", _time_text(job.start_us)),
        ("ended", local_time(job.end_us / 1e6) + f", after {took}" if took else ""),
    ]
    for name, value in fields:
        if value:
            print(f"{name:<12} {printable(value)}")


def _time_text(time_us: int) -> str:
    return local_time(time_us / 1e6) if time_us else ""


def live_use_text(response: manager_pb2.GetJobStatusResponse) -> str:
    """What a plain job that runs uses now; empty when nobody knows."""
    for attempt in () if response.job.array else response.attempts:
        if attempt.HasField("rss_bytes"):
            cpu = units.format_duration(_cpu_us(attempt) // 1_000_000)
            return f"cpu {cpu}, memory {units.format_size(attempt.rss_bytes)} now"
    return ""


def _cpu_us(attempt: manager_pb2.Attempt) -> int:
    return attempt.cpu_user_us + attempt.cpu_system_us


def print_attempts(response: manager_pb2.GetJobStatusResponse) -> None:
    """The table of attempts, if there are any."""
    if not response.attempts:
        return
    job = response.job
    now_us = int(time_of(response) * 1e6)
    # Only where something is known to run.
    now = ("NOW",) if any(each.HasField("rss_bytes") for each in response.attempts) else ()
    print()
    print_table(
        ("TASK", "ATTEMPT", "WORKER", "STATE", "STARTED", "TIME", "CPU", "PEAK", *now, "REASON"),
        [
            (
                task_text(job, attempt.index),
                str(attempt.attempt),
                attempt.worker,
                enum_name(State, attempt.state) or "",
                local_time(attempt.start_us / 1e6) if attempt.start_us else "-",
                span_text(attempt.start_us, attempt.end_us or now_us) if attempt.start_us else "-",
                _cpu_text(attempt),
                units.format_size(attempt.max_rss_bytes) if attempt.max_rss_bytes else "-",
                *(_now_text(attempt) for _ in now),
                end_text(attempt) if attempt.reason else "",
            )
            for attempt in response.attempts
        ],
        right=("ATTEMPT", "TIME", "CPU", "PEAK", *now),
        cut=("REASON",),
    )
    if len(response.attempts) < job.attempts_total:
        print(f"({len(response.attempts)} of {job.attempts_total} attempts; --attempts N, --state)")


def _now_text(attempt: manager_pb2.Attempt) -> str:
    return units.format_size(attempt.rss_bytes) if attempt.HasField("rss_bytes") else "-"


def _cpu_text(attempt: manager_pb2.Attempt) -> str:
    is_known = attempt.end_us or attempt.HasField("rss_bytes")
    return f"{_cpu_us(attempt) / 1e6:.1f} s" if is_known else "-"


def print_stderr(
    session: Session,
    response: manager_pb2.GetJobStatusResponse,
    request: manager_pb2.GetJobStatusRequest,
) -> None:
    """The last lines that the first failed task wrote to stderr."""
    failed = _find_failed(session, response, request)
    if failed is None or not failed.stderr_path:
        # Nothing failed, or it could not even be started.
        return
    cursor = OutputCursor(
        response.job.job_id,
        failed.index,
        attempt=failed.attempt,
        streams=["stderr"],
        tail_lines=_STDERR_LINES,
    )
    title = f"\nLast lines of its stderr ({to_text(failed.stderr_path)}):"
    if response.job.array:
        title = title.replace("its", f"{task_text(response.job, failed.index)}'s")
    try:
        text = to_text(b"".join(chunk.data for chunk in session.output(cursor)))
    except TitanError as error:
        print(printable(f"{title[1:]} {error}"))
        return
    if text:
        print(printable(title[1:]) if not response.attempts else "\n" + printable(title[1:]))
    for line in text.splitlines():
        print(f"  {printable(line)}")


def _find_failed(
    session: Session,
    response: manager_pb2.GetJobStatusResponse,
    request: manager_pb2.GetJobStatusRequest,
) -> manager_pb2.Attempt | None:
    for attempt in response.attempts:
        if attempt.state == types_pb2.FAILED:
            return attempt
    # The job that was shown: "last" may be another by now.
    wanted = manager_pb2.GetJobStatusRequest(
        job=manager_pb2.JobSelector(job_id=response.job.job_id, indexes=request.job.indexes),
        attempts_limit=1,
        attempt_states=[types_pb2.FAILED],
        at=request.at if request.HasField("at") else None,
    )
    return next(iter(session.status(wanted).attempts), None)
