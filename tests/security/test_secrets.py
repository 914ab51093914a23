"""Secrets of jobs reach their tasks over mutual TLS, whichever way a worker is told of these."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import wait_until
from tests.security.conftest import SecureCluster
from titan.tls.identity import Role

VALUE = "hunter2-over-tls"


@pytest.mark.parametrize("options", [(), ("--no-listen",)], ids=["called", "fetching"])
def test_a_secret_arrives(tmp_path: Path, options: tuple[str, ...]) -> None:
    given = tmp_path / "given"
    given.write_text(f"{VALUE}\n")
    with SecureCluster(tmp_path / "cluster") as cluster:
        cluster.start(worker=options)
        who = ("--tls-dir", str(cluster.people.issue(Role.USER, "alice")))
        (worker,) = cluster.json("workers", *who)
        assert (worker["address"] is None) == bool(options)
        said = cluster.ok(
            "run", *who, "--secret-env", f"TOKEN=@{given}", "--shell", 'echo "$TOKEN"'
        )
        assert said == f"{VALUE}\n".encode()
        folder = cluster.manager_directory / "secrets"
        wait_until(lambda: not list(folder.iterdir()), "the file goes with the job")
        for server in (cluster.manager, cluster.workers["w1"]):
            assert server is not None
            assert VALUE not in server.log
        assert VALUE.encode() not in cluster.ok("wal", "dump", str(cluster.manager_directory))
