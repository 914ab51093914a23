"""`titan wal dump`: what happened, an event a line."""

from __future__ import annotations

import json
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from titan import units
from titan.cli.command import FAILED, Command, say
from titan.cli.params import PLACE, Unit
from titan.cli.text import is_terminal, local_time, printable

if TYPE_CHECKING:
    from titan.waltools.journal_files import JournalFiles
    from titan.waltools.selection import JobTasks

_HEADS: Final = ("lsn", "time", "event")
_JOB: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")
_FOLLOW_SECONDS: Final = 0.1


def parse_lsn(text: str) -> int:
    """The number of a record. Raises ValueError."""
    given = text.strip()
    if not (given.isascii() and given.isdecimal() and 0 < int(given[:20]) < 1 << 63):
        raise ValueError(f"{text!r} is no record number: they count from 1")
    return int(given)


def parse_job_or_task(text: str) -> JobTasks:
    """`42` or `42.7`. Raises ValueError."""
    from titan.model import IndexRange  # noqa: PLC0415
    from titan.waltools.selection import JobTasks  # noqa: PLC0415 - loads every event

    match = _JOB.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no job: write it as 42, or 42.7 for a task of an array")
    index = int(match[2]) if match[2] else None
    return JobTasks(int(match[1]), () if index is None else (IndexRange(index, index + 1),))


def parse_kind(text: str) -> Any:
    """The class of events with that name, in any case. Raises ValueError."""
    from titan.waltools.selection import KIND_OF_NAME  # noqa: PLC0415 - loads every event

    by_lower = {name.lower(): name for name in KIND_OF_NAME}
    name = by_lower.get(text.strip().lower())
    if name is not None:
        return KIND_OF_NAME[name]
    from difflib import get_close_matches  # noqa: PLC0415 - only here, and slow

    close = get_close_matches(text.lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[close[0]]}?" if close else ", ".join(sorted(KIND_OF_NAME))
    raise ValueError(f"there is no event {text!r}; {hint}")


def _parse_worker(text: str) -> str | int:
    return int(text[:19]) if text.isascii() and text.isdecimal() else text


def _parse_moment_us(text: str) -> int:
    return round(units.parse_moment(text, time.time()) * 1e6)


LSN: Final = Unit("lsn", parse_lsn)
MOMENT: Final = Unit("time", _parse_moment_us)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal dump ~/.local/state/titan/manager | less
  titan wal dump --job 42.7 --since '1h ago' DIR
  titan wal dump --worker w1 --event TaskAssigned --event AttemptEnded DIR
  titan wal dump --json /var/lib/titan/manager | jq 'select(.event == "JobSubmitted")'
  titan wal dump --follow --event workerlost DIR
  titan wal dump --from 1200 --to 1300 postgresql://titan@db/titan
""",
    takes=("json",),
)
@click.argument("place", metavar="DIR|URL", type=PLACE)
@click.option("--from", "from_lsn", type=LSN, metavar="LSN", help="Begin with this record.")
@click.option("--to", "to_lsn", type=LSN, metavar="LSN", help="End with this record.")
@click.option(
    "--since",
    type=MOMENT,
    metavar="TIME",
    help="From this time on: 14:02, 2026-11-20 14:02, 1h ago, ISO 8601 or Unix seconds.",
)
@click.option("--until", type=MOMENT, metavar="TIME", help="Up to this time.")
@click.option(
    "--job",
    "jobs",
    type=Unit("job", parse_job_or_task),
    multiple=True,
    metavar="JOB",
    help="What concerns this job (42) or task (42.7); may be repeated.",
)
@click.option(
    "--worker",
    type=Unit("worker", _parse_worker),
    metavar="NAME|NUMBER",
    help="What concerns this worker, and the attempts it was given.",
)
@click.option(
    "--event",
    "kinds",
    type=Unit("event", parse_kind),
    multiple=True,
    metavar="NAME",
    help="Events of this name, in any case; may be repeated.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="End after so many events.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.pass_context
def dump(ctx: click.Context, /, *, place: Path | str, follow: bool, **given: Any) -> int:
    """Print the events in the log: a JSON object a line; on a terminal as text.

    What is given is combined: an event must match all of it. --json prints JSON on a
    terminal too.
    """
    # They load the log's code and every event's.
    from titan.events import EventError  # noqa: PLC0415
    from titan.waltools.dump import dump_events, dump_journal  # noqa: PLC0415
    from titan.waltools.journal_files import JournalFiles  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    is_pretty = is_terminal(sys.stdout) and not ctx.obj.json
    try:
        with ExitStack() as until_told:
            events: Iterator[dict[str, object]]
            if isinstance(place, Path):
                wait = _wait if follow else None
                events = dump_events(place, _selection(**given), wait=wait)
            else:
                files = until_told.enter_context(JournalFiles(place))
                wait = partial(_wait_for_rows, files) if follow else None
                events = dump_journal(files, _selection(**given), wait=wait)
            for event in events:
                print(event_line(event) if is_pretty else json.dumps(event))
    except (OSError, ValueError, WalError, EventError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        say(str(error))
        return FAILED
    return 0


def _selection(**given: Any) -> Any:
    from titan.waltools.selection import Selection  # noqa: PLC0415 - loads every event

    return Selection(
        from_lsn=given["from_lsn"] or 1,
        to_lsn=given["to_lsn"],
        since_us=given["since"],
        until_us=given["until"],
        jobs=given["jobs"],
        worker=given["worker"],
        kinds=frozenset(given["kinds"]),
        limit=given["limit"],
    )


def _wait_for_rows(files: JournalFiles) -> bool:
    """The same for a journal, which tells when it has grown."""
    _wait(seconds=0)
    files.wait(_FOLLOW_SECONDS)
    return True


def _wait(seconds: float = _FOLLOW_SECONDS) -> bool:
    """Waits a moment for the log to grow; ends when nobody reads any more."""
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        time.sleep(seconds)
        return True
    # Without events asked for, a pipe without a reader is all that is told: poll(2).
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(event & select.POLLERR for _, event in poll.poll(seconds * 1000)):
        raise BrokenPipeError
    return True


def event_line(event: dict[str, Any]) -> str:
    """`    12  2026-11-20 14:03:11  JobSubmitted  job_id=42 name="train"`."""
    fields = " ".join(f"{key}={json.dumps(event[key])}" for key in event if key not in _HEADS)
    head = f"{event['lsn']:>8}  {local_time(event['time'])}  {event['event']}"
    return printable(f"{head}  {fields}".rstrip())
