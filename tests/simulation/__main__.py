"""`python -m tests.simulation`: one seed with all that happens in it, or many on all cores.

Many: seeds in their order, one after the other in as many processes as there are cores, until
all are done, the time is over, or one fails. What is printed at the end tells what they brought
about. Ends with 1 when a seed failed, with the command that repeats it. With `--several` all of
them are of clusters with several managers over one journal.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.cluster import Outcome, SimulationFailed, run
from tests.simulation.plan import random_plan
from tests.simulation.several.cluster import run as run_several
from tests.simulation.several.plan import random_several_plan

# CI's budget, when nothing else is said.
MINUTES: Final = 10.0
PROGRESS_SECONDS: Final = 5.0
# Handed to each process beyond what it is at, so that none waits for the next.
AHEAD: Final = 2
# A run leaves some cycles behind; the collector's usual haste costs a tenth of the time.
GC_THRESHOLD: Final = 100_000


@dataclass
class Tally:
    """What came of the seeds so far."""

    seeds: int = 0
    steps: int = 0
    elapsed_us: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    # The first seed that brought each kind about.
    seen_in: dict[str, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, seed: int, came: Outcome | str) -> None:
        """A seed is done; a text says how it failed."""
        self.seeds += 1
        if isinstance(came, str):
            self.failures[seed] = came
            return
        self.steps += came.steps
        self.elapsed_us += came.elapsed_us
        self.counts.update(came.counts)
        for kind in came.counts:
            self.seen_in[kind] = min(self.seen_in.get(kind, seed), seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="that one alone, or the first of many")
    parser.add_argument("--seeds", type=int, help="so many, or as many of them as fit")
    parser.add_argument("--minutes", type=float, help=f"many, for so long; {MINUTES:g}")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="all cores")
    parser.add_argument("--several", action="store_true", help="of several managers")
    parser.add_argument("--keep-going", action="store_true", help="past seeds that fail")
    asked = parser.parse_args(arguments)
    if asked.seed is not None and asked.seeds is None and asked.minutes is None:
        return show(asked.seed, is_several=asked.several)
    first = asked.seed or 0
    minutes = asked.minutes
    if minutes is None:
        minutes = MINUTES if asked.seeds is None else float("inf")
    seeds = itertools.count(first) if asked.seeds is None else range(first, first + asked.seeds)
    until = "all are done" if minutes == float("inf") else f"{minutes:g} minutes are over"
    print(f"seeds from {first} in {asked.processes} processes until {until}", flush=True)
    start = time.monotonic()
    one = run_several_seed if asked.several else run_seed
    tally = run_many(one, iter(seeds), minutes * 60, asked.processes, keeps_going=asked.keep_going)
    report(tally, time.monotonic() - start)
    return 1 if tally.failures else 0


def show(seed: int, *, is_several: bool) -> int:
    """Runs one seed and prints each line of its trace."""
    try:
        if is_several:
            several = random_several_plan(seed)
            print(f"seed {seed}: {several}")
            outcome = run_several(several, on_note=print)
        else:
            plan = random_plan(seed)
            print(f"seed {seed}: {plan}")
            outcome = run(plan, on_note=print)
    except SimulationFailed as error:
        print(f"\nseed {seed} failed: {error}", file=sys.stderr)
        return 1
    print(f"\nseed {seed} keeps its promises; its trace has the hash {outcome.trace_hash}")
    tally = Tally()
    tally.add(seed, outcome)
    report(tally, 0.0)
    return 0


def run_seed(seed: int) -> tuple[int, Outcome | str]:
    """In a process of its own: what came of a seed."""
    try:
        return seed, run(random_plan(seed))
    except SimulationFailed as error:
        return seed, str(error)


def run_several_seed(seed: int) -> tuple[int, Outcome | str]:
    """The same with several managers."""
    try:
        return seed, run_several(random_several_plan(seed))
    except SimulationFailed as error:
        return seed, str(error)


def run_many(
    one: Callable[[int], tuple[int, Outcome | str]], seeds: Iterator[int], seconds: float,
    processes: int, *, keeps_going: bool,
) -> Tally:  # fmt: skip
    """The seeds in their order, for so long at most. One that fails ends it, unless it goes on."""
    tally = Tally()
    start = shown = time.monotonic()
    # Forked: as this process is, with all that tests changed in it.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, gc.set_threshold, (GC_THRESHOLD,)) as pool:
        waiting: set[Future[tuple[int, Outcome | str]]] = set()
        while True:
            now = time.monotonic()
            if now - start < seconds and (keeps_going or not tally.failures):
                free = processes * (1 + AHEAD) - len(waiting)
                waiting |= {pool.submit(one, each) for each in itertools.islice(seeds, free)}
            else:
                waiting = {each for each in waiting if not each.cancel()}
            if not waiting:
                return tally
            done, waiting = wait(waiting, PROGRESS_SECONDS, FIRST_COMPLETED)
            for each in done:
                seed, came = each.result()
                tally.add(seed, came)
                if isinstance(came, str):
                    print(f"  seed {seed} failed: {came.splitlines()[0]}", flush=True)
            if now - shown >= PROGRESS_SECONDS:
                shown = now
                print(f"  {_progress(tally, now - start)}", flush=True)


def report(tally: Tally, seconds: float) -> None:
    """Prints what came of it all."""
    print("\nwhat happened, how often, and in which seed first:")
    width = max(map(len, tally.counts), default=0)
    for kind, count in sorted(tally.counts.items()):
        print(f"  {kind:{width}} {count:>12,} {tally.seen_in[kind]:>8}")
    hours = tally.elapsed_us / 3.6e9
    print(f"{tally.steps:,} steps in {hours:,.2f} hours of virtual time")
    if seconds:
        print(_progress(tally, seconds))
    if tally.failures:
        first = min(tally.failures)
        print(f"\nseed {first} failed: {tally.failures[first]}")
        others = ", ".join(str(each) for each in sorted(tally.failures) if each != first)
        print(f"others that failed: {others}" if others else "no other failed")


def _progress(tally: Tally, seconds: float) -> str:
    rate = tally.seeds / seconds
    failed = len(tally.failures)
    return f"{tally.seeds:,} seeds in {seconds:.0f} s, {rate:.1f} a second, {failed} failed"


if __name__ == "__main__":
    sys.exit(main())
