"""Users who submit without pause, and repeat what was not answered with the same id."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from titan import Client
from titan.errors import ManagerUnreachable

# Gives up within this when the manager is away, so that it is the test that repeats.
RETRY_FOR_SECONDS = 0.5


@dataclass
class Accepted:
    """What the manager answered, by request id; counts for whoever waits for more."""

    jobs: dict[str, int] = field(default_factory=dict)
    # Those of them whose cancel was answered too.
    cancelled: set[int] = field(default_factory=set)
    tasks: int = 0
    repeats: int = 0
    errors: list[BaseException] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class User(threading.Thread):
    """One of several at once. Its jobs write a line each time one of their tasks runs."""

    def __init__(
        self,
        number: int,
        client: Client,
        line: str,
        accepted: Accepted,
        seed: str,
        *,
        cancel_chance: float = 0,
    ) -> None:
        super().__init__(name=f"user {number}", daemon=True)
        self._number = number
        self._client = client
        self._line = line
        self._accepted = accepted
        self._random = random.Random(seed)
        self._cancel_chance = cancel_chance
        self._is_over = threading.Event()

    def stop(self) -> None:
        """No new jobs; the one under way is repeated until it is answered."""
        self._is_over.set()

    def run(self) -> None:
        try:
            with self._client:
                count = 0
                while not self._is_over.wait(self._random.uniform(0, 0.1)):
                    count += 1
                    self._submit(f"user {self._number}, request {count}")
        except BaseException as error:  # noqa: BLE001  (told by the test)
            self._accepted.errors.append(error)

    def _submit(self, request_id: str) -> None:
        tasks = self._random.choice([1, 1, 1, 2, 3])
        array = f"0-{tasks - 1}" if tasks > 1 else None
        # Some repeat what was answered: the same request makes no second job.
        repeats = self._random.choice([1, 1, 1, 2])
        answers = set()
        while repeats:
            with self._persistence():
                job = self._client.submit(
                    self._line, shell=True, array=array, cpus=0.5, request_id=request_id
                )
                answers.add(job.id)
                repeats -= 1
        with self._accepted.lock:
            assert len(answers) == 1, (request_id, answers)
            (job_id,) = answers
            self._accepted.jobs[request_id] = job_id
            self._accepted.tasks += tasks
        if self._random.random() < self._cancel_chance:
            self._cancel(job_id)

    def _cancel(self, job_id: int) -> None:
        while job_id not in self._accepted.cancelled:
            with self._persistence():
                self._client.cancel(job_id, grace="100ms")
                self._accepted.cancelled.add(job_id)

    @contextmanager
    def _persistence(self) -> Iterator[None]:
        """What was not answered is to be asked again."""
        try:
            yield
        except ManagerUnreachable:
            self._accepted.repeats += 1
