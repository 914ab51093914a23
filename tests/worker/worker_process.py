"""A real worker: the agent as a process of its own, which starts its host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.worker.host_driver import HostDriver, is_running, wait_for

_CODE = """
import json, sys
from pathlib import Path
from titan.worker.agent import agent
from titan.worker.main import WorkerOptions, run_worker
directory, manager, access_file, name, listen, registering_seconds, options = sys.argv[1:]
agent.REGISTERING_SECONDS = float(registering_seconds)
sys.exit(run_worker(WorkerOptions(
    data_directory=Path(directory), name=name, manager=manager, access_file=Path(access_file),
    listen=listen or None, named=(("gpu", 2),), labels=(("rack", "r1"),), cpus_milli=4000,
    **json.loads(options),
)))
"""


class WorkerProcess:
    """Starts agents on one directory, one after the other, and cleans up behind them."""

    def __init__(self, path: Path, manager: str, access_file: Path) -> None:
        self.path = path
        # Where its user keeps what is found by address.
        self.state = path.with_name("state")
        self._manager = manager
        self._access_file = access_file
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        name: str = "w1",
        listen: str = "127.0.0.1:0",
        *,
        registering_seconds: float = 30.0,
        **options: Any,
    ) -> None:
        """Start an agent; its log goes to agent.log beside the directory.

        With an empty `listen` it listens nowhere. What waits for its registration does so for
        that long: more than in earnest, as the test's own manager may be slow to answer.
        """
        with self.path.with_name("agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _CODE, self.path, self._manager, self._access_file),
                    *(name, listen, str(registering_seconds), json.dumps(options)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "XDG_STATE_HOME": str(self.state)},
            )

    def log(self) -> str:
        return self.path.with_name("agent.log").read_text()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the agent, and only it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def host_pid(self) -> int:
        """The pid of the task host."""
        return int((self.path / "host.lock").read_text())

    def close(self) -> None:
        """End agent, host and tasks."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        host = HostDriver(self.path)
        if (self.path / "host.sock").exists():
            with contextlib.suppress(OSError, AssertionError):
                pid = host.connect().pid
                host.leave_at_once()
                host.disconnect()
                wait_for(lambda: not is_running(pid), "the host to end")
        host.disconnect()
