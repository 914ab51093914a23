"""`python -m tools.bench`: all measures, or some of them. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tools.bench import (
    beside,
    bulk,
    commands,
    crowded,
    flood,
    growth,
    heartbeats,
    host,
    latency,
    lookback,
    many_workers,
    memory,
    opening,
    pipeline,
    projection,
    replay,
    scheduling,
    scrapes,
    shared_journal,
    singles,
    submits,
    tasks,
    viewers,
)
from tools.bench.processes import BenchError
from tools.bench.result import Result, said_before, table

# What measures a part in that directory: measure(directory, rounds=…, quick=…).
Measure = Callable[..., list[Result]]

# In the order in which they are run.
PARTS: Final[dict[str, Measure]] = {
    "a": tasks.measure,
    "l": tasks.measure_limited,
    "m": singles.measure,
    "n": pipeline.measure,
    "b": submits.measure,
    "c": latency.measure,
    "o": many_workers.measure,
    "p": crowded.measure,
    "q": bulk.measure,
    "r": memory.measure,
    "s": commands.measure,
    "d": replay.measure,
    "e": opening.measure_log,
    "f": opening.measure_snapshot,
    "g": beside.measure,
    "h": heartbeats.measure,
    "i": lookback.measure,
    "j": host.measure,
    "k": scheduling.measure,
    "t": flood.measure,
    "u": projection.measure,
    "v": viewers.measure,
    "w": scrapes.measure,
    "x": shared_journal.measure,
}
ROUNDS: Final = 5


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for, prints the table, writes the files; returns the exit code.

    A part that fails is left out, and the code is 1.
    """
    options = _parse(arguments)
    start = time.monotonic()
    measures: dict[str, Measure] = {**PARTS, "d": partial(replay.measure, events=options.events)}
    results: list[Result] = []
    failed: list[str] = []
    # Removed when all is measured: for minutes ext4 makes files slowly where many were deleted.
    with tempfile.TemporaryDirectory(prefix="titan-bench-", dir=options.directory) as name:
        for part in options.only:
            print(f"measuring {part} …", file=sys.stderr, flush=True)
            directory = Path(name) / part
            directory.mkdir(exist_ok=True)
            try:
                results += measures[part](directory, rounds=options.rounds, quick=options.quick)
            except BenchError as error:
                failed.append(f"tools.bench: ({part}) {error}")
                print(failed[-1], file=sys.stderr)
    print(table(results, options.before))
    if options.json is not None:
        report = {
            "time": time.time(),
            "seconds": time.monotonic() - start,
            "machine": {
                "cpus": len(os.sched_getaffinity(0)),
                "kernel": platform.release(),
                "python": platform.python_version(),
                "load": os.getloadavg()[0],
            },
            "results": [each.as_json() for each in results],
        }
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        for line in growth.draw(results, options.json):
            print(line)
    # Once more, below a table that they are missing from.
    for each in failed:
        print(each, file=sys.stderr)
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument(
        "--only", type=_parts, default=tuple(PARTS), metavar="a,b", help="which parts [all]"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"of each part [{ROUNDS}]")
    parser.add_argument(
        "--events", type=_positive, default=0, metavar="N", help="in the log of part d"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round, no peers: a smoke test"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every round there, and curves beside it"
    )
    parser.add_argument(
        "--before", type=_report, default={}, metavar="FILE",
        help="what --json wrote before, to be shown beside the numbers; it need not exist",
    )  # fmt: skip
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", help="whose disk to use [the temporary one]"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    return options


def _parts(value: str) -> tuple[str, ...]:
    parts = tuple(value.split(","))
    if not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"parts are {', '.join(PARTS)}")
    return parts


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _report(value: str) -> dict[tuple[str, str, str], str]:
    """Read before anything is measured: the same file may be written at the end."""
    try:
        return said_before(json.loads(Path(value).read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{value} was not written by --json: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
