"""A manager and a worker of this run's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from tools.chaos.processes import PORTS, free_ports
from tools.fuzz.people import HONEST, MANAGER, People
from tools.fuzz.seeds import WORKER
from tools.fuzz.target import Target

REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
# A run with certificates and one without, as they are done at once, have none in common.
_PORTS: Final = PORTS[:2_500]
_TLS_PORTS: Final = PORTS[2_500:]
# What is registered by the fuzzer is lost, and let go, so long after its last word.
HEARTBEAT_TIMEOUT: Final = "30s"
# What is accepted of the fuzzer's must not be taken for a leak: few jobs are kept.
_BOUNDS: Final = ("--jobs-max", "3000", "--forget-over", "1000")


class Server:
    """A process of this run, with its log in a file."""

    def __init__(self, name: str, arguments: list[str], root: Path) -> None:
        self.name = name
        self.log_path = root / f"{name}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TITAN_")}
        environment |= {"XDG_STATE_HOME": str(root / "state"), "PYTHONPATH": str(REPOSITORY)}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "titan.cli", *arguments],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its number, also when it has ended."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def log(self) -> str:
        """What it wrote."""
        return self.log_path.read_text(errors="replace")

    def wait_log(self, text: str) -> None:
        """Until that stands in its log. Raises RuntimeError."""

        def is_there() -> bool:
            if not self.is_running:
                raise RuntimeError(f"{self.name} ended:\n{self.log()}")
            return text in self.log()

        wait_until(is_there, START_SECONDS, f"{self.name} says {text!r}")

    def end(self) -> None:
        """SIGINT, and SIGKILL to what does not heed it: a worker takes its host with it."""
        if self.is_running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Cluster:
    """A manager and a worker that do what they always do, below one directory."""

    def __init__(self, root: Path, people: People | None = None) -> None:
        """With certificates, those of `people`."""
        self.root = root
        self.people = people
        ports = free_ports(2, among=_PORTS if people is None else _TLS_PORTS)
        self.address, self.token_address = (f"127.0.0.1:{port}" for port in ports)
        directory = str(root / "manager")
        tls: tuple[str, ...] = ()
        if people is not None:
            tls = (*people.options(MANAGER), "--token-listen", self.token_address)
        self.manager = Server(
            "manager",
            [
                *("manager", "--data-dir", directory, "--listen", self.address),
                *("--heartbeat-timeout", HEARTBEAT_TIMEOUT, *_BOUNDS, *tls),
            ],
            root,
        )
        self.worker: Server | None = None

    def start(self) -> None:
        """Until both serve. Raises RuntimeError."""
        self.manager.wait_log("the manager is ready")
        known: tuple[str, ...] = ("--access", str(self.root / "manager" / "access.json"))
        if self.people is not None:
            known = self.people.options(WORKER)
        self.worker = Server(
            "worker",
            [
                *("worker", "--name", WORKER, "--data-dir", str(self.root / WORKER)),
                *("--manager", self.address, "--cpus", "4", "--memory", "8G", *known),
            ],
            self.root,
        )
        self.worker.wait_log("registered with the manager")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends both."""
        if self.worker is not None:
            self.worker.end()
        self.manager.end()

    @property
    def access(self) -> tuple[str, str]:
        """What the honest user calls with: certificates, or the file with the access token."""
        if self.people is not None:
            return "tls", str(self.people.folder(HONEST))
        return "access", str(self.root / "manager" / "access.json")

    def targets(self) -> tuple[Target, ...]:
        """The servers, each by whoever attacks it."""
        worker = json.loads((self.root / WORKER / "access.json").read_text())
        if self.people is not None:
            return self.people.targets(self.address, self.token_address, worker["address"])
        manager = json.loads((self.root / "manager" / "access.json").read_text())
        return tuple(
            Target(name=name, address=found["address"], token=found["token"])
            for name, found in (("manager", manager), ("worker", worker))
        )


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Raises RuntimeError after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
