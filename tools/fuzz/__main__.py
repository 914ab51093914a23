"""`make fuzz`: a real manager and worker, storms from a seed, an honest user, a judge."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from tools.fuzz import raw, tls
from tools.fuzz.calls import Caller
from tools.fuzz.cluster import REPOSITORY, Cluster, Server
from tools.fuzz.judge import (
    MIB,
    Sample,
    judge_drift,
    judge_honest,
    judge_log,
    judge_process,
    judge_worker,
    median,
    sample,
)
from tools.fuzz.people import People
from tools.fuzz.seeds import WORKER
from tools.fuzz.steps import Step, steps
from tools.fuzz.target import Target

IDLE: Final = 10_000
# Of the descriptors that this process may have, those that are not for idle connections.
SPARE_DESCRIPTORS: Final = 1_500
# Connections are closed, and what was registered is lost, within this.
SETTLE_SECONDS: Final = 45.0
WARM_UP_JOBS: Final = 3
OPEN_SECONDS: Final = 120.0
# He ends with the job that he waits for.
HONEST_SECONDS: Final = 180.0
STALL_SECONDS: Final = 2.5
_SAMPLE_SECONDS: Final = 0.2


class Run:
    """One run, in one directory."""

    def __init__(self, root: Path, given: argparse.Namespace) -> None:
        self._root = root
        self._seconds: float = given.minutes * 60
        self._idle: int = given.idle
        self._at_once: int = given.at_once
        self._rng = random.Random(given.seed)
        self._cluster = Cluster(root, People(root / "tls") if given.tls else None)
        self._honest: subprocess.Popen[bytes] | None = None
        self._peaks: dict[str, int] = {}
        self._after_steps: dict[str, list[int]] = {}
        self._opened: Counter[str] = Counter()
        # Of them, those within TLS when all were open.
        self._finished = 0
        self._table: list[tuple[str, str]] = []
        self._unexpected: list[str] = []

    def perform(self) -> list[str]:
        """All of it; returns what was found."""
        with self._cluster:
            self._cluster.start()
            try:
                return self._perform()
            finally:
                if self._honest is not None and self._honest.poll() is None:
                    self._honest.kill()
                    self._honest.wait()

    def _perform(self) -> list[str]:
        cluster = self._cluster
        assert cluster.worker is not None
        servers = (cluster.manager, cluster.worker)
        self._honest = self._start_honest()
        self._wait_honest(WARM_UP_JOBS)
        before = {each.name: sample(each.pid) for each in servers}
        asyncio.run(self._storm(cluster.targets()))
        after = {each.name: self._settle(each, before[each.name]) for each in servers}
        self._wait_honest(len(self._honest_lines()) + 2)
        self._honest.send_signal(signal.SIGTERM)
        self._honest.wait(HONEST_SECONDS)
        found = []
        for each in servers:
            name = each.name
            # The worker has few.
            finished = self._finished if each is cluster.manager else 0
            found += judge_process(
                name, before[name], after[name], self._peaks[name], tls_connections=finished
            )
            found += judge_drift(name, self._after_steps[name])
            found += judge_log(name, each.log())
        lines = self._honest_lines()
        found += [*judge_honest(lines), *judge_worker(self._events(), WORKER), *self._unexpected]
        self._tell(before, after, lines)
        return found

    async def _storm(self, targets: tuple[Target, ...]) -> None:
        hold = asyncio.Event()
        sampling = asyncio.create_task(self._sample_peaks())
        jobs: list[int] = []
        callers = [Caller(target, random.Random(self._rng.random()), jobs) for target in targets]
        async with asyncio.TaskGroup() as group:
            worker = next(each for each in targets if each.name == "worker")
            few = max(self._idle // 100, 10)
            keep_idle = raw.keep_idle if worker.tls is None else tls.keep_idle
            group.create_task(keep_idle(targets[0], self._idle, hold, self._opened))
            group.create_task(keep_idle(worker, few, hold, Counter()))
            for target in targets:
                group.create_task(raw.drip(target, 20, hold))
                if target.tls is not None:
                    group.create_task(tls.drip(target, 20, hold))
            try:
                await self._wait_opened()
                number = 0
                end = time.monotonic() + self._seconds
                while number == 0 or time.monotonic() < end:
                    number += 1
                    await self._round(number, callers, end)
                self._note("idle connections at the end", str(self._opened["open"]))
                self._note("idle ones that it closed", str(self._opened["closed by it"]))
                held = {each.name: sample(each.pid) for each in self._servers()}
                self._note("manager while they were", _shown(held["manager"]))
                await self._stall(targets)
            finally:
                hold.set()
        sampling.cancel()
        for caller in callers:
            total = sum(caller.answers.values())
            title = caller.target.title
            self._note(f"calls of the {title}", str(total))
            self._unexpected += caller.unexpected[:10]
            (self._root / f"answers-{title.replace(' ', '-')}.txt").write_text(
                "".join(f"{count:8} {what}\n" for what, count in sorted(caller.answers.items()))
            )

    async def _round(self, number: int, callers: list[Caller], end: float) -> None:
        left = steps(callers, self._rng)
        await raw.run_all([lambda: self._take_steps(number, left, end)] * self._at_once)

    async def _take_steps(self, number: int, left: list[Step], end: float) -> None:
        while left and (number == 1 or time.monotonic() < end):
            what, run = left.pop()
            start = time.monotonic()
            outcome = await run()
            for each in self._servers():
                with suppress(OSError):
                    self._after_steps.setdefault(each.name, []).append(sample(each.pid).rss_bytes)
            rss = " ".join(f"{each.name} {_rss(each)}" for each in self._servers())
            told = f" {dict(outcome)}" if outcome is not None else ""
            print(
                f"  {number}: {what:36} {time.monotonic() - start:5.1f} s  {rss}{told}", flush=True
            )

    async def _wait_opened(self) -> None:
        """Until as many are open as will be."""
        deadline = time.monotonic() + OPEN_SECONDS
        while self._opened["open"] < self._idle and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_SAMPLE_SECONDS)
        self._note("idle connections opened", str(self._opened["open"]))
        if self._cluster.people is not None:
            self._finished = self._opened["finished"]
            self._note("of them within TLS", str(self._finished))
        self._note("manager with them", _shown(sample(self._cluster.manager.pid)))

    async def _stall(self, targets: tuple[Target, ...]) -> None:
        """Messages that never come to their end, by whoever, and by nobody."""

        async def stall(each: Target) -> None:
            hold = asyncio.Event()
            stalling = asyncio.create_task(raw.stall_messages(each, 4, hold))
            await asyncio.sleep(STALL_SECONDS)
            rss = {one.name: _rss(one) for one in self._servers()}[each.name]
            hold.set()
            taken = await stalling
            what = f"unfinished messages, {each.title}"
            self._note(what, f"{rss}, which took {taken / MIB:.0f} MiB of them")

        left = [*targets]
        if targets[0].tls is None:
            left += [replace(each, token="", who="by nobody") for each in targets]

        async def take() -> None:
            while left:
                await stall(left.pop(0))

        await raw.run_all([take] * self._at_once)

    def _servers(self) -> tuple[Server, Server]:
        assert self._cluster.worker is not None
        return self._cluster.manager, self._cluster.worker

    async def _sample_peaks(self) -> None:
        while True:
            for each in self._servers():
                with suppress(OSError):
                    rss = sample(each.pid).rss_bytes
                    self._peaks[each.name] = max(self._peaks.get(each.name, 0), rss)
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _settle(self, server: Server, before: Sample) -> Sample | None:
        """As it is when it has put away what it can, or the time for that is over."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                now = sample(server.pid)
            except OSError:
                return None
            problems = judge_process(server.name, before, now, 0)
            if not problems or time.monotonic() > deadline:
                return now
            time.sleep(_SAMPLE_SECONDS)

    def _start_honest(self) -> subprocess.Popen[bytes]:
        arguments = [
            self._cluster.address, *self._cluster.access, WORKER, str(self._honest_path),
        ]  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "tools.fuzz.honest", *arguments], cwd=REPOSITORY
        )

    @property
    def _honest_path(self) -> Path:
        return self._root / "honest.jsonl"

    def _honest_lines(self) -> list[dict[str, object]]:
        if not self._honest_path.exists():
            return []
        whole, _, _ = self._honest_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def _wait_honest(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while len(self._honest_lines()) < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def _events(self) -> list[dict[str, object]]:
        dumped = subprocess.run(
            [sys.executable, "-m", "titan.cli", "wal", "dump", str(self._root / "manager")],
            capture_output=True, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        return [json.loads(line) for line in dumped.stdout.splitlines()]

    def _note(self, what: str, value: str) -> None:
        self._table.append((what, value))
        print(f"  {what}: {value}", flush=True)

    def _tell(
        self,
        before: dict[str, Sample],
        after: dict[str, Sample | None],
        lines: list[dict[str, object]],
    ) -> None:
        print("\nResult")
        for name, first in before.items():
            last = after[name]
            self._table.append((f"{name} before", _shown(first)))
            self._table.append((f"{name} at its peak", f"{self._peaks[name] / MIB:.0f} MiB"))
            self._table.append((f"{name} after", _shown(last) if last else "it has ended"))
        for what in ("submit", "stats", "job"):
            waits = sorted(float(str(each[what])) for each in lines if what in each)
            if waits:
                text = f"{1000 * median(waits):.0f} ms median, {waits[-1]:.2f} s at most"
                self._table.append((f"honest user: {what}", f"{text}, of {len(waits)}"))
        for what, value in self._table:
            print(f"  {what:36} {value}")


def _rss(server: Server) -> str:
    try:
        return f"{sample(server.pid).rss_bytes / MIB:.0f} MiB"
    except OSError:
        return "ended"


def _shown(each: Sample) -> str:
    return f"{each.rss_bytes / MIB:.0f} MiB, {each.descriptors} descriptors, {each.threads} threads"


def main(arguments: list[str] | None = None) -> int:
    """0: nothing was found."""
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the storms last")
    parser.add_argument("--seed", type=int, default=None, help="the storms of an earlier run")
    parser.add_argument("--idle", type=int, default=IDLE, help="connections that are kept idle")
    parser.add_argument("--at-once", type=int, default=1, help="parts of a round at once")
    parser.add_argument("--tls", action="store_true", help="servers that have certificates")
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = secrets.randbelow(1 << 32)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The servers have what this process has.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    given.idle = max(min(given.idle, most - SPARE_DESCRIPTORS), 10)
    print(
        f"seed {given.seed}, {given.minutes:g} minutes, {given.idle} idle connections", flush=True
    )
    root = Path(tempfile.mkdtemp(prefix="titan-fuzz-"))
    found = ["the run did not come to its end"]
    try:
        found = Run(root, given).perform()
    finally:
        if found or given.keep:
            print(f"kept in {root}")
        else:
            shutil.rmtree(root)
    for each in found:
        print(f"FOUND {each}")
    print(f"{len(found)} found, seed {given.seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
