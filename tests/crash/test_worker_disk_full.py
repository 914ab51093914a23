"""The disk under a worker's output fills up, and the worker takes no tasks until it has room."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.cluster import Cluster, wait_until
from tests.crash.small_disk import DISK_BYTES, fill_up_to
from tests.e2e.tasks import Gate


def worker_of(cluster: Cluster) -> dict[str, Any]:
    (worker,) = cluster.json("workers")
    return dict(worker)


def test_a_worker_whose_disk_is_nearly_full_takes_no_tasks_until_there_is_room(
    tmp_path: Path, disk: Path
) -> None:
    gate = Gate(tmp_path)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--heartbeat-timeout", "15s")
        data = disk / "w1"
        options = ("--data-dir", str(data), "--disk-free-min", "25%")
        worker = cluster.start_worker("w1", *options)
        running = cluster.submit("--shell", gate.line("exit 3"))
        gate.wait_runs(1)

        fill_up_to(disk, DISK_BYTES // 5)
        worker.wait_log("this worker takes no new tasks")
        wait_until(lambda: worker_of(cluster)["state"] == "UNHEALTHY", "the manager knows")
        reason = worker_of(cluster)["reason"]
        assert reason.startswith("its disk is nearly full: ")
        assert f"of 4M are free under {data}, less than --disk-free-min 1M" in reason
        waiting = cluster.submit("true")
        gate.open()
        assert cluster.titan("wait", str(running)).returncode == 3, "what runs there runs on"
        shown = cluster.json("show", str(waiting))
        assert shown["state"] == "PENDING"
        assert shown["waiting_for"] == (f"worker w1, which could take it, is not healthy: {reason}")
        # Another agent says it at its registration, a manager that replays the log knows it.
        worker.kill()
        again = cluster.start_worker("w1", *options)
        assert worker_of(cluster)["state"] == "UNHEALTHY"
        # The agent before may have looked while the disk was being filled: with other numbers.
        said = worker_of(cluster)["reason"]
        assert said.startswith("its disk is nearly full: ")
        cluster.kill_manager()
        cluster.start_manager("--heartbeat-timeout", "15s")
        assert worker_of(cluster)["reason"] == said

        os.truncate(disk / "filler", (disk / "filler").stat().st_size // 2)
        again.wait_log("this worker can take tasks again")
        assert cluster.titan("wait", str(waiting)).returncode == 0
        assert worker_of(cluster)["reason"] is None
        events = [each for each in cluster.dump() if each["event"] == "WorkerUnhealthy"]
        assert reason in [each["reason"] for each in events]


def test_dev_comes_up_and_says_that_the_disk_is_nearly_full(tmp_path: Path, disk: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.environment["TITAN_WORKER_DISK_FREE_MIN"] = "25%"
        data = cluster.root / "dev"
        command = ("dev", "--listen", cluster.address, "--data-dir", str(data))
        dev = cluster.spawn(*command, name="dev")
        dev.wait_log("Titan is up")
        dev.end(signal.SIGINT)
        # Only the worker's data lies there: the log of a manager takes more than the disk has.
        shutil.rmtree(data / "w1")
        (disk / "w1").mkdir()
        (data / "w1").symlink_to(disk / "w1")
        fill_up_to(disk, DISK_BYTES // 5)

        dev = cluster.spawn(*command, name="dev")
        dev.wait_log("Titan is up")
        told = dev.wait_log("worker w1 is UNHEALTHY: it takes no tasks: its disk is nearly full")
        assert "; TITAN_WORKER_DISK_FREE_MIN in the environment sets another minimum" in told
        assert "not ready" not in told
        (disk / "filler").unlink()
        dev.wait_log("worker w1 is HEALTHY: it takes tasks")
        assert dev.end(signal.SIGINT) == 130
