"""`titan stats --last`: how busy the cluster was, by its history in SQL."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from titan import units
from titan.accounting import Usage, usage_view
from titan.cli.command import Settings
from titan.cli.history_asked import asked_history
from titan.cli.text import local_time, print_json

# How long it is, in how many parts it is told, and how they are called.
STRETCHES: Final = {
    "hour": (3_600, 60, "a minute"),
    "day": (86_400, 48, "half an hour"),
    "week": (7 * 86_400, 56, "3 hours"),
}
_BARS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS: Final = " .:-=+*#@"


def show_last(
    ctx: click.Context,
    last: str,
    retry_for_seconds: float,
    history: str | None,
    png: Path | None,
) -> int:
    """Prints it, and draws it into a file if one is named."""
    settings: Settings = ctx.obj
    if png is not None:
        from titan.simulator.plot import check_can_plot  # noqa: PLC0415 - only here

        check_can_plot("--png")
    seconds, count, part = STRETCHES[last]
    now = time.time()
    if isinstance(settings.data_place, str):
        raise click.UsageError("--last asks the history, not the journal: name it by --history")
    with asked_history(ctx, retry_for_seconds, history, settings.data_place) as asked:
        usage = asked.usage(now - seconds, now, count)
    if png is not None:
        draw(usage, f"Titan, the last {last}", png)
    if settings.json:
        print_json(usage_view(usage))
    else:
        _print(usage, part)
    return 0


def bars(values: Sequence[float], most: float, signs: str) -> str:
    """A sign for each value, the last one for `most`; only nothing is blank."""
    found = []
    for value in values:
        height = 0 if most <= 0 else round(value / most * (len(signs) - 1))
        found.append(signs[min(max(height, 1 if value > 0 else 0), len(signs) - 1)])
    return "".join(found)


def draw(usage: Usage, title: str, path: Path) -> None:
    """What waited, what ended and the cpus in use over time, as a PNG. Raises OSError."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - large, optional, and only here

    minutes = (usage.until - usage.since) / 60
    edges = [minutes * place / len(usage.ended) - minutes for place in range(len(usage.ended) + 1)]
    # Without pyplot there is no display to look for and nothing global to close.
    figure = Figure(figsize=(10, 8), layout="constrained")
    waiting, ended, busy = figure.subplots(3, 1, sharex=True)
    waiting.set_title(title)
    waiting.stairs(usage.waiting, edges, fill=True, color="tab:orange")
    waiting.set_ylabel("tasks waiting")
    ended.stairs(usage.ended, edges, fill=True, label="ended")
    ended.stairs(usage.failed, edges, fill=True, color="tab:red", label="FAILED")
    ended.set_ylabel("attempts ended")
    ended.legend(loc="upper left")
    busy.stairs(usage.busy_cpus, edges, fill=True, label="in use")
    busy.stairs(usage.cpus, edges, color="black", label="offered")
    busy.set_ylabel("cpus")
    busy.legend(loc="upper left")
    busy.set_xlabel(f"minutes before {local_time(usage.until)}")
    for axes in (waiting, ended, busy):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.margins(x=0)
    figure.savefig(path, format="png", dpi=120)


def _print(usage: Usage, part: str) -> None:
    ended, failed = sum(usage.ended), sum(usage.failed)
    minutes = (usage.until - usage.since) / 60
    offered = sum(usage.cpus) / len(usage.cpus)
    waits = [
        "-" if each is None else units.format_age(each) if each >= 10 else f"{each:.2f}s"
        for each in usage.waits
    ]
    share = "-" if usage.utilisation is None else f"{usage.utilisation:.0%}"
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    signs = _BARS if is_unicode else _PLAIN_BARS
    waiting, ends = max(usage.waiting), max(usage.ended)
    most = max(*usage.cpus, *usage.busy_cpus)
    for name, value in (
        ("from", f"{local_time(usage.since)} to {local_time(usage.until)}, a column is {part}"),
        ("waits", "p50 {}, p95 {}, p99 {}".format(*waits)),
        ("ended", f"{ended} attempts, {failed} FAILED; {ended / minutes:.1f} a minute"),
        ("cpus", f"{share} of {offered:.1f} in use"),
        ("waiting", f"|{bars(usage.waiting, waiting, signs)}| at most {waiting:.1f} tasks"),
        ("ended", f"|{bars(usage.ended, ends, signs)}| at most {ends}"),
        ("in use", f"|{bars(usage.busy_cpus, most, signs)}| full: {most:.1f} cpus"),
    ):
        print(f"{name:<8} {value}")
