"""Several managers over the pair of PostgreSQL servers, workers, and all lines between them.

Each manager has lines of its own: from the clients, from the workers, and to either PostgreSQL
server. So one can be cut off from whom you like while the others are not. What the managers connect
to the workers goes over one line for each worker, whoever leads.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from tools.chaos.network import Network, Way
from tools.chaos.processes import (
    LOG_OPTIONS,
    REPOSITORY,
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
from tools.chaos.several.postgresql import Pair, url_of

_POLL_SECONDS: Final = 0.05
_ANSWER_SECONDS: Final = 2.0
_LEADER: Final = "SELECT address FROM titan_journal.lease WHERE expires > clock_timestamp()"


class Manager(Server):
    """One of them. `for_clients`: where it says that it is called; `health`: its pages."""

    def __init__(
        self,
        name: str,
        root: Path,
        environment: dict[str, str],
        *,
        listen: str,
        for_clients: str,
        for_workers: str,
        health: str,
        journal: str,
        lease_seconds: float,
        timeout_seconds: float,
    ) -> None:
        self.directory = root / name
        self.listen = listen
        self.for_clients = for_clients
        self.for_workers = for_workers
        self.access = self.directory / "access.json"
        self._health = health
        super().__init__(
            name,
            [
                *titan("manager"), "--data-dir", str(self.directory), "--listen", listen,
                "--journal", journal, "--advertise", for_clients, "--lease", f"{lease_seconds:g}s",
                "--heartbeat-timeout", f"{timeout_seconds:g}s", "--metrics-listen", health,
                *LOG_OPTIONS,
            ],
            environment,
            root / f"{name}.log",
        )  # fmt: skip

    def leads(self) -> bool:
        """What it says itself."""
        return answers(self._health, "leader")

    def is_well(self) -> bool:
        """Whether it serves, as a leader or standing by."""
        return answers(self._health, "healthz")


class SeveralManagers:
    """What is started and ended."""

    def __init__(
        self,
        root: Path,
        pair: Pair,
        *,
        managers: int,
        workers: int,
        lease_seconds: float,
        timeout_seconds: float,
        seed: int,
    ) -> None:
        self.root = root
        self.pair = pair
        self.environment = environment_of(root)
        ways: list[Way] = []
        ports = iter(free_ports(6 * managers + 2 * workers))

        def way(name: str, to: int) -> int:
            ways.append(Way(name, next(ports), to))
            return ways[-1].listen

        self.managers: dict[str, Manager] = {}
        for name in (f"m{number}" for number in range(1, managers + 1)):
            listen, health = next(ports), next(ports)
            journal = url_of([way(f"{name}.{each.name}", each.port) for each in pair.servers])
            self.managers[name] = Manager(
                name,
                root,
                self.environment,
                listen=f"127.0.0.1:{listen}",
                for_clients=f"127.0.0.1:{way(f'{name}.clients', listen)}",
                for_workers=f"127.0.0.1:{way(f'{name}.workers', listen)}",
                health=f"127.0.0.1:{health}",
                journal=journal,
                lease_seconds=lease_seconds,
                timeout_seconds=timeout_seconds,
            )
        self.for_clients = ",".join(each.for_clients for each in self.managers.values())
        for_workers = ",".join(each.for_workers for each in self.managers.values())
        self.workers: dict[str, Worker] = {}
        for name in (f"w{number}" for number in range(1, workers + 1)):
            listen = next(ports)
            self.workers[name] = Worker(
                name,
                [
                    *titan("worker"), "--data-dir", str(root / name), "--name", name,
                    "--manager", for_workers, "--listen", f"127.0.0.1:{listen}",
                    "--advertise", f"127.0.0.1:{way(f'{name}.down', listen)}",
                    "--cpus", str(WORKER_CPUS), "--memory", "8G",
                ],
                self.environment,
                root / f"{name}.log",
                root / name,
            )  # fmt: skip
        self.network = Network(ways, seed, self.environment, root / "proxy.log")

    @property
    def servers(self) -> list[Server]:
        """All of Titan's that are to run."""
        return [*self.managers.values(), *self.workers.values()]

    def start(self) -> None:
        """Everything but the pair, which runs; until a manager leads. Raises ChaosError."""
        self.network.wait_ready()
        self.titan("journal", "init", self.pair.url)
        for each in self.managers.values():
            each.start()
        self.wait_one_leader(time.monotonic() + START_SECONDS)
        self._leave_tokens()
        for worker in self.workers.values():
            worker.start()

    def _leave_tokens(self) -> None:
        """Each manager's also by the addresses that lead to it over a line."""
        place = self.root / "state" / "titan" / "access"
        for each in self.managers.values():
            for address in (each.for_clients, each.for_workers):
                shutil.copyfile(place / f"{each.listen}.json", place / f"{address}.json")

    def titan(self, *arguments: str) -> bytes:
        """What a command prints. Raises ChaosError when it fails."""
        done = subprocess.run(
            [*titan(arguments[0]), *arguments[1:]],
            env=self.environment,
            capture_output=True,
            cwd=REPOSITORY,
            check=False,
        )
        if done.returncode:
            told = done.stderr.decode(errors="replace").strip()
            raise ChaosError(f"titan {' '.join(arguments)} failed: {told}")
        return done.stdout

    def find_leader(self) -> Manager | None:
        """Whose the lease is by PostgreSQL; None: nobody's, or nobody can be asked."""
        with (
            suppress(psycopg.Error),
            psycopg.connect(self.pair.primary.url, connect_timeout=2) as connection,
        ):
            row = connection.execute(_LEADER).fetchone()
            for each in self.managers.values():
                if row is not None and each.for_clients == row[0]:
                    return each
        return None

    def find_not_one_leader(self) -> list[str]:
        """What keeps it from being exactly one leader and all others standing by."""
        leaders = [name for name, each in self.managers.items() if each.leads()]
        found = [
            f"manager {name} does not serve"
            for name, each in self.managers.items()
            if not each.is_well()
        ]
        if len(leaders) != 1:
            found.append(f"leaders are {', '.join(leaders) or 'none'}")
        return found

    def wait_one_leader(self, deadline: float) -> None:
        """Raises ChaosError when there is not one until then."""
        while found := self.find_not_one_leader():
            for each in self.managers.values():
                if each.exit_code() is not None:
                    raise ChaosError(f"{each.name} has ended, see {self.root}/{each.name}.log")
            if time.monotonic() > deadline:
                raise ChaosError(f"the managers do not come up: {'; '.join(found)}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> list[str]:
        """Ends all servers as an administrator does. Says what did not end by itself."""
        trouble = []
        for number, servers in (
            (signal.SIGINT, [*self.workers.values()]),
            (signal.SIGTERM, [*self.managers.values()]),
        ):
            running = [each for each in servers if each.exit_code() is None]
            for each in running:
                each.send(number)
            trouble += [wait_end(each) for each in running]
        self.network.close()
        return [each for each in trouble if each]

    def end_all(self) -> None:
        """Whatever is left, at once."""
        for server in self.servers:
            server.kill()
        self.network.close()
        end_marked(self.root)


def answers(address: str, page: str) -> bool:
    """Whether a load balancer would send anybody there."""
    try:
        with urllib.request.urlopen(f"http://{address}/{page}", timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
