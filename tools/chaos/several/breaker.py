"""Does what a round of the script says, puts it right again, and says how it looked to users."""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from tools.chaos.processes import ChaosError
from tools.chaos.proxy import FREEZE, SWALLOW, Condition
from tools.chaos.several.managers import Manager, SeveralManagers
from tools.chaos.several.pauses import Outage
from tools.chaos.several.rounds import Fault, Round

_POLL_SECONDS: Final = 0.01
_CANCEL_SECONDS: Final = 0.3
_LEADER_SECONDS: Final = 20.0
_CUT: Final = {
    "freeze": Condition(forth=FREEZE, back=FREEZE),
    "swallow": Condition(forth=SWALLOW, back=SWALLOW),
}
# What nobody can be served during: users' pause begins when it is over.
_WHILE_NOBODY_SERVES: Final = (
    "cut-clients",
    "kill-postgresql",
    "restart-postgresql",
    "fail-over",
    "stop-synchronous",
)
_CANCEL: Final = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

_Action = Callable[[], None]


def _nothing() -> None:
    pass


class Breaker:
    """Faults on one cluster. `step_down` asks a manager to hand over, and raises what it likes."""

    def __init__(
        self,
        cluster: SeveralManagers,
        record: Path,
        chance: random.Random,
        step_down: Callable[[Manager], None],
    ) -> None:
        self.trouble: list[str] = []
        """What happened that no fault explains, as sentences."""
        self._cluster = cluster
        self._record = record.open("a", buffering=1)
        self._chance = chance
        self._step_down = step_down
        self._queue: list[tuple[float, int, _Action]] = []
        self._order = itertools.count()
        self._start = 0.0
        self._last_leader: Manager | None = None
        self._sent_after = -math.inf
        self._since = 0.0

    def run(self, each: Round) -> Outage:
        """All its faults; when it returns, everything is to run and the network is well."""
        self.watch()
        # A machine that stood still for a lease has cost the leader that. What happens without one
        # is the judge's.
        with suppress(ChaosError):
            self._cluster.wait_one_leader(time.monotonic() + _LEADER_SECONDS)
        self._start = time.monotonic()
        self._sent_after = self._since = -math.inf
        for fault in each.faults:
            self._at(fault.at_seconds, lambda fault=fault: self._begin(fault))  # type: ignore[misc]
        while self._queue:
            while self._queue and self._queue[0][0] <= time.monotonic() - self._start:
                heapq.heappop(self._queue)[2]()
            self.watch()
            time.sleep(_POLL_SECONDS)
        return Outage(self._sent_after, self._since)

    def watch(self) -> None:
        """Starts again what ended though nobody asked it to, and says so."""
        for server in self._cluster.servers:
            code = server.exit_code()
            if server.is_wanted and code is not None:
                self._note(f"{server.name} ended by itself with exit code {code}")
                server.start()

    def close(self) -> None:
        """The record is whole."""
        self._record.close()

    def _at(self, seconds: float, action: _Action) -> None:
        heapq.heappush(self._queue, (seconds, next(self._order), action))

    def _begin(self, fault: Fault) -> None:
        began = time.time()
        put_right = self._break(fault)
        done = time.time()
        if fault.kind not in _WHILE_NOBODY_SERVES:
            # Whatever is sent from now on is answered by somebody else, or later.
            self._since = max(self._since, began)
            self._sent_after = max(self._sent_after, done)
        elif fault.kind in ("restart-postgresql", "fail-over"):
            self._since = max(self._since, done)
        self._write("begin", fault)

        def end() -> None:
            put_right()
            if fault.kind in ("cut-clients", "kill-postgresql", "stop-synchronous"):
                self._since = max(self._since, time.time())
            self._write("end", fault)

        self._at(time.monotonic() - self._start + fault.seconds, end)

    def _break(self, fault: Fault) -> _Action:
        """Begins it and returns what ends it."""
        leader = self._find_leader()
        match fault.kind:
            case "kill-leader":
                return self._kill(leader)
            case "kill-standby":
                return self._kill(self._chance.choice(self._find_standbys(leader)))
            case "stop-leader":
                leader.send(signal.SIGSTOP)
                return lambda: leader.send(signal.SIGCONT)
            case "step-down":
                try:
                    self._step_down(leader)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                    self._note(f"{leader.name} does not step down: {error}")
                return _nothing
            case "cut-postgresql":
                servers = self._cluster.pair.servers
                return self._cut([f"{leader.name}.{each.name}" for each in servers], fault)
            case "cut-workers":
                downs = [f"{name}.down" for name in self._cluster.workers]
                return self._cut([f"{leader.name}.workers", *downs], fault)
            case "cut-clients":
                return self._cut([f"{leader.name}.clients"], fault)
            case _:
                return self._break_postgresql(fault)

    def _break_postgresql(self, fault: Fault) -> _Action:
        pair = self._cluster.pair
        match fault.kind:
            case "kill-postgresql":
                pair.primary.kill()
                return pair.primary.start
            case "restart-postgresql":
                pair.primary.stop()
                pair.primary.start()
                return _nothing
            case "fail-over":
                pair.fail_over()
                return pair.rebuild_standby
            case "stop-synchronous":
                pair.standby.pause()
                if fault.manner == "cancel":
                    self._cancel_waiting(self._start + fault.at_seconds + fault.seconds)
                return pair.standby.go_on
        raise AssertionError(f"nothing is known of {fault.kind}")

    def _find_leader(self) -> Manager:
        """Who leads, or was the last that is known to; a manager if none ever did."""
        found = self._cluster.find_leader() or self._last_leader
        self._last_leader = found or next(iter(self._cluster.managers.values()))
        return self._last_leader

    def _find_standbys(self, leader: Manager) -> list[Manager]:
        return [
            each
            for each in self._cluster.managers.values()
            if each is not leader and each.is_wanted
        ]

    def _kill(self, manager: Manager) -> _Action:
        manager.kill()
        return manager.start

    def _cut(self, links: list[str], fault: Fault) -> _Action:
        for each in links:
            self._cluster.network.set_link(each, _CUT[fault.manner])

        def heal() -> None:
            for each in links:
                self._cluster.network.set_link(each)

        return heal

    def _cancel_waiting(self, until: float) -> None:
        """As an administrator who loses patience with commits that wait for a standby."""
        with suppress(psycopg.Error), self._cluster.pair.primary.connect() as connection:
            connection.execute(_CANCEL)
        if time.monotonic() + _CANCEL_SECONDS < until:
            now = time.monotonic() - self._start
            self._at(now + _CANCEL_SECONDS, lambda: self._cancel_waiting(until))

    def _note(self, sentence: str) -> None:
        self.trouble.append(sentence)
        self._record.write(json.dumps({"time": time.time(), "trouble": sentence}) + "\n")

    def _write(self, what: str, fault: Fault) -> None:
        leader = self._last_leader.name if self._last_leader else ""
        line = {"time": time.time(), "what": what, "leader": leader, **fault._asdict()}
        self._record.write(json.dumps(line) + "\n")
