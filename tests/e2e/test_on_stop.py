"""What SIGTERM does to a worker, as --on-stop has it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, Worker, is_alive, wait_until
from tests.e2e.tasks import Gate


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose parts may be killed."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        yield cluster


def stop(worker: Worker, number: int = signal.SIGTERM) -> None:
    worker.process.send_signal(number)


def ended(worker: Worker, host: int) -> int:
    """The worker's exit code, once its host is gone, too."""
    code = worker.process.wait(60)
    wait_until(lambda: not is_alive(host), "the host ends")
    return code


def workers(cluster: Cluster) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = cluster.json("workers")
    return listed


def test_keep_lets_the_tasks_run_on(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    worker = own.start_worker("w1", "--on-stop", "keep")
    job = own.submit("--shell", gate.line())
    ((pid, _),) = gate.wait_runs(1)
    assert worker.end() == 0
    assert is_alive(pid)
    own.start_worker("w1")
    gate.open()
    assert own.titan("wait", str(job)).returncode == 0
    assert len(gate.runs()) == 1


def test_leave_hands_the_tasks_back(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    worker = own.start_worker("w1", "--on-stop", "leave")
    job = own.submit("--shell", gate.line())
    ((pid, _),) = gate.wait_runs(1)
    host = worker.host_pid
    stop(worker)
    assert ended(worker, host) == 0
    assert not is_alive(pid)
    assert workers(own) == []
    assert own.json("show", str(job))["state"] == "PENDING"


def test_drain_runs_out_takes_nothing_new_and_comes_back_undrained(
    own: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    worker = own.start_worker("w1", "--cpus", "2", "--on-stop", "drain")
    job = own.submit("--array", "0-5", "--shell", gate.line())
    gate.wait_runs(2)
    host = worker.host_pid
    stop(worker)
    worker.wait_log("draining")
    wait_until(lambda: workers(own)[0]["draining"], "the manager knows")
    assert workers(own)[0]["reason"] == "draining: it stops once nothing is left there"
    # The manager's crash in between changes nothing.
    own.kill_manager()
    own.start_manager()
    gate.open()
    assert ended(worker, host) == 0
    assert "drained: nothing is left here" in worker.log
    assert workers(own) == []
    assert own.json("show", str(job))["tasks"]["completed"] == 2

    own.start_worker("w1", "--cpus", "2")
    assert own.titan("wait", str(job)).returncode == 0
    assert workers(own)[0]["draining"] is False
    assert len(gate.runs()) == 6, "none ran twice"


def test_an_administrators_drain_stays_after_a_drained_stop(own: Cluster) -> None:
    worker = own.start_worker("w1", "--on-stop", "drain")
    own.ok("drain", "w1", "--reason", "new disk")
    host = worker.host_pid
    stop(worker)
    assert ended(worker, host) == 0
    own.start_worker("w1")
    (view,) = workers(own)
    assert view["draining"]
    assert view["reason"].endswith("new disk")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves(own: Cluster, tmp_path: Path, second: int) -> None:
    gate = Gate(tmp_path)
    worker = own.start_worker("w1", "--on-stop", "drain")
    job = own.submit("--shell", gate.line())
    ((pid, _),) = gate.wait_runs(1)
    host = worker.host_pid
    stop(worker)
    worker.wait_log("draining")
    stop(worker, second)
    assert ended(worker, host) == 0
    assert not is_alive(pid)
    assert own.json("show", str(job))["state"] == "PENDING"


def test_the_third_signal_does_not_wait_for_the_tasks(own: Cluster) -> None:
    worker = own.start_worker("w1", "--on-stop", "drain")
    job = own.submit("--shell", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    wait_until(lambda: own.titan("logs", str(job)).stdout == b"up\n", "the task runs")
    host = worker.host_pid
    for text in ("draining", "leaving: handing", "leaving at once"):
        stop(worker)
        worker.wait_log(text)
    # The grace of a leave is ten seconds.
    assert worker.wait_soon(8) == 0
    wait_until(lambda: not is_alive(host), "the host ends")


def test_a_drain_waits_for_a_manager_that_is_away_and_says_so(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    worker = own.start_worker("w1", "--on-stop", "drain")
    job = own.submit("--shell", gate.line())
    gate.wait_runs(1)
    host = worker.host_pid
    own.kill_manager()
    stop(worker)
    worker.wait_log("draining")
    gate.open()
    worker.wait_log("this worker ends once the manager knows how they ended")
    assert worker.process.poll() is None
    own.start_manager()
    assert ended(worker, host) == 0
    assert own.json("show", str(job))["state"] == "COMPLETED"
