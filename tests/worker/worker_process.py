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

from tests.worker.host_driver import DEADLINE_SECONDS, HostDriver, is_running, wait_for
from titan.worker.agent import agent

_CODE = """
import importlib, json, sys
from pathlib import Path
from titan.worker.main import WorkerOptions, run_worker
directory, manager, access_file, name, listen, settings, options = sys.argv[1:]
for module, values in json.loads(settings).items():
    module = importlib.import_module("titan.worker.agent." + module)
    for constant, value in values.items():
        assert hasattr(module, constant), constant
        setattr(module, constant, value)
sys.exit(run_worker(WorkerOptions(
    data_directory=Path(directory), name=name, manager=manager, access_file=Path(access_file),
    listen=listen or None, named=(("gpu", 2),), labels=(("rack", "r1"),), cpus_milli=4000,
    **json.loads(options),
)))
"""

# How long an agent waits for its manager and its host, which in earnest is seconds: after a pause
# of the machine it would give up what is about to come, and what a test has scripted were lost.
_PATIENCE = {
    "agent": ("LEAVE_CALLS_SECONDS",),
    "host_questions": ("ANSWER_SECONDS",),
    "manager_link": (
        "DEREGISTER_SECONDS",
        "HEARTBEAT_SECONDS",
        "REGISTER_SECONDS",
        "REPORT_SECONDS",
    ),
}


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
        registering_seconds: float = DEADLINE_SECONDS,
        leave_grace_ms: int = agent.LEAVE_GRACE_MS,
        **options: Any,
    ) -> None:
        """Start an agent; its log goes to agent.log beside the directory.

        With an empty `listen` it listens nowhere. What waits for its registration does so for
        that long: more than in earnest, as the test's own manager may be slow to answer.
        `leave_grace_ms` is what its tasks get at the first SIGINT.
        """
        settings = {
            module: dict.fromkeys(names, DEADLINE_SECONDS) for module, names in _PATIENCE.items()
        }
        settings["agent"] |= {
            "REGISTERING_SECONDS": registering_seconds,
            "LEAVE_GRACE_MS": leave_grace_ms,
        }
        with self.path.with_name("agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _CODE, self.path, self._manager, self._access_file),
                    *(name, listen, json.dumps(settings), json.dumps(options)),
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
