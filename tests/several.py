"""Several managers over one journal in PostgreSQL, for tests: each of them a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster import DEADLINE_SECONDS, Cluster, Server, free_port, wait_until
from titan import Client
from tools.chaos.several.managers import answers

NAMES: Final = ("a", "b", "c")
# How long nobody leads after a kill. A leader that stands still for longer loses the lead.
LEASE_SECONDS: Final = 6.0


@dataclass(frozen=True)
class Manager:
    """One of them. `health`: where it says whether it serves, and whether it leads."""

    name: str
    address: str
    health: str
    server: Server

    def leads(self) -> bool:
        """What it says itself."""
        return answers(self.health, "leader")


class SeveralManagers(Cluster):
    """Workers, clients and commands know all of the addresses. No manager is started by itself."""

    def __init__(
        self,
        root: Path,
        journal_url: str,
        names: Sequence[str] = NAMES,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        super().__init__(root)
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
        self.managers: dict[str, Manager] = {}
        self.address = ",".join(self.addresses.values())
        self.environment["TITAN_MANAGER"] = self.address
        self._journal = ("--journal", journal_url, "--lease", f"{lease_seconds:g}s")
        self.ok("journal", "init", journal_url)

    def client(self, retry_for_seconds: float = DEADLINE_SECONDS) -> Client:
        """One that knows all of them. Finds their tokens by $XDG_STATE_HOME."""
        return Client(self.address, retry_for_seconds=retry_for_seconds)

    def start(self, name: str, *options: str, under: Sequence[str] = ()) -> Manager:
        """One that serves, as it is: leading or standing by. `under`: see `spawn`."""
        health = f"127.0.0.1:{free_port()}"
        server = self.spawn(
            *("manager", "--data-dir", str(self.root / name), "--listen", self.addresses[name]),
            *("--metrics-listen", health, *self._journal, *options),
            name=name,
            under=under,
        )
        manager = self.managers[name] = Manager(name, self.addresses[name], health, server)

        def serves() -> bool:
            assert server.process.poll() is None, server.log
            return answers(health, "healthz")

        wait_until(serves, f"{name} serves")
        return manager

    def start_all(self) -> Manager:
        """All of them; returns the one that leads."""
        for name in self.addresses:
            self.start(name)
        return self.wait_leader()

    def wait_leader(self, *but: Manager) -> Manager:
        """Who leads and is none of these."""

        def find() -> Manager | None:
            leaders = [each for each in self.managers.values() if each not in but and each.leads()]
            return leaders[0] if leaders else None

        found = wait_until(find, "one leads")
        assert found is not None
        return found

    def client_of(self, manager: Manager, retry_for_seconds: float = 0.0) -> Client:
        """One that knows this manager only."""
        return Client(
            manager.address,
            access_file=self.root / manager.name / "access.json",
            retry_for_seconds=retry_for_seconds,
        )
