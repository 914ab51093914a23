"""The bad network of a run: its proxy as a process, and what its links do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from tools.chaos.processes import REPOSITORY, STOP_SECONDS, ChaosError
from tools.chaos.proxy import WELL, Condition


class Way(NamedTuple):
    """A link of the proxy: ports on loopback, from the one to the other."""

    name: str
    listen: int
    to: int


class Network:
    """All links by their names."""

    def __init__(
        self, ways: Iterable[Way], seed: int, environment: dict[str, str], log: Path
    ) -> None:
        links = json.dumps([each._asdict() for each in ways])
        with log.open("wb") as output:
            self._proxy = subprocess.Popen(
                [sys.executable, "-m", "tools.chaos.proxy", links, str(seed)],
                env=environment,
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )

    def wait_ready(self) -> None:
        """Until it listens. Raises ChaosError."""
        assert self._proxy.stdout is not None
        if self._proxy.stdout.readline() != b"ready\n":
            raise ChaosError("the proxy did not start")

    def set_link(self, name: str, condition: Condition = WELL) -> None:
        """`name`: of a link, or "*"."""
        self._tell({"link": name, "condition": asdict(condition)})

    def drop_link(self, name: str) -> None:
        """Breaks the connections that there are."""
        self._tell({"link": name, "drop": True})

    def close(self) -> None:
        """It ends with its stdin."""
        assert self._proxy.stdin is not None
        assert self._proxy.stdout is not None
        self._proxy.stdin.close()
        self._proxy.stdout.close()
        try:
            self._proxy.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._proxy.kill()
            self._proxy.wait()

    def _tell(self, command: dict[str, object]) -> None:
        assert self._proxy.stdin is not None
        try:
            self._proxy.stdin.write(json.dumps(command).encode() + b"\n")
            self._proxy.stdin.flush()
        except OSError as error:
            raise ChaosError(f"the proxy has ended: {error}") from error
