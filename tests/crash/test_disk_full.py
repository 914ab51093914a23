"""The disk under the data directory fills up while the cluster works, and is emptied again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from tests.cluster import Cluster, Server, wait_until
from tests.crash.small_disk import fill, give_back
from tests.e2e.tasks import Gate
from titan import Client, JobSpec, NoRoom

SMALL = ("--segment-size", "256K", "--snapshot-every", "64K")
LARGE_COMMAND = ["true", "x" * 10_000]


def submit_until_refused(client: Client) -> NoRoom:
    """The refusal, after up to a segment of jobs that are larger than any worker."""
    for _ in range(100):
        try:
            client.submit_many([JobSpec(command=LARGE_COMMAND, cpus=50, name="large")])
        except NoRoom as error:
            return error
    raise AssertionError("the disk has no room, and jobs are accepted all the same")


def test_a_full_disk_refuses_submits_keeps_ends_and_recovers_by_itself(
    tmp_path: Path, disk: Path
) -> None:
    gate = Gate(tmp_path)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.manager_directory = disk / "manager"
        manager = cluster.start_manager(*SMALL)
        cluster.start_worker("w1", "--cpus", "2")
        with cluster.client() as client:
            running = client.submit(gate.line("exit 4"), shell=True, array="0-1")
            waiting = client.submit(["true"])
            gate.wait_runs(2)
            wait_until(lambda: client.stats()["tasks"]["running"] == 2, "both are known to run")
            fill(disk)
            refusal = submit_until_refused(client)
            assert str(disk / "manager") in str(refusal)
            assert "free_bytes=" in str(refusal)
            manager.wait_log("no room left")
            before = client.stats()["tasks"]
            command = cluster.titan("submit", "true")
            assert command.returncode == 5
            assert b"disk is full" in command.stderr
            # A snapshot is due and finds no room; the log needs that more.
            told = manager.wait_log("no snapshot came of it")
            assert f"no snapshot was taken: {disk}/manager has " in told
            # Reads and cancels are answered, ends are written down, nothing new is placed.
            gate.open()
            assert running.wait(60)["exit_code"] == 4
            assert waiting.show()["state"] == "PENDING"
            assert client.stats()["tasks"] == before | {
                "running": 0,
                "failed": 2,
            }
            assert len(client.cancel(name="large")) > 0
            assert running.show()["state"] == "FAILED"
            (disk / "filler").unlink()
            manager.wait_log("there is room again")
            assert waiting.wait(60)["state"] == "COMPLETED"
            assert client.submit(["true"]).wait(60)["state"] == "COMPLETED"
            manager.wait_log("a snapshot was taken")
            told_jobs = client.queue(all=True)
        cluster.kill_manager()
        again = cluster.start_manager(*SMALL)
        assert "WARNING" not in again.log.partition("is ready")[0]
        with cluster.client() as client:
            wait_until(lambda: client.workers()[0]["state"] == "HEALTHY")
            assert client.queue(all=True) == told_jobs


def test_a_manager_starts_on_a_full_disk_however_it_ended(tmp_path: Path, disk: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        directory = cluster.manager_directory = disk / "manager"
        cluster.start_manager(*SMALL)
        access = (directory / "access.json").read_bytes()
        with cluster.client() as client:
            client.submit(["true"], name="first")
            fill(disk)
            submit_until_refused(client)
        cluster.kill_manager()
        fill(disk)
        manager = cluster.start_manager(*SMALL)
        assert "token" not in manager.log
        check_serves(cluster)
        cluster.kill_manager()
        # On another port the access file has to be written, and here the lock file, too.
        (directory / "lock").unlink()
        fill(disk)
        cluster.address = "127.0.0.1:0"
        manager = cluster.start_manager(*SMALL)
        cluster.address = cluster.environment["TITAN_MANAGER"] = find_address(manager)
        assert "the access token was not written and will be tried again" in manager.log
        assert (directory / "lock").read_bytes() == b""
        assert (directory / "access.json").read_bytes() == access
        check_serves(cluster)
        # A little room is enough for that.
        give_back(disk, 2)
        manager.wait_log("the access token is written now")
        assert json.loads((directory / "access.json").read_text()) == {
            **json.loads(access),
            "address": cluster.address,
        }
        assert not list(directory.glob(".*"))
        # Others take all that a clean stop gives back.
        assert manager.end() == 0, manager.log
        fill(disk)
        manager = cluster.start_manager(*SMALL)
        check_serves(cluster)
        (disk / "filler").unlink()
        with cluster.client() as client:
            wait_until(lambda: is_accepted(client), "there is room again")
        manager.wait_log("a snapshot was taken")
        assert manager.end() == 0, manager.log


def test_a_first_start_on_a_full_disk_says_so_and_is_no_hindrance_later(
    tmp_path: Path, disk: Path
) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.manager_directory = disk / "manager"
        fill(disk)
        refused = cluster.spawn_manager(*SMALL)
        assert refused.process.wait(60) == 1
        assert f"the manager does not run: {disk}/manager: " in refused.log
        assert "No space left on device" in refused.log
        assert "Traceback" not in refused.log
        # So much that the log begins, but not that it can say whose it is.
        for blocks in range(1, 5):
            give_back(disk, 1)
            manager = cluster.spawn_manager(*SMALL)
            wait_until(partial(has_answered, manager), f"{blocks} blocks")
            manager.process.terminate()
            manager.process.wait(60)
            assert "Traceback" not in manager.log
        (disk / "filler").unlink()
        cluster.start_manager(*SMALL)
        with cluster.client() as client:
            assert is_accepted(client)


def check_serves(cluster: Cluster) -> None:
    """Reads are answered, submits are refused."""
    with cluster.client() as client:
        assert client.queue(all=True)[-1]["name"] in ("first", "large")
        submit_until_refused(client)
    assert b"first" in cluster.ok(
        "--access", str(cluster.manager_directory / "access.json"), "show", "1"
    )


def find_address(manager: Server) -> str:
    """Where it listens, of its own choice."""
    return manager.log.partition(" address=")[2].split()[0]


def is_accepted(client: Client) -> bool:
    """Whether a job is."""
    try:
        client.submit(["true"])
    except NoRoom:
        return False
    return True


def has_answered(server: Server) -> bool:
    """Whether it serves, waits for room, or has ended."""
    texts = ("the manager is ready", "no room to start")
    return server.process.poll() is not None or any(text in server.log for text in texts)
