"""What tests let tasks do, so that a test decides when they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster import wait_until


class Gate:
    """Tasks that say that they run, and end when the gate is opened.

    Each writes a line `PID job.index.attempt` to `seen` when it starts.
    """

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.path = directory / name
        self.seen = directory / f"{name}.seen"
        self.seen.touch()

    def line(self, then: str = "exit 0") -> str:
        """A line of shell."""
        return (
            f"echo $$ $TITAN_JOB_ID.$TITAN_TASK_INDEX.$TITAN_ATTEMPT >> {self.seen};"
            f" while [ ! -e {self.path} ]; do sleep 0.02; done; {then}"
        )

    def open(self) -> None:
        """Lets all go on."""
        self.path.touch()

    def runs(self) -> list[tuple[int, str]]:
        """The pid and name of each that has started."""
        lines = [line.split() for line in self.seen.read_text().splitlines()]
        return [(int(pid), name) for pid, name in lines]

    def wait_runs(self, count: int) -> list[tuple[int, str]]:
        """The same, once so many have started."""
        wait_until(lambda: len(self.runs()) >= count, f"{count} tasks start")
        return self.runs()


def given_labels(worker: dict[str, Any]) -> dict[str, str]:
    """The labels that it was started with; Titan's own tell what its machine can do."""
    labels: dict[str, str] = worker["labels"]
    return {name: value for name, value in labels.items() if not name.startswith("titan.")}
