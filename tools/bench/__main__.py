"""`python -m tools.bench`: all measures, or some of them. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.bench import (
    beside,
    commands,
    heartbeats,
    host,
    latency,
    lookback,
    memory,
    opening,
    replay,
    scheduling,
    submits,
    tasks,
)
from tools.bench.processes import BenchError
from tools.bench.result import Result, table

PARTS: Final = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "r", "s")
ROUNDS: Final = 5


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for, prints the table, writes the file; returns the exit code."""
    options = _parse(arguments)
    start = time.monotonic()
    results: list[Result] = []
    for part in options.only:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        try:
            results += _measure(part, options)
        except BenchError as error:
            print(f"tools.bench: ({part}) {error}", file=sys.stderr)
            return 1
    print(table(results))
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
    return 0


def _measure(part: str, options: argparse.Namespace) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="titan-bench-", dir=options.directory) as name:
        directory = Path(name)
        rounds, quick = options.rounds, options.quick
        if part == "a":
            return tasks.measure(directory, rounds=rounds, quick=quick)
        if part == "b":
            return submits.measure(directory, rounds=rounds, quick=quick)
        if part == "c":
            return latency.measure(directory, rounds=rounds, quick=quick)
        if part == "d":
            events = options.events or (replay.EVENTS_QUICK if quick else replay.EVENTS)
            return replay.measure(directory, rounds=rounds, events=events)
        if part == "j":
            return host.measure(directory, rounds=rounds, quick=quick)
        if part == "k":
            return scheduling.measure(rounds=rounds, quick=quick)
        if part == "h":
            return heartbeats.measure(directory, quick=quick)
        measures = {
            "e": opening.measure_log,
            "f": opening.measure_snapshot,
            "g": beside.measure,
            "i": lookback.measure,
            "r": memory.measure,
            "s": commands.measure,
        }
        return measures[part](directory, rounds=rounds, quick=quick)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="a,b", help="which parts [all]"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"of each part [{ROUNDS}]")
    parser.add_argument("--events", type=_positive, metavar="N", help="in the log of part d")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
