"""Certificates are replaced again and again while a cluster works, and nobody notices."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import titan
from tests.cluster import Server, wait_until
from tests.security.conftest import SecureCluster
from titan.tls.identity import Role

# Each takes some 5 s, by when all have read theirs.
ROTATIONS = int(os.environ.get("TITAN_ROTATIONS", "3"))
RENEWED = "the certificate was renewed"


class Load(threading.Thread):
    """A user who submits jobs one after the other and waits for each."""

    def __init__(self, cluster: SecureCluster, folder: Path) -> None:
        super().__init__()
        self.stopped = threading.Event()
        self.states: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._cluster = cluster
        self._folder = folder

    def run(self) -> None:
        try:
            with titan.Client(self._cluster.address, tls_dir=self._folder) as client:
                while not self.stopped.is_set():
                    job = client.submit(["sh", "-c", "sleep 0.05; echo done"], array="0-3")
                    self.states[job.wait(timeout=60)["state"]] += 1
                    assert job.output(index=3) == b"done\n"
        except BaseException as error:  # noqa: BLE001 - told by who joins it
            self.error = error

    def wait_more(self, jobs: int) -> None:
        """Until so many more have ended, or one has failed."""
        before = self.states.total()
        wait_until(lambda: self.error or self.states.total() >= before + jobs, "jobs that end", 60)


def wait_renewed(server: Server, times: int) -> None:
    wait_until(lambda: server.log.count(RENEWED) == times, "it reads its certificate", 60)


def test_rotation_under_load_loses_no_job(tmp_path: Path) -> None:
    with SecureCluster(tmp_path / "cluster") as cluster:
        cluster.start()
        people, manager, worker = cluster.people, cluster.manager, cluster.workers["w1"]
        assert manager is not None
        users = [people.issue(Role.USER, "alice"), people.issue(Role.USER, "bob")]
        loads = [Load(cluster, folder) for folder in users]
        for each in loads:
            each.start()
        try:
            for turn in range(1, ROTATIONS + 1):
                old = [*(people.directory / "issued").iterdir()]
                people.issue(Role.MANAGER, "manager")
                people.issue(Role.WORKER, "w1")
                for folder in users:
                    people.issue(Role.USER, folder.name)
                for server in (manager, worker):
                    wait_renewed(server, turn)
                # All have called since, and those from before count no more.
                for each in loads:
                    each.wait_more(3)
                for path in old:
                    people.revoke(str(path))
        finally:
            for each in loads:
                each.stopped.set()
                each.join()
        assert [each.error for each in loads] == [None, None]
        for each in loads:
            assert set(each.states) == {"COMPLETED"}
            assert each.states["COMPLETED"] >= 3 * ROTATIONS
        assert " ERROR " not in manager.log + worker.log
        with titan.Client(cluster.address, tls_dir=users[0]) as client:
            jobs = client.queue(all=True, limit=10_000)
            assert {job["attempts_total"] for job in jobs} == {4}
