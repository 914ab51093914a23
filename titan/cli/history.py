"""`titan history`: what ran, from the tables in SQL, and `titan history run`, which fills them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from titan import logs, units
from titan.accounting import ENDS, GROUPS, SOURCES, Row, Wanted
from titan.cli.command import (
    PRINTING,
    Command,
    CommandGroup,
    Settings,
    check_options_are_behind,
    retry_option,
    say,
)
from titan.cli.history_asked import asked_history
from titan.cli.history_files import (
    data_dir_option,
    given_url,
    history_option,
    manager_directory,
    needed_modules,
)
from titan.cli.history_import import import_
from titan.cli.log_options import log_options
from titan.cli.params import MOMENT
from titan.cli.table import print_table
from titan.cli.text import local_time, print_json, printable
from titan.errors import TitanError

_DAY_SECONDS: Final = 86_400


class Columns(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """Names of columns, with commas between them."""

    name = "columns"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's hook."""
        if not isinstance(value, str):
            return value
        names = tuple(each.strip() for each in value.split(","))
        for name in names:
            if name not in COLUMNS:
                self.fail(f"there is no column {name!r}: {', '.join(COLUMNS)}", param, ctx)
        return names


@click.group(
    cls=CommandGroup,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan history
  titan history --user ada --state FAILED --since 7d
  titan history --columns job,worker,run_seconds,max_rss_bytes --csv
  titan history --totals user --since 2026-11-01
  titan history --most-failing
  titan history --source mini-slurm --since 2024-01-01
  titan history --data-dir ~/.local/state/titan/dev/manager
""",
)
@click.option("--user", metavar="USER", help="Jobs of that user.")
@click.option("--me", is_flag=True, help="My own jobs.")
@click.option(
    "--state",
    type=click.Choice(ENDS, case_sensitive=False),
    multiple=True,
    help="Attempts that ended so. May be repeated [all but RECALLED, which never ran].",
)
@click.option("--name", metavar="NAME", help="Jobs of that name.")
@click.option("--worker", metavar="NAME", help="What ran on that worker.")
@click.option(
    "--job", type=int, metavar="JOB", help="That job alone, of any time; below 0: an imported one."
)
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="What Titan ran, or what was imported from there [all].",
)
@click.option(
    "--since",
    type=MOMENT,
    metavar="TIME",
    help="What ended from then on: 14:02, 2026-11-20, 7d for a week ago [1d].",
)
@click.option("--until", type=MOMENT, metavar="TIME", help="What ended before that [now].")
@click.option(
    "--columns",
    type=Columns(),
    metavar="NAME,…",
    help="What is told of each, by the names that --json has.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Tell of at most so many.",
)
@click.option("--csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--totals",
    type=click.Choice(GROUPS),
    help="Sums by user, by day of the end or by worker: cpu-hours, and how much was used of them.",
)
@click.option("--slowest", is_flag=True, help="Those that ran longest first.")
@click.option("--most-failing", is_flag=True, help="The names under which most attempts failed.")
@history_option
@data_dir_option
@retry_option
@click.pass_context
def history(
    ctx: click.Context,
    *,
    user: str | None,
    me: bool,
    state: tuple[str, ...],
    name: str | None,
    worker: str | None,
    job: int | None,
    source: str | None,
    since: float | None,
    until: float | None,
    columns: tuple[str, ...] | None,
    limit: int,
    csv: bool,
    totals: str | None,
    slowest: bool,
    most_failing: bool,
    history: str | None,
    data_dir: Path | None,
    retry_for: float,
) -> int:
    """Tell what ran: a line for each attempt that ended, the last one first.

    Tasks of a job that were cancelled together before they started have one line.

    The manager is asked. With --data-dir or --history the tables are read where they are, and no
    manager is needed.
    """
    if ctx.invoked_subcommand is not None:
        check_options_are_behind(ctx)
        return 0
    settings: Settings = ctx.obj
    if sum(map(bool, (totals, slowest, most_failing))) > 1:
        raise click.UsageError("--totals, --slowest and --most-failing: give one of them", ctx)
    if columns and (totals or most_failing):
        raise click.UsageError("--columns chooses among those of attempts", ctx)
    if csv and settings.json:
        raise click.UsageError("--csv or --json: give one of them", ctx)
    if me and user:
        raise click.UsageError("--me and --user name two users: give one of them", ctx)
    if me:
        from titan.client.connection import os_user  # noqa: PLC0415 - loads gRPC

        user = os_user()
    if since is None and job is None:
        since = (until if until is not None else time.time()) - _DAY_SECONDS
    wanted = Wanted(
        since=since,
        until=until,
        user=user,
        name=name,
        worker=worker,
        states=state,
        job_id=job,
        source=source,
    )
    shown: tuple[str, ...]
    with asked_history(ctx, retry_for, history, data_dir, mine=me) as asked:
        if totals:
            found, shown = asked.totals(wanted, totals), (totals, *_OF_TOTALS)
        elif most_failing:
            found, shown = asked.most_failing(wanted, limit), _OF_FAILING
        else:
            found = asked.list_attempts(wanted, limit, slowest=slowest)
            shown = columns or (_FOR_PROGRAMS if csv or settings.json else _for_people(found.rows))
    _print(found.rows, shown, as_json=settings.json, as_csv=csv)
    if found.more:
        say(f"there are more than {limit}; --limit {limit * 10} shows more")
    return 0


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan history run --data-dir /srv/titan
  titan history run --history postgresql://titan@db/titan
""",
)
@history_option
@data_dir_option
@log_options
def run(*, history: str | None, data_dir: Path | None, log_level: str, log_format: str) -> int:
    """Write the history, in the foreground, until SIGTERM or Ctrl-C.

    `titan manager` does that by itself; this is for a manager with --history none, on the same
    machine. It may be killed at any moment and goes on where it was; a database that was emptied is
    filled again from the log that is kept.
    """
    with needed_modules():
        import wal  # noqa: PLC0415 - with the next one, what reads the log
        from titan.history.process import run_history  # noqa: PLC0415
    logs.set_up(log_level, log_format)
    try:
        run_history(manager_directory(data_dir), given_url(history))
    except wal.Locked as error:
        raise TitanError(f"another process writes the history of this log: {error}") from error
    return 0


history.add_command(run)
history.add_command(import_)


def _print(rows: list[Row], names: Sequence[str], *, as_json: bool, as_csv: bool) -> None:
    values = [{name: _ANSWERS.get(name, _plain(name))(row) for name in names} for row in rows]
    if as_json:
        print_json(values)
    elif as_csv:
        _print_csv(values, names)
    else:
        print_table(
            [_HEADINGS.get(name, name.upper().replace("_", " ")) for name in names],
            [[_shown(name, row[name]) for name in names] for row in values],
            right=[_HEADINGS.get(name, name.upper().replace("_", " ")) for name in _NUMBERS],
            cut=("NAME", "DETAIL"),
        )


def _print_csv(rows: list[Row], names: Sequence[str]) -> None:
    import csv  # noqa: PLC0415 - only here

    # In a file they are what they are; a terminal would act upon what stands in names.
    safe = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(safe(value) if isinstance(value, str) else value for value in row.values())


def _for_people(rows: list[Row]) -> tuple[str, ...]:
    """How many tasks a line stands for is told where one stands for more than one."""
    if all(row["tasks"] == 1 for row in rows):
        return _FOR_PEOPLE
    return (*_FOR_PEOPLE[:2], "tasks", *_FOR_PEOPLE[2:])


def _plain(name: str) -> Callable[[Row], Any]:
    return lambda row: row[name]


def _task(row: Row) -> str:
    is_task = row["is_array"] and row["index"] is not None
    return f"{row['job_id']}.{row['index']}" if is_task else str(row["job_id"])


def _exit(row: Row) -> str | int | None:
    if row["signal"]:
        return f"signal {row['signal']}"
    return row["exit_code"]  # type: ignore[no-any-return]  # as the table has it


# What is made of more than one column.
_ANSWERS: Final[dict[str, Callable[[Row], Any]]] = {"job": _task, "exit": _exit}


def _hours(value: float) -> str:
    return f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _seconds(value: float) -> str:
    return units.format_age(value) if value >= 10 else f"{value:.2f}s"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_time"):
        return local_time(value)
    for ending, form in _FORMS:
        if name.endswith(ending):
            return form(value)
    return units.format_cpus(round(value * 1000)) if name == "cpus" else str(value)


_FORMS: Final[tuple[tuple[str, Callable[[Any], str]], ...]] = (
    ("_seconds", _seconds),
    ("_bytes", units.format_size),
    ("_efficiency", _percent),
    ("_hours", _hours),
)

_FOR_PEOPLE: Final = (
    "job", "name", "user", "state", "exit", "worker", "end_time", "wait_seconds", "run_seconds",
    "cpu_efficiency", "max_rss_bytes",
)  # fmt: skip
_FOR_PROGRAMS: Final = (
    "job_id", "index", "attempt", "name", "user", "worker", "state", "reason", "detail",
    "exit_code", "signal", "submit_time", "start_time", "end_time", "wait_seconds", "run_seconds",
    "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "cpus", "memory_bytes",
    "cpu_efficiency", "memory_efficiency", "stdout_path", "stderr_path", "source", "source_job",
    "tasks",
)  # fmt: skip
_OF_TOTALS: Final = (
    "attempts", "completed", "failed", "run_hours", "cpu_hours", "used_cpu_hours",
    "cpu_efficiency", "memory_efficiency",
)  # fmt: skip
_OF_FAILING: Final = ("name", "user", "failed", "attempts", "last_end_time")
COLUMNS: Final = ("job", "exit", *_FOR_PROGRAMS)

_HEADINGS: Final = {
    "end_time": "END", "start_time": "START", "submit_time": "SUBMIT", "wait_seconds": "WAIT",
    "run_seconds": "RUN", "cpu_efficiency": "CPU USED", "memory_efficiency": "MEMORY USED",
    "max_rss_bytes": "PEAK", "memory_bytes": "MEMORY", "last_end_time": "LAST END",
    "used_cpu_hours": "USED", "cpu_user_seconds": "CPU USER", "cpu_system_seconds": "CPU SYSTEM",
    "stdout_path": "STDOUT", "stderr_path": "STDERR", "job_id": "JOB",
}  # fmt: skip
_NUMBERS: Final = frozenset(
    (
        "job", "job_id", "index", "attempt", "exit_code", "signal", "wait_seconds", "run_seconds",
        "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "cpus", "memory_bytes",
        "attempts", "source_job", "tasks", *_OF_TOTALS,
    )
)  # fmt: skip
