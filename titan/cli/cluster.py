"""`titan workers` and `titan stats`."""

from __future__ import annotations

from pathlib import Path

import click

from titan import units
from titan.cli.command import READING_STALE, Command, Settings, retry_option, say_how_far, time_of
from titan.cli.describe import worker_state_text
from titan.cli.history_files import history_option
from titan.cli.stats_last import show_last
from titan.cli.table import print_table
from titan.cli.text import local_time, print_json, printable
from titan.client.views import View, stats_view, worker_view
from titan.rpc.v1 import manager_pb2


@click.command(
    cls=Command,
    takes=READING_STALE,
    epilog="""\b
Examples:
  titan workers
  titan workers --at '1h ago'
""",
)
@retry_option
@click.pass_obj
def workers(settings: Settings, *, retry_for: float) -> int:
    """List workers: what they have, what of it is free, when they were last heard."""
    with settings.reader(retry_for) as session:
        answer = session.workers(settings.at, stale=settings.is_stale)
    listed = answer.workers
    if settings.json:
        print_json([worker_view(worker) for worker in listed])
        return 0
    say_how_far(settings, answer)
    now = time_of(answer)
    print_table(
        (
            *("WORKER", "STATE", "RUNNING", "QUEUED", "CPUS", "MEMORY", "RESOURCES", "LABELS"),
            *("LIMITS", "LOAD", "DISK", "HEARD", "ADDRESS", "REASON"),
        ),
        [_worker_row(worker, now) for worker in listed],
        right=("RUNNING", "QUEUED", "CPUS", "MEMORY", "LOAD", "DISK", "HEARD"),
        cut=("REASON", "LABELS", "RESOURCES", "WORKER"),
    )
    return 0


def _worker_row(worker: manager_pb2.Worker, now: float) -> tuple[str, ...]:
    free, capacity = worker.free, worker.capacity
    named = sorted(capacity.named.items())
    is_measured = worker.HasField("statistics")
    heard = now - worker.last_heartbeat_us / 1e6
    return (
        worker.name,
        worker_state_text(worker),
        str(worker.running),
        str(worker.queued),
        _free_of(units.format_cpus(free.cpus_milli), units.format_cpus(capacity.cpus_milli)),
        _free_of(units.format_size(free.memory_bytes), units.format_size(capacity.memory_bytes)),
        " ".join(f"{name}={_free_of(free.named.get(name, 0), count)}" for name, count in named)
        or "-",
        " ".join(f"{name}={value}" for name, value in sorted(worker.labels.items())) or "-",
        _limits_text(worker.limits),
        f"{worker.statistics.load_1m:.2f}" if is_measured else "-",
        f"{units.format_size(worker.statistics.disk_free_bytes)}" if is_measured else "-",
        f"{units.format_age(heard)} ago" if worker.last_heartbeat_us else "-",
        worker.address or "pull",
        worker.reason,
    )


def _limits_text(limits: str) -> str:
    """`cgroup v2` where all are kept so, else how memory is; all of it is in the JSON."""
    parts = dict(part.partition(": ")[::2] for part in limits.split(", "))
    return parts.get("memory", "-")


def _free_of(free: object, capacity: object) -> str:
    return f"{free}/{capacity}"


@click.command(
    cls=Command,
    takes=READING_STALE,
    epilog="""\b
Examples:
  titan stats --json
  titan stats --manager a.example.com:50051,b.example.com:50051
  titan stats --at '2026-11-20 14:02'
  titan stats --last day --png day.png
""",
)
@click.option(
    "--last",
    type=click.Choice(("hour", "day", "week")),
    help="How busy it was, by the history in SQL: waits, ends, cpus in use.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --last: draw it, too.",
)
@history_option
@retry_option
@click.pass_context
def stats(
    ctx: click.Context,
    *,
    last: str | None,
    png: Path | None,
    history: str | None,
    retry_for: float,
) -> int:
    """Show the cluster in numbers: jobs and tasks by state, workers, what is free."""
    settings: Settings = ctx.obj
    if last is not None:
        if settings.at is not None:
            raise click.UsageError("--last is up to now: leave out --at")
        if settings.is_stale:
            raise click.UsageError("--last is told by the history: leave out --stale")
        return show_last(ctx, last, retry_for, history, png)
    if png is not None or history is not None:
        raise click.UsageError("--png and --history go with --last")
    with settings.reader(retry_for) as session:
        response = session.stats(settings.at, stale=settings.is_stale)
    view = stats_view(response)
    if settings.json:
        print_json(view)
        return 0
    say_how_far(settings, response)
    free, capacity = response.free, response.capacity
    named = [
        f"{name} {_free_of(free.named.get(name, 0), count)} free"
        for name, count in sorted(capacity.named.items())
    ]
    up = recovered = ""
    if response.started_us:
        # Of the past the log tells neither.
        up = units.format_age((response.now_us - response.started_us) / 1e6)
        up += f", since {local_time(view['start_time'])}"
        recovered = f"{view['recovered_records']} records in {view['recovery_seconds']:.2f} s"
    for name, value in (
        ("cluster", view["cluster_id"] or "-"),
        ("version", view["version"] or "-"),
        ("up", up),
        ("recovered", recovered),
        ("log", f"record {view['lsn']}"),
        ("jobs", _counts(view["jobs"])),
        ("tasks", _counts(view["tasks"])),
        ("workers", _counts(view["workers"])),
        ("cpus", f"{view['cpus_free']}/{view['cpus']} free"),
        (
            "memory",
            f"{units.format_size(free.memory_bytes)}/{units.format_size(capacity.memory_bytes)}"
            " free",
        ),
        ("resources", ", ".join(named)),
    ):
        if value:
            print(f"{name:<12} {printable(value)}")
    return 0


def _counts(counts: View) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
