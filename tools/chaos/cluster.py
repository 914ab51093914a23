"""The real thing: a manager, workers and a bad network between them, below one directory."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tools.chaos.network import Network, Way
from tools.chaos.processes import (
    LOG_OPTIONS,
    START_SECONDS,
    WORKER_CPUS,
    ChaosError,
    Server,
    Worker,
    end_marked,
    environment_of,
    free_ports,
    titan,
    wait_end,
)


class Cluster:
    """What is started and ended. `disk`: where the manager's data lies, else below `root`."""

    def __init__(
        self, root: Path, workers: int, timeout_seconds: float, seed: int, disk: Path | None
    ) -> None:
        self.root = root
        self.manager_directory = (disk or root) / "manager"
        self.access = self.manager_directory / "access.json"
        self.environment = environment_of(root)
        names = [f"w{number}" for number in range(1, workers + 1)]
        ports = iter(free_ports(2 + 3 * workers))
        manager_port, clients_port = next(ports), next(ports)
        self.direct = f"127.0.0.1:{manager_port}"
        self.for_clients = f"127.0.0.1:{clients_port}"
        ways = [Way("clients", clients_port, manager_port)]
        self.manager = Server(
            "manager",
            [
                *titan("manager"), "--data-dir", str(self.manager_directory),
                "--listen", self.direct, "--heartbeat-timeout", f"{timeout_seconds:g}s",
                *LOG_OPTIONS,
            ],
            self.environment,
            root / "manager.log",
        )  # fmt: skip
        self.workers: dict[str, Worker] = {}
        for name in names:
            up, down, listen = next(ports), next(ports), next(ports)
            ways += [Way(f"{name}.up", up, manager_port), Way(f"{name}.down", down, listen)]
            self.workers[name] = Worker(
                name,
                [
                    *titan("worker"), "--data-dir", str(root / name), "--name", name,
                    "--manager", f"127.0.0.1:{up}", "--access", str(self.access),
                    "--listen", f"127.0.0.1:{listen}", "--advertise", f"127.0.0.1:{down}",
                    "--cpus", str(WORKER_CPUS), "--memory", "8G",
                ],
                self.environment,
                root / f"{name}.log",
                root / name,
            )  # fmt: skip
        self.network = Network(ways, seed, self.environment, root / "proxy.log")

    @property
    def servers(self) -> list[Server]:
        """All that are to run."""
        return [self.manager, *self.workers.values()]

    def start(self) -> None:
        """Everything; waits for the token that the workers need. Raises ChaosError."""
        self.network.wait_ready()
        self.manager.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.access.exists():
            if self.manager.exit_code() is not None or time.monotonic() > deadline:
                raise ChaosError(f"the manager did not start, see {self.root}/manager.log")
            time.sleep(0.05)
        for worker in self.workers.values():
            worker.start()

    def stop(self) -> list[str]:
        """Ends all servers as an administrator does. Says what did not end by itself."""
        trouble = []
        workers = [each for each in self.workers.values() if each.exit_code() is None]
        for worker in workers:
            worker.send(signal.SIGINT)
        trouble += [wait_end(worker) for worker in workers]
        if self.manager.exit_code() is None:
            self.manager.send(signal.SIGTERM)
            trouble.append(wait_end(self.manager))
        self.network.close()
        return [each for each in trouble if each]

    def end_all(self) -> None:
        """Whatever is left, at once."""
        for server in self.servers:
            server.kill()
        self.network.close()
        end_marked(self.root)


def mount_disk(place: Path, size_bytes: int) -> str:
    """A small disk of its own. Returns why there is none, or nothing."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "titan-chaos", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no small disk: {mounted.stderr.strip()}" if mounted.returncode else ""


def unmount_disk(place: Path) -> None:
    """Raises ChaosError when somebody still uses it."""
    done = subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChaosError(f"the small disk is still mounted: {done.stderr.strip()}")
