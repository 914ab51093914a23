"""The users of a run as processes, and what has to end once they are done."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from titan import Client
from tools.chaos.evidence import RUNS, USERS
from tools.chaos.processes import REPOSITORY, ChaosError, find_processes

_POLL_SECONDS = 0.05
START_SECONDS = 60.0


class Users:
    """`count` of them, who call `manager`; `options` are further ones of `tools.chaos.load`."""

    def __init__(
        self,
        root: Path,
        environment: dict[str, str],
        *,
        manager: str,
        seed: int,
        count: int,
        options: Sequence[str] = (),
    ) -> None:
        for name in (USERS, RUNS):
            (root / name).mkdir()
        self._root = root
        self._environment = environment
        self._records = [root / USERS / f"{number}.jsonl" for number in range(1, count + 1)]
        self._commands = [
            [
                sys.executable, "-m", "tools.chaos.load",
                "--manager", manager,
                "--record", str(record), "--runs", str(root / RUNS), "--mark", str(root),
                "--seed", f"user {number} {seed}", *options,
            ]
            for number, record in enumerate(self._records, 1)
        ]  # fmt: skip
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Does not wait."""
        for command in self._commands:
            with (self._root / "users.log").open("ab") as log:
                user = subprocess.Popen(
                    command, env=self._environment, cwd=REPOSITORY, stdout=log, stderr=log
                )
            self._processes.append(user)

    def wait_busy(self, watch: Callable[[], None]) -> None:
        """Until each has sent something. Raises ChaosError."""
        self._wait(lambda: all(map(_has_begun, self._records)), watch, START_SECONDS)

    def pause(self, watch: Callable[[], None], deadline: float) -> list[str]:
        """Each stops once it was answered. Says who was not until the deadline."""
        before = [_count_pauses(record) for record in self._records]
        self._send(signal.SIGUSR1)
        waiting = dict(enumerate(before, 1))
        while waiting and time.monotonic() < deadline:
            watch()
            self._check()
            time.sleep(_POLL_SECONDS)
            waiting = {
                number: count
                for number, count in waiting.items()
                if _count_pauses(self._records[number - 1]) == count
            }
        return [f"user {number} was not answered" for number in waiting]

    def resume(self) -> None:
        """All go on."""
        self._send(signal.SIGUSR2)

    def stop(self, watch: Callable[[], None], deadline: float) -> tuple[list[str], list[str]]:
        """Ends them, once each was answered: who was not until the deadline, and who failed."""
        unanswered, failed = [], []
        self._send(signal.SIGTERM)
        for number, user in enumerate(self._processes, 1):
            while user.poll() is None and time.monotonic() < deadline:
                watch()
                time.sleep(_POLL_SECONDS)
            if user.poll() is None:
                unanswered.append(f"user {number} was not answered")
            elif user.returncode:
                failed.append(
                    f"user {number} ended with exit code {user.returncode}, see users.log"
                )
        return unanswered, failed

    def close(self) -> None:
        """Ends all, however far they came."""
        for user in self._processes:
            if user.poll() is None:
                user.kill()
                user.wait()

    def _send(self, number: int) -> None:
        for user in self._processes:
            user.send_signal(number)

    def _wait(
        self, condition: Callable[[], bool], watch: Callable[[], None], seconds: float
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            watch()
            self._check()
            if time.monotonic() > deadline:
                raise ChaosError("the users do nothing, see users.log")
            time.sleep(_POLL_SECONDS)

    def _check(self) -> None:
        if any(user.poll() is not None for user in self._processes):
            raise ChaosError("a user has ended by itself, see users.log")


def find_missing(client: Client, workers: Iterable[str], root: Path) -> list[str]:
    """What has not ended yet, or is not well, as sentences. Raises TitanError."""
    states = {each["name"]: each["state"] for each in client.workers()}
    missing = [
        f"worker {name} is {states.get(name, 'unknown')}"
        for name in workers
        if states.get(name) != "HEALTHY"
    ]
    tasks = client.stats()["tasks"]
    missing += [
        f"{tasks[state]} tasks are {state}"
        for state in ("pending", "scheduled", "running")
        if tasks[state]
    ]
    tasks_left = [each for each in find_processes(root) if each.is_task]
    missing += [f"{len(tasks_left)} processes of tasks run"] if tasks_left else []
    return missing


def _has_begun(record: Path) -> bool:
    return record.exists() and record.stat().st_size > 0


def _count_pauses(record: Path) -> int:
    # The last line may be half there.
    return record.read_text().count('"what": "paused"')
