"""`titan dev`: a whole cluster in the foreground of one terminal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, Server, is_alive, wait_until
from tests.e2e.tasks import Gate


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """No manager of its own: dev starts one."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


def start_dev(cluster: Cluster, *options: str) -> Server:
    """`titan dev` at the cluster's address, once it has greeted."""
    server = cluster.spawn("dev", "--listen", cluster.address, *options, name="dev")
    server.wait_log("Ctrl-C stops it all.")
    return server


def test_ctrl_c_ends_dev_and_leaves_no_process(cluster: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    dev = start_dev(cluster, "--workers", "2", "--cpus", "2")
    directory = cluster.state / "titan" / "dev"
    for told in (cluster.address, str(directory), "output", "titan run", "titan submit"):
        assert told in dev.log
    assert sorted(worker["name"] for worker in cluster.json("workers")) == ["w1", "w2"]
    ended = cluster.submit("--name", "short", "--", "false")
    job = cluster.submit("--shell", gate.line())
    # One that would not be ended with its group.
    cluster.submit("--shell", f"setsid sh -c '{gate.line()}' & {gate.line()}")
    gate.wait_runs(3)
    dev.wait_log(f"job {job} echo started on w")
    dev.wait_log(f"job {ended} FAILED: exit code 1 on w")
    assert len(cluster.find_processes()) > 6
    assert dev.end(signal.SIGINT) == 130
    assert [each.cmdline() for each in cluster.find_processes()] == []
    assert not any(is_alive(pid) for pid, _ in gate.runs())
    assert "Traceback" not in dev.log


def test_what_runs_when_dev_is_killed_is_taken_up_by_the_same_command(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    dev = start_dev(cluster)
    job = cluster.submit("--shell", gate.line("exit 9"))
    ((pid, _),) = gate.wait_runs(1)
    before = {each.pid for each in cluster.find_processes()} - {dev.pid}
    dev.kill()
    again = start_dev(cluster)
    assert is_alive(pid), "the task runs on"
    gate.open()
    result = cluster.titan("wait", str(job))
    assert result.returncode == 9
    assert cluster.json("show", str(job))["attempts_total"] == 1
    assert len(gate.runs()) == 1
    assert again.end(signal.SIGINT) == 130
    assert cluster.find_processes() == []
    assert not any(is_alive(each) for each in before)


def test_ctrl_c_while_dev_starts_leaves_no_process(cluster: Cluster) -> None:
    for delay_steps in range(4):
        server = cluster.spawn("dev", "--listen", cluster.address, name="dev")
        wanted = delay_steps
        # Each time it has got further: itself, the manager, the worker, the worker's host.
        wait_until(
            lambda wanted=wanted: (  # type: ignore[misc]
                # Python itself has to be up: before that a signal is its own to answer.
                any(cluster.state.rglob("lock")) and len(cluster.find_processes()) > wanted
            )
        )
        server.process.send_signal(signal.SIGINT)
        assert server.wait_soon(15) in (130, -signal.SIGINT), server.log
        assert "Traceback" not in server.log
        wait_until(lambda: cluster.find_processes() == [], "all end")


def test_fresh_moves_what_was_kept_aside(cluster: Cluster) -> None:
    dev = start_dev(cluster)
    cluster.ok("run", "true")
    dev.end(signal.SIGINT)
    dev = start_dev(cluster, "--fresh")
    assert cluster.json("queue", "--all") == []
    assert len(list((cluster.state / "titan").glob("dev*"))) >= 2
    dev.end(signal.SIGINT)


def test_dev_says_who_has_its_port_or_its_directory(cluster: Cluster) -> None:
    start_dev(cluster)
    second = cluster.titan("dev", "--listen", "127.0.0.1:0")
    assert second.returncode == 5
    assert b"Traceback" not in second.stderr
    assert b"already" in second.stderr or b"in use" in second.stderr
    elsewhere = str(cluster.root / "elsewhere")
    third = cluster.titan("dev", "--listen", cluster.address, "--data-dir", elsewhere)
    assert third.returncode == 5
    assert b"in use by another program" in third.stderr
