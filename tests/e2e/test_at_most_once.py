"""Jobs that run at most once, on a worker that is cut off: killed there, ended here, never again.

The lease and the timeout are shorter than they are for users, in all processes alike.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import REPOSITORY, Cluster, is_alive, wait_until

# Long enough for processes that stand still for some seconds on a busy machine.
LEASE_SECONDS = 8
# What a manager asks for at least is 13.13 s.
TIMEOUT = "14s"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with such leases."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import titan.model\ntitan.model.LEASE_US = {LEASE_SECONDS}_000_000\n"
    )
    with Cluster(tmp_path / "cluster") as made:
        made.environment["PYTHONPATH"] = os.pathsep.join([str(site), str(REPOSITORY)])
        yield made


def start_payment(cluster: Cluster, log: Path) -> tuple[int, int]:
    """A job that may not run twice, and the process that it runs as."""
    script = f"echo $$ >> {log}; trap '' TERM; exec sleep 600"
    job_id = cluster.submit("--at-most-once", "--shell", script)
    pid = int(wait_until(lambda: log.exists() and log.read_text().strip(), "it runs"))
    wait_until(lambda: cluster.json("show", str(job_id))["state"] == "RUNNING", "that is known")
    return job_id, pid


def wait_failed(cluster: Cluster, job_id: int) -> dict[str, Any]:
    """The job once it has failed."""

    def failed() -> dict[str, Any]:
        view: dict[str, Any] = cluster.json("show", str(job_id))
        return view if view["state"] == "FAILED" else {}

    return wait_until(failed, f"job {job_id} has failed")


def test_a_worker_that_is_cut_off_kills_it_and_the_manager_ends_it_for_good(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    worker = cluster.start_worker("w1", "--cpus", "1")
    log = tmp_path / "paid"
    job_id, pid = start_payment(cluster, log)
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not is_alive(pid), "its host kills it")
        view = wait_failed(cluster, job_id)
        assert (view["reason"], view["attempts_total"]) == ("WORKER_LOST", 1)
        assert view["detail"].endswith("it had begun and runs at most once")
        cluster.start_worker("w2", "--cpus", "1")
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    # What comes later to both changes nothing.
    wait_until(
        lambda: [each["state"] for each in cluster.json("workers")] == ["HEALTHY"] * 2, "it is back"
    )
    cluster.ok("run", "--on", "w1", "true")
    cluster.ok("run", "--on", "w2", "true")
    again = cluster.json("show", str(job_id))
    assert (again["state"], again["detail"], again["attempts_total"]) == (
        "FAILED", view["detail"], 1,
    )  # fmt: skip
    assert log.read_text() == f"{pid}\n"
    refused = cluster.titan("requeue", str(job_id))
    assert refused.returncode == 5
    assert b"has begun and runs at most once" in refused.stderr


def test_without_a_manager_it_is_killed_and_the_next_one_hears_why(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    cluster.start_worker("w1", "--cpus", "1")
    log = tmp_path / "paid"
    job_id, pid = start_payment(cluster, log)
    cluster.kill_manager()
    wait_until(lambda: not is_alive(pid), "its host kills it")
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    view = wait_failed(cluster, job_id)
    assert (view["reason"], view["attempts_total"]) == ("WORKER_LOST", 1)
    assert "the manager did not answer its worker" in view["detail"]
    assert log.read_text() == f"{pid}\n"


def test_it_outlives_its_agent(tmp_path: Path) -> None:
    # The lease is that of users: the next agent has to be there before it is over.
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        worker = cluster.start_worker("w1", "--cpus", "1")
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        log = tmp_path / "log"
        job_id = cluster.submit("--at-most-once", "--shell", f"echo up > {log}; cat {gate}")
        wait_until(log.exists, "it runs")
        worker.kill()
        cluster.start_worker("w1", "--cpus", "1")
        with gate.open("w"):
            pass
        assert cluster.titan("wait", str(job_id)).returncode == 0


def test_a_manager_with_a_shorter_timeout_refuses_it_and_warns_of_those_from_before(
    cluster: Cluster,
) -> None:
    needed = "need a --heartbeat-timeout of 13.13 s or more, and this manager's is 13 s"
    manager = cluster.start_manager("--heartbeat-timeout", "13s")
    refused = cluster.titan("submit", "--at-most-once", "true")
    assert refused.returncode == 5
    assert needed in refused.stderr.decode()
    assert manager.end() == 0
    manager = cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    cluster.submit("--at-most-once", "true")
    assert manager.end() == 0
    manager = cluster.start_manager("--heartbeat-timeout", "13s")
    assert f"WARNING there are such jobs from before: jobs that run at most once {needed}" in (
        manager.log
    )
