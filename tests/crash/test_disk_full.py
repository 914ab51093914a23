"""The disk under the log fills up while the cluster works, and is emptied again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate
from titan import Client, JobSpec, NoRoom

# Two segments of 64 MiB, and once the second is written to, room for the next reserve.
DISK_BYTES = 208 << 20
MEGABYTE_COMMAND = ["true", *["x" * 100_000] * 10]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "titan-test", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode and not os.environ.get("CI"):
        pytest.skip(f"only root can mount a small disk: {mounted.stderr.decode().strip()}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room that there is."""
    path = disk / "filler"
    free = os.statvfs(disk)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
    return path


def submit_until_refused(client: Client) -> NoRoom:
    """The refusal, after some 70 MiB of jobs that are larger than any worker."""
    for _ in range(20):
        try:
            client.submit_many([JobSpec(command=MEGABYTE_COMMAND, cpus=50, name="large")] * 8)
        except NoRoom as error:
            return error
    raise AssertionError("the disk has no room, and jobs are accepted all the same")


def test_a_full_disk_refuses_submits_keeps_ends_and_recovers_by_itself(
    tmp_path: Path, disk: Path
) -> None:
    gate = Gate(tmp_path)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.manager_directory = disk / "manager"
        manager = cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "2")
        with cluster.client() as client:
            running = client.submit(gate.line("exit 4"), shell=True, array="0-1")
            waiting = client.submit(["true"])
            gate.wait_runs(2)
            filler = fill(disk)
            refusal = submit_until_refused(client)
            assert str(disk / "manager") in str(refusal)
            assert "free_bytes=" in str(refusal)
            assert "no room left" in manager.log
            before = client.stats()["tasks"]
            command = cluster.titan("submit", "true")
            assert command.returncode == 5
            assert b"disk is full" in command.stderr
            # Reads and cancels are answered, ends are written down, nothing new is placed.
            gate.open()
            assert running.wait(20)["exit_code"] == 4
            assert waiting.show()["state"] == "PENDING"
            assert client.stats()["tasks"] == before | {
                "running": 0,
                "failed": 2,
            }
            assert len(client.cancel(name="large")) > 0
            assert running.show()["state"] == "FAILED"
            filler.unlink()
            manager.wait_log("there is room again")
            assert waiting.wait(20)["state"] == "COMPLETED"
            assert client.submit(["true"]).wait(20)["state"] == "COMPLETED"
            told = client.queue(all=True)
        cluster.kill_manager()
        again = cluster.start_manager()
        assert "WARNING" not in again.log.partition("is ready")[0]
        with cluster.client() as client:
            wait_until(lambda: client.workers()[0]["state"] == "HEALTHY")
            assert client.queue(all=True) == told
