"""What is known of a run, from three who do not know of each other.

The log as `titan wal dump` prints it, the records of the users, and the lines that the tasks wrote
when they really ran. Here they are only read; `judge.py` compares them. Nothing of Titan is
imported in either: what decides whether Titan was right must not be wrong together with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

LOG: Final = "log.jsonl"
USERS: Final = "users"
RUNS: Final = "runs"
END: Final = "end.json"

Event = dict[str, Any]
Key = tuple[int, int, int]
"""Job, index, attempt."""


class EvidenceError(Exception):
    """What was written down is not what it must be; the text is a sentence."""


@dataclass(slots=True, kw_only=True)
class Execution:
    """A process that really ran. Times are seconds since the boot, to the hundredth, cut off."""

    key: Key
    worker: str
    pid: int
    start: float
    last: float
    """It was certainly there then."""
    exit_code: int | None = None
    """None: it did not come to its end."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything that the judge is told."""

    events: Iterable[Event] = ()
    users: list[Event] = field(default_factory=list)
    """The lines of all users' records, each user's in their order."""
    executions: list[Execution] = field(default_factory=list)
    boot_time: float = 0.0
    """When the machine was booted, in Unix seconds."""
    trouble: list[str] = field(default_factory=list)
    """What the tool saw that no fault explains."""
    unsettled: list[str] = field(default_factory=list)
    """What was not as it must be when the time after the last fault was over."""
    orphans: list[str] = field(default_factory=list)
    """Processes that were there when there was no task any more, or no server."""


def read_evidence(root: Path) -> Evidence:
    """Of a run's directory. Raises EvidenceError, OSError."""
    end = json.loads((root / END).read_text())
    return Evidence(
        events=list(read_lines(root / LOG)),
        users=[line for path in sorted((root / USERS).iterdir()) for line in read_lines(path)],
        executions=read_executions(sorted((root / RUNS).iterdir())),
        boot_time=end["boot_time"],
        trouble=end["trouble"],
        unsettled=end["unsettled"],
        orphans=end["orphans"],
    )


def read_lines(path: Path) -> Iterator[Event]:
    """JSON, an object a line."""
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def read_executions(paths: Iterable[Path]) -> list[Execution]:
    """From the files that tasks wrote, one for each worker; in no order."""
    found: dict[tuple[Key, str, int], Execution] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            try:
                what, job, index, attempt, worker, pid, uptime, code = line.split()
                key = (int(job), int(index), int(attempt))
                who, now = (key, worker, int(pid)), float(uptime)
                if what == "start":
                    if who in found:
                        raise EvidenceError(f"{path}: a process started twice: {line!r}")
                    found[who] = Execution(key=key, worker=worker, pid=who[2], start=now, last=now)
                else:
                    found[who].last = now
                    if what == "end":
                        found[who].exit_code = int(code)
            except (ValueError, KeyError) as error:
                raise EvidenceError(f"{path}: no line of a task: {line!r}") from error
    return [*found.values()]
