"""One user: `python -m tools.chaos.load …`, a process that submits and cancels without pause.

Before a call is sent, and again when it was answered, a line is appended to the user's record and
synced, so that the record never knows less than the user. What was not answered is repeated with
the same request id until it is. SIGTERM: no new jobs; what is under way is repeated to its end.
SIGUSR1: the same, and then nothing until SIGUSR2.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from titan import Client, JobSpec
from titan.client.dependencies import After
from titan.errors import InvalidJob, NotFound, TitanError
from tools.chaos.processes import MARK, TASK_PROGRAM

T = TypeVar("T")

# Of each kind that many come in so many jobs.
KINDS: Final = {
    "short": 10, "array": 5, "long": 8, "fails": 2, "flaky": 2, "limited": 2, "stubborn": 1,
    "endless": 5, "flow": 2, "follows": 2,
}  # fmt: skip
CANCEL_CHANCE: Final = 0.2
REPEAT_CHANCE: Final = 0.1
# While more tasks than that wait, nobody submits: the load has to end when the run does.
PENDING_MAX: Final = 150
# Runs until its time limit stops it.
LIMITED_SECONDS: Final = 60.0
# Runs until its user cancels it, so long after it was accepted. One that was given up with its
# worker and is not stopped later is still there at the end.
ENDLESS_SECONDS: Final = 900.0
CANCELLED_AFTER_SECONDS: Final = (3.0, 20.0)
LONG_SECONDS: Final = (4.0, 20.0)
# In a hurry, as many short rounds need it: all that was submitted has ended soon.
HURRIED_CANCELLED_AFTER_SECONDS: Final = (1.0, 5.0)
HURRIED_LONG_SECONDS: Final = (2.0, 6.0)
THINKING_SECONDS: Final = (0.02, 0.4)
# By default one try; the user's own loop goes on for as long as it takes.
RETRY_FOR_SECONDS: Final = 5.0
_PAUSE_POLL_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 110.0


class User:
    """What one user does."""

    def __init__(
        self,
        client: Client,
        record: Path,
        runs: Path,
        mark: str,
        seed: str,
        *,
        is_hurried: bool = False,
    ) -> None:
        self.is_over = False
        self.is_paused = False
        self._cancelled_after, self._long = CANCELLED_AFTER_SECONDS, LONG_SECONDS
        if is_hurried:
            self._cancelled_after = HURRIED_CANCELLED_AFTER_SECONDS
            self._long = HURRIED_LONG_SECONDS
        self._client = client
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._runs = runs
        self._mark = mark
        self._chance = random.Random(seed)
        self._ids = secrets.SystemRandom()
        self._recent: deque[int] = deque(maxlen=20)
        self._endless: list[tuple[float, int]] = []
        self._give_up_at = float("inf")

    def run(self) -> None:
        """Until it is over. Raises TimeoutError for what was never answered."""
        while not self.is_over:
            time.sleep(self._chance.uniform(*THINKING_SECONDS))
            self._cancel_endless(time.monotonic())
            if self.is_paused:
                self._pause()
            if self._waiting() > PENDING_MAX:
                continue
            self._submit(self._draw())
            if self._recent and self._chance.random() < CANCEL_CHANCE:
                # The last one is under way more often than not.
                self._cancel(
                    self._chance.choice([self._recent[-1], self._chance.choice(self._recent)])
                )
        self._cancel_endless(float("inf"))

    def _pause(self) -> None:
        self._cancel_endless(float("inf"))
        self._write("paused")
        while self.is_paused and not self.is_over:
            # A signal ends it.
            time.sleep(_PAUSE_POLL_SECONDS)

    def set_paused(self, is_paused: bool) -> None:
        """Once what is under way was answered, or again from now on."""
        self.is_paused = is_paused

    def stop(self) -> None:
        """What is under way may take this long."""
        self._give_up_at = time.monotonic() + PATIENCE_SECONDS
        self.is_over = True

    def _waiting(self) -> int:
        count = self._persist(lambda: self._client.stats()["tasks"]["pending"], may_leave=True)
        return PENDING_MAX + 1 if count is None else count

    def _submit(self, jobs: list[tuple[dict[str, Any], JobSpec]]) -> None:
        request_id = f"{self._ids.getrandbits(128):032x}"
        self._write("submit", request_id=request_id, jobs=[told for told, _ in jobs])
        specs = [spec for _, spec in jobs]
        job_ids = self._ask_for(request_id, specs)
        if self._chance.random() < REPEAT_CHANCE:
            self._ask_for(request_id, specs)
        self._recent.append(job_ids[0])
        if jobs[0][0]["kind"] == "endless":
            due = time.monotonic() + self._chance.uniform(*self._cancelled_after)
            self._endless.append((due, job_ids[0]))

    def _ask_for(self, request_id: str, specs: list[JobSpec]) -> list[int]:
        answer = self._persist(lambda: self._client.submit_many(specs, request_id=request_id))
        assert answer is not None
        job_ids = [job.id for job in answer]
        self._write("accepted", request_id=request_id, job_ids=job_ids)
        return job_ids

    def _cancel_endless(self, now: float) -> None:
        for due, job_id in [each for each in self._endless if each[0] <= now]:
            self._cancel(job_id)
            self._endless.remove((due, job_id))

    def _cancel(self, job_id: int) -> None:
        grace = self._chance.choice(["100ms", "1s", "3s"])
        self._write("cancel", job_id=job_id)
        try:
            answer = self._persist(lambda: self._client.cancel(job_id, grace=grace))
        except NotFound:
            # It was acknowledged: the judge is told, and finds out more.
            self._write("unknown", job_id=job_id)
            return
        assert answer is not None
        self._write("cancelled", job_id=job_id, state=answer[0]["state"])

    def _draw(self) -> list[tuple[dict[str, Any], JobSpec]]:
        """The jobs of one request: what the judge is told of each, and what is submitted."""
        chance = self._chance
        kind = chance.choices([*KINDS], [*KINDS.values()])[0]
        if kind == "flow":
            first = self._job(chance.choice(["short", "short", "fails"]), chance.uniform(0.1, 2))
            condition = chance.choice(["ok", "any"])
            second = self._job("short", 0.2, after=After(first[1], condition))
            return [first, second]
        if kind == "follows":
            waited = chance.choice(self._recent) if self._recent else None
            return [self._job("short", 0.2, after=None if waited is None else After(waited, "any"))]
        if kind == "array":
            return [self._job("array", chance.uniform(0.05, 1.5), tasks=chance.randint(2, 24))]
        if kind == "long":
            return [self._job(kind, chance.uniform(*self._long))]
        if kind == "endless":
            return [self._job(kind, ENDLESS_SECONDS)]
        if kind in ("limited", "stubborn"):
            return [self._job(kind, LIMITED_SECONDS, limit=chance.uniform(0.5, 3))]
        return [self._job(kind, chance.uniform(0.05, 1))]

    def _job(
        self,
        kind: str,
        seconds: float,
        *,
        tasks: int = 1,
        limit: float | None = None,
        after: After | None = None,
    ) -> tuple[dict[str, Any], JobSpec]:
        chance = self._chance
        retries = {"flaky": 2, "fails": chance.choice([0, 1, 2])}.get(kind, 0)
        beats, rest = divmod(seconds, 0.5)
        spec = JobSpec(
            command=["/bin/sh", str(TASK_PROGRAM), str(self._runs), kind, str(int(beats)),
                     f"{rest:.3f}"],
            name=kind,
            cpus=chance.choice([0.5, 1, 1, 1, 2]),
            priority=chance.choice([0, 0, 0, 1, 5]),
            array=f"0-{tasks - 1}" if tasks > 1 else None,
            retries=retries,
            time_limit=limit,
            grace=1,
            cwd="/",
            env={MARK: self._mark},
            after=() if after is None else after,
        )  # fmt: skip
        return {"kind": kind, "tasks": tasks, "retries": retries}, spec

    def _persist(self, call: Callable[[], T], *, may_leave: bool = False) -> T | None:
        """Asks until there is an answer. With `may_leave` None once it is over."""
        while not (may_leave and self.is_over):
            try:
                return call()
            except (InvalidJob, NotFound):
                raise
            except TitanError as error:
                self._write("failed", error=str(error))
                if time.monotonic() > self._give_up_at:
                    raise TimeoutError(f"never answered: {error}") from error
                # Not by the seed: how often that is asked for is chance, and what comes is not.
                time.sleep(random.uniform(0.05, 0.3))
        return None

    def _write(self, what: str, **fields: object) -> None:
        line = json.dumps({"what": what, "time": time.time(), **fields})
        os.write(self._record, line.encode() + b"\n")
        os.fsync(self._record)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser()
    for name in ("manager", "record", "runs", "mark", "seed"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--access", help="by default where the manager has left it for us")
    parser.add_argument("--patience", type=float, default=RETRY_FOR_SECONDS, help="of the client")
    parser.add_argument("--hurried", action="store_true", help="no job takes long")
    given = parser.parse_args()
    client = Client(given.manager, access_file=given.access, retry_for_seconds=given.patience)
    with client:
        user = User(
            client, Path(given.record), Path(given.runs), given.mark, given.seed,
            is_hurried=given.hurried,
        )  # fmt: skip
        signal.signal(signal.SIGTERM, lambda *_: user.stop())
        signal.signal(signal.SIGUSR1, lambda *_: user.set_paused(True))
        signal.signal(signal.SIGUSR2, lambda *_: user.set_paused(False))
        try:
            user.run()
        except (TitanError, TimeoutError) as error:
            print(f"{given.seed}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
