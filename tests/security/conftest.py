"""A manager and a worker with certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.cluster import Cluster, Server, free_port
from tests.security.people import People
from titan.tls.identity import Role


class SecureCluster(Cluster):
    """A cluster whose processes prove who they are; `people` are those who may call."""

    people: People
    token_address: str

    def start(self, *options: str, worker: Sequence[str] = ()) -> None:
        """The manager, with these options, and the worker w1, with its own."""
        self.people = People(self.root / "tls")
        self.people.issue(Role.MANAGER, "manager")
        self.people.issue(Role.WORKER, "w1")
        self.token_address = f"127.0.0.1:{free_port()}"
        self.start_manager("--token-listen", self.token_address, *options)
        self.start_worker("w1", "--tls-dir", str(self.people.directory / "w1"), *worker)

    def start_manager(self, *options: str) -> Server:
        """With its certificate."""
        tls = str(self.people.directory)
        return super().start_manager("--tls-dir", tls, *options)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    """With the worker w1."""
    with SecureCluster(tmp_path_factory.mktemp("security") / "cluster") as made:
        made.start()
        yield made
