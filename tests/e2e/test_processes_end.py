"""What becomes of tasks when one of the processes around them is ended, by kill -9 or politely."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, is_alive, wait_until
from tests.e2e.tasks import Gate
from titan import Client


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Of which a test decides how soon silence counts."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Where tasks wait."""
    return Gate(tmp_path)


# How long a worker is silent before it is given up: so short that a test can wait for it, and
# longer than processes stand still on a busy machine.
TIMEOUT = "5s"


def wait_state(client: Client, job_id: int, state: str) -> dict[str, object]:
    """The job once it is in that state."""

    def shown() -> dict[str, object]:
        view = client.show(job_id)
        return view if view["state"] == state else {}

    return wait_until(shown, f"job {job_id} is {state}")


def names_of(events: list[dict[str, object]], job_id: int) -> list[str]:
    """A job's events in order."""
    return [str(event["event"]) for event in events if event.get("job_id") == job_id]


def test_tasks_of_a_worker_that_lost_power_run_again_elsewhere_after_the_timeout(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    first = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 7"), shell=True, array="0-1")
        gate.wait_runs(2)
        cluster.start_worker("w2", "--cpus", "2")
        first.kill_all()
        assert not any(is_alive(pid) for pid, _ in gate.runs())
        runs = gate.wait_runs(4)
        assert sorted(name for _, name in runs[2:]) == [f"{job.id}.0.2", f"{job.id}.1.2"]
        wait_until(
            lambda: (
                {worker["name"]: worker["state"] for worker in client.workers()}
                == {"w1": "DISCONNECTED", "w2": "HEALTHY"}
            ),
            "the one is given up, the other is not",
        )
        heard = {worker["name"]: worker["last_heartbeat_time"] for worker in client.workers()}
        gate.open()
        view = job.wait(60)
    assert (view["state"], view["exit_code"], view["attempts_total"]) == ("FAILED", 7, 4)
    told = sorted(
        (each["index"], each["attempt"], each["worker"], each["state"], each["reason"])
        for each in view["attempts"]
    )
    assert told == [
        (0, 1, "w1", "LOST", "WORKER_LOST"),
        (0, 2, "w2", "FAILED", "EXIT"),
        (1, 1, "w1", "LOST", "WORKER_LOST"),
        (1, 2, "w2", "FAILED", "EXIT"),
    ]
    refused = cluster.titan("logs", "--attempt", "1", f"{job.id}.0")
    assert refused.returncode == 1
    where = rb"output of 1\.0 is on w1, DISCONNECTED since \d{4}-\d\d-\d\d \d\d:\d\d\n"
    assert re.search(where, refused.stderr), refused.stderr

    events = cluster.dump()
    (lost,) = [event for event in events if event["event"] == "WorkerLost"]
    # From its last heartbeat, which may have been late, and is written down a second after it.
    assert lost["time"] - heard["w1"] > 2.5, "it was silent for the timeout first"
    ends = [event for event in events if event["event"] == "AttemptEnded"]
    assert [(e["index"], e["attempt"], e["state"], e["task_state"]) for e in ends[:2]] == [
        (0, 1, "LOST", "PENDING"),
        (1, 1, "LOST", "PENDING"),
    ]
    assert {event["lsn"] for event in ends[:2]} == {lost["lsn"]}, "in the record of the loss"
    again = [e for e in events if e["event"] == "TaskAssigned" and e["attempt"] == 2]
    assert [(e["index"], e["worker"]) for e in again] == [(0, 2), (1, 2)]
    assert all(event["lsn"] >= lost["lsn"] for event in again)


def test_tasks_run_on_while_the_manager_is_gone_and_their_ends_are_told_to_the_next(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "4")
    with cluster.client() as client:
        waiting = client.submit(gate.line("exit 3"), shell=True)
        other = Gate(gate.path.parent, "other")
        ends_meanwhile = client.submit(other.line("exit 4"), shell=True)
        gate.wait_runs(1)
        ((pid, _),) = other.wait_runs(1)
        cluster.kill_manager()
        other.open()
        wait_until(lambda: not is_alive(pid), "a task ends while there is no manager")
        cluster.start_manager()
        ended = ends_meanwhile.wait(60)
        assert (ended["exit_code"], ended["attempts_total"]) == (4, 1)
        wait_state(client, waiting.id, "RUNNING")
        gate.open()
        view = waiting.wait(60)
        assert (view["exit_code"], view["attempts_total"]) == (3, 1)
    assert len(gate.runs()) == len(other.runs()) == 1
    assert names_of(cluster.dump(), waiting.id) == [
        "JobSubmitted", "TaskAssigned", "TaskStarted", "AttemptEnded",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_was_ended_is_followed_by_one_that_takes_up_the_host_and_its_tasks(
    cluster: Cluster, gate: Gate, number: signal.Signals
) -> None:
    cluster.start_manager("--heartbeat-timeout", "20s")
    agent = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 5"), shell=True)
        ((pid, _),) = gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        host_pid = agent.host_pid
        assert agent.end(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert is_alive(pid)
        assert is_alive(host_pid)
        following = cluster.start_worker("w1", "--cpus", "2")
        assert f"the task host is there pid={host_pid} attempts=1" in following.log
        assert job.show()["state"] == "RUNNING"
        gate.open()
        view = job.wait(60)
        assert (view["exit_code"], view["attempts_total"]) == (5, 1)
        assert len(client.workers()) == 1, "it is the same worker"
    assert len(gate.runs()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_manager_told_to_stop_ends_its_log_and_exits_with_0_while_tasks_run_on(
    cluster: Cluster, gate: Gate, number: signal.Signals
) -> None:
    manager = cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 6"), shell=True)
        ((pid, _),) = gate.wait_runs(1)
        # Somebody who waits for news does not hold it up.
        watching = cluster.popen("wait", str(job.id))
        cluster.wait_connected(watching)
        wait_state(client, job.id, "RUNNING")
        manager.process.send_signal(number)
        assert manager.wait_soon(5) == 0
        assert "the manager stopped" in manager.log
        assert "Traceback" not in manager.log
        assert is_alive(pid)
        (segment,) = (cluster.manager_directory / "wal").glob("*.wal")
        # Preallocated space is given back only at the clean end.
        assert segment.stat().st_size < 100_000
        again = cluster.start_manager()
        assert "WARNING" not in again.log.partition("is ready")[0]
        gate.open()
        assert job.wait(60)["exit_code"] == 6
        _, told = watching.communicate(timeout=60)
        assert watching.returncode == 6, told
        assert told.count(b"lost the manager") == 1
        assert b"Traceback" not in told
    assert len(gate.runs()) == 1


def test_a_worker_interrupted_hands_its_tasks_back_and_they_run_elsewhere(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager()
    first = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 8"), shell=True)
        ((pid, _),) = gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        cluster.start_worker("w2", "--cpus", "2")
        host_pid = first.host_pid
        assert first.end(signal.SIGINT) == 0
        assert not is_alive(pid)
        wait_until(lambda: not is_alive(host_pid), "its host ends with it")
        gate.wait_runs(2)
        assert [worker["name"] for worker in client.workers()] == ["w2"]
        gate.open()
        view = job.wait(60)
    assert [name for _, name in gate.runs()] == [f"{job.id}.0.1", f"{job.id}.0.2"]
    assert (view["exit_code"], view["attempts_total"]) == (8, 2)
    assert [(each["worker"], each["state"]) for each in view["attempts"]] == [
        ("w1", "LOST"),
        ("w2", "FAILED"),
    ]
    assert "Traceback" not in first.log


def test_a_task_whose_host_was_killed_is_ended_with_it_and_runs_again(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager()
    worker = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 2"), shell=True)
        ((pid, _),) = gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        os.kill(worker.host_pid, signal.SIGKILL)
        runs = gate.wait_runs(2)
        assert not is_alive(pid), "two attempts never run at once on one machine"
        assert [name for _, name in runs] == [f"{job.id}.0.1", f"{job.id}.0.2"]
        gate.open()
        view = job.wait(60)
    assert (view["exit_code"], view["attempts_total"]) == (2, 2)
    assert [each["state"] for each in view["attempts"]] == ["LOST", "FAILED"]


def test_a_manager_that_stood_still_blames_nobody_for_silence(cluster: Cluster, gate: Gate) -> None:
    manager = cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 0"), shell=True)
        gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        manager.process.send_signal(signal.SIGSTOP)
        try:
            # The silence itself: longer than the timeout.
            threading.Event().wait(5.5)
        finally:
            manager.process.send_signal(signal.SIGCONT)
        manager.wait_log("did not turn for a while")
        gate.open()
        assert job.wait(60)["attempts_total"] == 1
    assert [event for event in cluster.dump() if event["event"] == "WorkerLost"] == []


def test_an_attempt_that_was_given_up_is_adopted_when_its_worker_comes_back_in_time(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    worker = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 9"), shell=True)
        gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        worker.process.send_signal(signal.SIGSTOP)
        try:
            # There is no other worker: the task waits.
            wait_state(client, job.id, "PENDING")
        finally:
            worker.process.send_signal(signal.SIGCONT)
        wait_state(client, job.id, "RUNNING")
        gate.open()
        view = job.wait(60)
    assert (view["exit_code"], len(gate.runs())) == (9, 1)
    assert [each["attempt"] for each in view["attempts"]] == [1]
    assert "Adopted" in names_of(cluster.dump(), job.id)


def test_a_superseded_attempt_is_stopped_when_its_worker_comes_back(
    cluster: Cluster, gate: Gate
) -> None:
    cluster.start_manager("--heartbeat-timeout", TIMEOUT)
    first = cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 1"), shell=True)
        ((pid, _),) = gate.wait_runs(1)
        wait_state(client, job.id, "RUNNING")
        first.process.send_signal(signal.SIGSTOP)
        try:
            cluster.start_worker("w2", "--cpus", "2")
            gate.wait_runs(2)
            assert is_alive(pid), "cut off, it runs on"
        finally:
            first.process.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_alive(pid), "the superseded attempt is stopped")
        gate.open()
        view = job.wait(60)
    assert (view["state"], view["exit_code"], len(gate.runs())) == ("FAILED", 1, 2)
    ends = [event for event in cluster.dump() if event["event"] == "AttemptEnded"]
    assert [(end["attempt"], end["task_state"]) for end in ends] == [(1, "PENDING"), (2, "FAILED")]
