"""SIGHUP, by which an administrator has certificates read again."""

from __future__ import annotations

import signal
from pathlib import Path

import titan
from tests.security.conftest import SecureCluster
from titan.tls.identity import Role

RELOADED = "SIGHUP: files are read again"
RENEWED = "the certificate was renewed"


def test_a_hangup_has_certificates_read_again_and_ends_nothing(tmp_path: Path) -> None:
    with SecureCluster(tmp_path / "cluster") as cluster:
        cluster.start()
        people, worker = cluster.people, cluster.workers["w1"]
        assert cluster.manager is not None
        servers = (cluster.manager, worker)
        people.issue(Role.MANAGER, "manager")
        people.issue(Role.WORKER, "w1")
        for server in servers:
            server.process.send_signal(signal.SIGHUP)
        for server in servers:
            server.wait_log(RELOADED)
            server.wait_log(RENEWED)
        with titan.Client(cluster.address, tls_dir=people.issue(Role.USER, "alice")) as client:
            assert client.submit(["true"]).wait(timeout=60)["state"] == "COMPLETED"
        assert all(server.process.poll() is None for server in servers)
