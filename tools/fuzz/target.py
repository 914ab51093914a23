"""A manager and a worker of this run's own, and how they are called."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import grpc
import grpc.aio

from titan.rpc import access
from titan.rpc.channel import CLIENT_OPTIONS, split_address

REPOSITORY: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
# What is registered by the fuzzer is lost, and let go, so long after its last word.
HEARTBEAT_TIMEOUT: Final = "12s"
# What is accepted of the fuzzer's must not be taken for a leak: few jobs are kept.
_BOUNDS: Final = ("--jobs-max", "3000", "--forget-over", "1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that is attacked."""

    name: str
    address: str
    token: str
    credentials: grpc.ChannelCredentials | None = None
    tls: ssl.SSLContext | None = None
    """The same for raw connections, which then speak within TLS."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries."""
        return access.metadata(self.token)


def open_channel(target: Target) -> grpc.aio.Channel:
    """A channel for calls; each has its own connection."""
    if target.credentials is None:
        return grpc.aio.insecure_channel(target.address, options=CLIENT_OPTIONS)
    return grpc.aio.secure_channel(target.address, target.credentials, options=CLIENT_OPTIONS)


async def connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection. Raises OSError."""
    host, port = split_address(target.address)
    return await asyncio.open_connection(host, port, ssl=target.tls)


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

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = f"127.0.0.1:{_free_port()}"
        directory = str(root / "manager")
        self.manager = Server(
            "manager",
            [
                *("manager", "--data-dir", directory, "--listen", self.address),
                *("--heartbeat-timeout", HEARTBEAT_TIMEOUT, *_BOUNDS),
            ],
            root,
        )
        self.worker: Server | None = None

    def start(self) -> None:
        """Until both serve. Raises RuntimeError."""
        self.manager.wait_log("the manager is ready")
        self.worker = Server(
            "worker",
            [
                *("worker", "--name", "w1", "--data-dir", str(self.root / "w1")),
                *("--manager", self.address, "--cpus", "4", "--memory", "8G"),
                *("--access", str(self.access_file)),
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
    def access_file(self) -> Path:
        """With the manager's token."""
        return self.root / "manager" / "access.json"

    def targets(self) -> tuple[Target, Target]:
        """The manager and the worker."""
        return _target("manager", self.root / "manager"), _target("worker", self.root / "w1")


def _target(name: str, directory: Path) -> Target:
    found = json.loads((directory / "access.json").read_text())
    return Target(name=name, address=found["address"], token=found["token"])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Raises RuntimeError after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def _free_port() -> int:
    """A port below those that outgoing connections are given."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
