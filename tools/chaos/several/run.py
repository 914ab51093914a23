"""All rounds of a run: faults, the users' pause, then everything has to end and is judged."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from titan import Client
from titan.errors import TitanError
from titan.rpc import access
from titan.rpc.v1.manager_pb2 import StepDownRequest
from titan.rpc.v1.manager_pb2_grpc import ManagerServiceStub
from tools.chaos.evidence import RUNS, USERS, Event, Evidence, read_executions
from tools.chaos.history import Violation
from tools.chaos.judge import Verdict, judge
from tools.chaos.processes import ChaosError, find_processes, send
from tools.chaos.several.breaker import Breaker
from tools.chaos.several.copies import check_rows, compare_copy, read_copy, read_records, read_rows
from tools.chaos.several.managers import Manager, SeveralManagers
from tools.chaos.several.pauses import Outage, Pause, find_answer, find_failed_calls
from tools.chaos.several.postgresql import Pair
from tools.chaos.several.rounds import Round, draw_rounds
from tools.chaos.users import Users, find_missing

USER_COUNT: Final = 4
MANAGER_COUNT: Final = 3
# A call of a user fails only after so long, which no fault lasts.
PATIENCE_SECONDS: Final = 40.0
# Within this after the faults of a round everything has ended and is well again.
SETTLE_SECONDS: Final = 90.0
# So many submits are answered before a fault.
FLOW_ANSWERS: Final = 6
LEAVE_SECONDS: Final = 30.0
STEP_DOWN_SECONDS: Final = 10.0
_LAST_LSN: Final = "SELECT max(last_lsn) FROM titan_journal.journal"
_TERM: Final = "SELECT term FROM titan_journal.lease"
_POLL_SECONDS: Final = 0.1


class Given(NamedTuple):
    """What the user of the tool says."""

    seed: int
    rounds: int
    kinds: Sequence[str]
    workers: int
    lease_seconds: float
    timeout_seconds: float
    """Of heartbeats."""


class Run:
    """All rounds, in one directory, over one pair."""

    def __init__(self, root: Path, given: Given, pair: Pair) -> None:
        self.pauses: list[Pause] = []
        self._root = root
        self._pair = pair
        self._rounds = draw_rounds(
            given.seed,
            count=given.rounds,
            lease_seconds=given.lease_seconds,
            timeout_seconds=given.timeout_seconds,
            kinds=given.kinds,
        )
        self.cluster = SeveralManagers(
            root,
            pair,
            managers=MANAGER_COUNT,
            workers=given.workers,
            lease_seconds=given.lease_seconds,
            timeout_seconds=given.timeout_seconds,
            seed=given.seed,
        )
        self._users = Users(
            root,
            self.cluster.environment,
            manager=self.cluster.for_clients,
            seed=given.seed,
            count=USER_COUNT,
            options=("--patience", f"{PATIENCE_SECONDS:g}", "--hurried"),
        )
        chance = random.Random(f"standbys {given.seed}")
        self._breaker = Breaker(self.cluster, root / "faults.jsonl", chance, self._step_down)
        self.evidence = Evidence()
        self.verdict = Verdict()

    def perform(self) -> None:
        """Until all rounds are over, or one has found something. Raises ChaosError."""
        self.cluster.start()
        self._users.start()
        self._users.wait_busy(self._breaker.watch)
        for each in self._rounds:
            if each.number > 1:
                self._users.resume()
            self._wait_flow()
            outage = self._breaker.run(each)
            unsettled = self._measure(each, outage)
            self._look(unsettled + self._settle())
            self._tell(each)
            if self.verdict.violations:
                return
        self._end()

    def close(self) -> None:
        """Ends everything, however far it came."""
        self._users.close()
        self.cluster.end_all()
        self._breaker.close()

    def _wait_flow(self) -> None:
        """Until users submit as they do: who has just gone on would be taken for a pause."""
        goal = self._count_accepted() + FLOW_ANSWERS
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._count_accepted() < goal:
            self._breaker.watch()
            if time.monotonic() > deadline:
                raise ChaosError("the users do nothing, see users.log")
            time.sleep(_POLL_SECONDS)

    def _count_accepted(self) -> int:
        return sum(line["what"] == "accepted" for line in self._read_users())

    def _measure(self, each: Round, outage: Outage) -> list[str]:
        """Until the first submit after the outage is answered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answered := find_answer(self._read_users(), outage)) is None:
            self._breaker.watch()
            if time.monotonic() > deadline:
                return [f"round {each.number}: after {each.name} no submit was answered"]
            time.sleep(_POLL_SECONDS)
        self.pauses.append(Pause(each.number, each.name, answered - outage.since))
        return []

    def _settle(self) -> list[str]:
        """Until all that was submitted has ended and everything is well; says what is not."""
        deadline = time.monotonic() + SETTLE_SECONDS
        unsettled = self._users.pause(self._breaker.watch, deadline)
        missing = ["no manager answers"]
        while missing and time.monotonic() < deadline:
            self._breaker.watch()
            time.sleep(_POLL_SECONDS)
            leader = self.cluster.find_leader()
            if leader is not None:
                with suppress(TitanError):
                    missing = self._find_missing(leader)
        return unsettled + missing

    def _find_missing(self, leader: Manager) -> list[str]:
        """Raises TitanError."""
        with Client(leader.listen, access_file=leader.access, retry_for_seconds=1) as client:
            missing = find_missing(client, self.cluster.workers, self._root)
        missing += self.cluster.find_not_one_leader()
        return missing or self._compare_copies()

    def _compare_copies(self) -> list[str]:
        at_least_lsn = self._pair.primary.ask(_LAST_LSN, "titan") or 0
        # Records come all the time, of heartbeats at least: those of PostgreSQL are read last.
        copies = {name: read_copy(each.directory) for name, each in self.cluster.managers.items()}
        with self._pair.primary.connect("titan") as connection:
            rows = read_rows(connection)
        records = read_records(rows)
        found = [
            f"the copy of {name}: {what}"
            for name, copied in copies.items()
            if (what := compare_copy(copied, records, at_least_lsn))
        ]
        return found + check_rows(rows)

    def _look(self, unsettled: list[str]) -> None:
        """All that is known by now, judged."""
        # Record by record what PostgreSQL has, unless something was unsettled, which is told.
        copy = next(iter(self.cluster.managers.values())).directory
        dump = self.cluster.titan("wal", "dump", str(copy))
        events = [json.loads(line) for line in dump.splitlines()]
        boot_time = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self.evidence = Evidence(
            events=events,
            users=self._read_users(),
            executions=read_executions(sorted((self._root / RUNS).iterdir())),
            boot_time=boot_time,
            trouble=self._breaker.trouble,
            unsettled=unsettled,
        )
        self.verdict = judge(self.evidence)
        self._find("wrong", find_failed_calls(self.evidence.users))

    def _tell(self, each: Round) -> None:
        faults = ", ".join(
            f"{fault.kind} {fault.seconds:.1f} s" if fault.seconds else fault.kind
            for fault in each.faults
        )
        pauses = [pause for pause in self.pauses if pause.round_number == each.number]
        pause = f"pause {pauses[0].seconds:.2f} s" if pauses else "no answer"
        say(
            f"round {each.number}: {faults}: {pause}; {self.verdict.acknowledged} requests, "
            f"{self.verdict.tasks} tasks so far, {len(self.verdict.violations)} violations"
        )

    def _end(self) -> None:
        """What can be seen only once everything was ended in order."""
        deadline = time.monotonic() + SETTLE_SECONDS
        unanswered, failed = self._users.stop(self._breaker.watch, deadline)
        self._breaker.trouble += [*failed, *self.cluster.stop()]
        self._look(unanswered)
        self._find("wrong", self._verify())
        self._find("orphaned", self._find_left())

    def _verify(self) -> Iterator[str]:
        """By the command that an administrator has for it."""
        directories = [str(each.directory) for each in self.cluster.managers.values()]
        for name in (self._pair.url, *directories):
            try:
                self.cluster.titan("wal", "verify", name)
            except ChaosError as error:
                yield str(error)

    def _find(self, kind: str, sentences: Iterable[str]) -> None:
        self.verdict.violations += [Violation(kind, 0, each) for each in sentences]

    def _find_left(self) -> Iterator[str]:
        """Of all that was started nothing may be there after its servers were ended."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while (left := find_processes(self._root)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for each in left:
            send(each.pid, signal.SIGKILL)
            yield f"process {each.pid} outlived its server: {each.command}"

    def _read_users(self) -> list[Event]:
        lines = []
        for path in sorted((self._root / USERS).iterdir()):
            # The last one may be half there.
            whole = path.read_text().rpartition("\n")[0]
            lines += [json.loads(line) for line in whole.splitlines()]
        return lines

    def _step_down(self, manager: Manager) -> None:
        """Asks that manager to hand over, as `titan manager step-down` does."""
        token = json.loads(manager.access.read_text())["token"]
        request = StepDownRequest(term=self._pair.primary.ask(_TERM, "titan"))
        with grpc.insecure_channel(manager.listen) as channel:
            ManagerServiceStub(channel).StepDown(
                request, metadata=access.metadata(token), timeout=STEP_DOWN_SECONDS
            )


def say(text: str) -> None:
    """A line of progress."""
    print(f"== {text}", flush=True)
