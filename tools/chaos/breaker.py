"""Does what the script of faults says, puts it right again, and watches what dies by itself.

One thread: beginnings and ends of faults are short calls at their times.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tools.chaos.cluster import Cluster
from tools.chaos.faults import Fault
from tools.chaos.processes import STOP_SECONDS, Server, Worker, send
from tools.chaos.proxy import FREEZE, SWALLOW, WELL, Condition

POLL_SECONDS: Final = 0.05
FILLER: Final = "filler"
_BLOCK_BYTES: Final = 4096

_Action = Callable[[], None]

# Of a worker's lines: up is what the agent connects to the manager, down the other way round.
_LINES: Final = {
    "refuse": (Condition(refuses=True), Condition(refuses=True)),
    "freeze": (Condition(forth=FREEZE, back=FREEZE), Condition(forth=FREEZE, back=FREEZE)),
    "freeze-to-manager": (Condition(forth=FREEZE), Condition(back=FREEZE)),
    "freeze-from-manager": (Condition(back=FREEZE), Condition(forth=FREEZE)),
    "swallow": (Condition(forth=SWALLOW, back=SWALLOW), Condition(forth=SWALLOW, back=SWALLOW)),
    "delay": (
        Condition(delay_seconds=0.2, jitter_seconds=0.8),
        Condition(delay_seconds=0.2, jitter_seconds=0.8),
    ),
    "throttle": (Condition(bytes_per_second=2_000), Condition(bytes_per_second=2_000)),
}


class Breaker:
    """Faults on one cluster. `disk`: the small one, None: there is none."""

    def __init__(self, cluster: Cluster, disk: Path | None, record: Path) -> None:
        self.done: Counter[str] = Counter()
        self.trouble: list[str] = []
        """What happened that no fault explains, as sentences."""
        self._cluster = cluster
        self._disk = disk
        self._record = record.open("a", buffering=1)
        self._queue: list[tuple[float, int, _Action]] = []
        self._order = itertools.count()
        self._start = time.monotonic()

    def run(self, faults: Iterable[Fault], seconds: float) -> None:
        """The whole script; when it returns, everything is to run and the network is well."""
        self._start = time.monotonic()
        for fault in faults:
            self._at(fault.at_seconds, lambda fault=fault: self._begin(fault))  # type: ignore[misc]
        while (now := time.monotonic() - self._start) < seconds or self._queue:
            while self._queue and self._queue[0][0] <= now:
                heapq.heappop(self._queue)[2]()
            self.watch()
            time.sleep(POLL_SECONDS)
        self._cluster.network.set_link("*")

    def close(self) -> None:
        """The record is whole."""
        self._record.close()

    def watch(self) -> None:
        """Starts again what ended though nobody asked it to, and says so."""
        for server in self._cluster.servers:
            code = server.exit_code()
            if server.is_wanted and code is not None:
                self._note(f"{server.name} ended by itself with exit code {code}")
                server.start()

    def _at(self, seconds: float, action: _Action) -> None:
        heapq.heappush(self._queue, (seconds, next(self._order), action))

    def _begin(self, fault: Fault) -> None:
        end = self._break(fault)
        self._write("begin" if end else "skipped", fault)
        if end is None:
            return
        self.done[fault.kind] += 1

        def put_right() -> None:
            self._write("end", fault)
            end()

        self._at(fault.at_seconds + fault.seconds, put_right)

    def _break(self, fault: Fault) -> _Action | None:
        """Begins it and returns what ends it; None: there was nothing to break."""
        if fault.target == "disk":
            return self._fill_disk()
        if fault.target == "network":
            self._cluster.network.set_link("*", _LINES["freeze"][0])
            # Lines that had a fault of their own are well a little early.
            return lambda: self._cluster.network.set_link("*")
        if fault.target.endswith(".lines"):
            return self._break_lines(fault.kind, fault.target.removesuffix(".lines"))
        verb, what = fault.kind.split("-")
        is_manager = fault.target == "manager"
        server = self._cluster.manager if is_manager else self._cluster.workers[fault.target]
        if not server.is_wanted:
            # It takes longer to end than the script has thought, and is started after that.
            return None
        if what == "host":
            host = self._cluster.workers[fault.target].find_host()
            return self._break_host(verb, host) if host else None
        return self._break_server(verb, what, server)

    def _break_server(self, verb: str, what: str, server: Server) -> _Action:
        if verb == "stop":
            server.send(signal.SIGSTOP)
            return lambda: server.send(signal.SIGCONT)
        if verb == "kill" and isinstance(server, Worker) and what != "agent":
            server.kill_all(with_tasks=what == "worker")
            return server.start
        if verb == "kill":
            server.kill()
            return server.start
        number = signal.SIGINT if verb == "leave" else signal.SIGTERM
        allowed = (0,) if server.has_listened() else (0, -number, 128 + number)
        server.send(number)
        deadline = time.monotonic() + STOP_SECONDS
        return lambda: self._start_when_ended(server, deadline, allowed)

    def _start_when_ended(self, server: Server, deadline: float, allowed: tuple[int, ...]) -> None:
        code = server.exit_code()
        if code is None and time.monotonic() < deadline:
            now = time.monotonic() - self._start
            self._at(now + 0.2, lambda: self._start_when_ended(server, deadline, allowed))
            return
        if code is None:
            self._note(f"{server.name} did not end within {STOP_SECONDS:g} s of its signal")
            server.kill()
        elif code not in allowed:
            self._note(f"{server.name} was told to end, and did so with exit code {code}")
        server.start()

    def _break_host(self, verb: str, pid: int) -> _Action:
        if verb == "stop":
            send(pid, signal.SIGSTOP)
            return lambda: send(pid, signal.SIGCONT)
        send(pid, signal.SIGKILL)
        # Its agent starts another one.
        return lambda: None

    def _break_lines(self, kind: str, name: str) -> _Action:
        links = ["clients"] if name == "clients" else [f"{name}.up", f"{name}.down"]
        if kind == "drop":
            for each in links:
                self._cluster.network.drop_link(each)
            return lambda: None
        for each, condition in zip(links, _LINES[kind], strict=False):
            self._cluster.network.set_link(each, condition)

        def heal() -> None:
            for each in links:
                self._cluster.network.set_link(each, WELL)

        return heal

    def _fill_disk(self) -> _Action:
        assert self._disk is not None
        path = self._disk / FILLER
        with path.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(256 * _BLOCK_BYTES))
        with path.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(_BLOCK_BYTES))
        return lambda: os.unlink(path)

    def _note(self, sentence: str) -> None:
        self.trouble.append(sentence)
        self._record.write(json.dumps({"time": time.time(), "trouble": sentence}) + "\n")

    def _write(self, what: str, fault: Fault) -> None:
        line = {"time": time.time(), "what": what, **fault._asdict()}
        self._record.write(json.dumps(line) + "\n")
