"""`titan dev`: a real cluster that starts, survives and goes away."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import DEADLINE_SECONDS
from tests.cluster import free_port, is_alive, wait_until

Spawn = Callable[..., Process]


class Cluster:
    """Where a `titan dev` of this test runs."""

    def __init__(self, spawn: Spawn, state: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.data = state / "titan" / "dev"
        self._spawn = spawn

    def start(self, *options: str) -> Process:
        """A `titan dev` that has said all it says at its start."""
        process = self._spawn("dev", "--listen", self.address, *options)
        wait_for_line(process, "Ctrl-C stops it all.")
        return process

    def processes(self) -> list[psutil.Process]:
        """Whatever still runs on its data directory."""
        return [
            process
            for process in psutil.process_iter()
            if any(str(self.data) in word for word in cmdline(process))
        ]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_for_line(process: Process, text: str) -> str:
    """Reads lines until one holds the text; returns all of them."""
    seen = ""
    while text not in seen:
        try:
            line = process.read_line()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen}\n{logs()}") from error
        assert line, f"it ended; {process.end()}\n{seen}"
        seen += line
    return seen


def logs() -> str:
    """What the servers of this test logged."""
    files = sorted((Path(os.environ["XDG_STATE_HOME"]) / "titan" / "dev").glob("*.log"))
    return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files)


@pytest.fixture
def cluster(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    cluster = Cluster(spawn, state)
    monkeypatch.setenv("TITAN_MANAGER", cluster.address)
    yield cluster
    for process in cluster.processes():
        process.kill()
    wait_until(lambda: not cluster.processes(), "nothing is left")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["Ctrl-C", "SIGTERM"]
)
def test_it_tells_of_jobs_and_leaves_no_process(
    cluster: Cluster, titan: Titan, number: signal.Signals, code: int
) -> None:
    process = cluster.start("--workers", "2", "--cpus", "1", "--memory", "1G")
    workers = titan("workers").out
    assert re.search(r"^w2 +HEALTHY +0 +0 +1/1 +1G/1G ", workers, re.MULTILINE)
    assert len(workers.splitlines()) == 3
    assert titan("submit", "-q", "true").out == "1\n"
    seen = wait_for_line(process, "job 1 COMPLETED")
    assert "job 1 true started on w" in seen
    # This one would run for long after its cluster.
    titan("submit", "sleep", "1000")
    wait_for_line(process, "job 2 sleep started")
    process.interrupt(number)
    result = process.end()
    assert result.code == code
    assert "Stopping" in result.err
    assert cluster.processes() == []


def test_what_it_says_at_first_can_be_pasted(cluster: Cluster, spawn: Spawn) -> None:
    process = spawn("dev", "--listen", cluster.address)
    seen = wait_for_line(process, "Ctrl-C stops it all.")
    assert cluster.address in seen
    assert str(cluster.data) in seen
    commands = [line.strip() for line in seen.splitlines() if line.startswith("  titan ")]
    assert len(commands) == 3
    assert all(f"--manager {cluster.address}" in command for command in commands)
    process.interrupt(signal.SIGINT)
    process.end()


def test_after_kill_9_the_same_command_takes_up_what_still_runs(
    cluster: Cluster, titan: Titan, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process = cluster.start()
    titan("submit", "--shell", f"read line < {gate}; echo $line")
    wait_for_line(process, "started on w1")
    process.process.kill()
    process.end()
    process = cluster.start()
    assert titan("queue").out.splitlines()[1].split()[3] == "RUNNING"
    gate.write_text("still there\n")
    wait_for_line(process, "job 1 COMPLETED")
    assert titan("logs", "1").out == "still there\n"
    assert titan("show", "1", "--json").out.count('"index"') == 1
    process.interrupt(signal.SIGINT)
    process.end()
    assert cluster.processes() == []


def test_a_manager_that_ends_by_itself_ends_it_with_the_end_of_its_log(
    cluster: Cluster,
) -> None:
    process = cluster.start()
    (manager,) = [each for each in cluster.processes() if "manager" in cmdline(each)]
    manager.kill()
    result = process.end()
    assert result.code == 1
    assert "manager ended by itself with signal 9" in result.err
    assert "the manager is ready" in result.err
    assert cluster.processes() == []


def test_a_worker_that_ends_by_itself_is_told_and_the_rest_goes_on(
    cluster: Cluster, titan: Titan
) -> None:
    process = cluster.start("--workers", "2")
    (worker,) = [each for each in cluster.processes() if "w2" in cmdline(each)]
    worker.kill()
    assert "w2 ended by itself with signal 9" in process.read_error_line()
    # Some of them may wait for w2, which the manager has not given up yet.
    for _ in range(4):
        titan("submit", "true")
    assert " COMPLETED on w1" in wait_for_line(process, "COMPLETED")
    process.interrupt(signal.SIGINT)
    process.end()
    assert cluster.processes() == []


def test_a_second_one_on_the_same_directory_or_port_is_refused(
    cluster: Cluster, spawn: Spawn, tmp_path: Path
) -> None:
    process = cluster.start()
    result = spawn("dev", "--listen", f"127.0.0.1:{free_port()}").end()
    assert result.code == 5
    assert f"runs in {cluster.data} already (process {process.process.pid})" in result.err
    other = str(tmp_path / "other")
    result = spawn("dev", "--listen", cluster.address, "--data-dir", other).end()
    assert result.code == 5
    assert f"{cluster.address} is in use" in result.err
    process.interrupt(signal.SIGINT)
    process.end()


def test_fresh_moves_what_was_there_aside(cluster: Cluster, titan: Titan) -> None:
    process = cluster.start()
    titan("submit", "true")
    wait_for_line(process, "job 1 COMPLETED")
    process.interrupt(signal.SIGINT)
    process.end()
    process = cluster.start("--fresh")
    assert titan("queue", "--all", "--json").out == "[]\n"
    (aside,) = cluster.data.parent.glob("dev.*")
    assert (aside / "manager" / "titan.json").exists()
    process.interrupt(signal.SIGINT)
    process.end()


def test_the_log_is_dumped_while_it_is_written(cluster: Cluster, titan: Titan) -> None:
    process = cluster.start()
    titan("submit", "--name", "train", "true")
    wait_for_line(process, "job 1 COMPLETED")
    result = titan("wal", "dump", str(cluster.data / "manager"))
    assert (result.code, result.err) == (0, "")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [list(event)[:3] for event in events] == [["lsn", "time", "event"]] * len(events)
    names = [event["event"] for event in events]
    assert names[:2] == ["ClusterCreated", "ManagerStarted"]
    assert {"JobSubmitted", "TaskAssigned", "AttemptEnded", "WorkerRegistered"} <= set(names)
    process.interrupt(signal.SIGINT)
    process.end()


def test_a_directory_without_a_log_is_a_sentence(titan: Titan, tmp_path: Path) -> None:
    result = titan("wal", "dump", str(tmp_path / "none"))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("titan: ")


def test_ctrl_c_twice_does_not_wait_for_a_task_that_takes_its_time(
    cluster: Cluster, titan: Titan
) -> None:
    process = cluster.start()
    titan("submit", "--shell", "trap '' TERM; echo $$; while :; do sleep 1; done")
    task = int(wait_until(lambda: titan("logs", "1").out, "it ignores SIGTERM"))
    process.interrupt(signal.SIGINT)
    assert "Stopping" in process.read_error_line()
    # Of two signals that come before the worker looks at the first it hears one.
    log = cluster.data / "w1.log"
    wait_until(lambda: "leaving: handing the tasks back" in log.read_text(), "the worker leaves")
    # The grace begins with that line, however long it took to get there.
    begin = time.monotonic()
    process.interrupt(signal.SIGINT)
    wait_until(lambda: not is_alive(task), "the task has ended")
    # Less than the grace that it has after one Ctrl-C.
    assert time.monotonic() - begin < 9
    assert process.end().code == 130
    assert cluster.processes() == []


def test_one_that_cannot_start_leaves_alone_what_waits_for_the_next(
    cluster: Cluster, titan: Titan, spawn: Spawn
) -> None:
    process = cluster.start()
    titan("submit", "sleep", "1000")
    wait_for_line(process, "started on w1")
    process.process.kill()
    process.end()
    wait_until(lambda: len(cluster.processes()) == 1, "only the task host is left")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(cluster.address.rpartition(":")[2])))
        other.listen()
        assert spawn("dev", "--listen", cluster.address).end().code == 5
    assert len(cluster.processes()) == 1
    process = cluster.start()
    assert "RUNNING" in titan("queue").out
    # Twice, so that the worker takes no time to leave, and yet nothing stays.
    process.interrupt(signal.SIGINT)
    process.interrupt(signal.SIGINT)
    process.end()
    assert cluster.processes() == []


def test_a_directory_of_somebody_else_is_left_alone(
    cluster: Cluster, spawn: Spawn, tmp_path: Path
) -> None:
    mine = tmp_path / "project"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    result = spawn("dev", "--listen", cluster.address, "--data-dir", str(mine), "--fresh").end()
    assert result.code == 5
    assert "not empty" in result.err
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]


def test_a_closed_pipe_stops_it_quietly(cluster: Cluster, titan: Titan) -> None:
    process = cluster.start()
    assert process.process.stdout is not None
    process.process.stdout.close()
    titan("submit", "true")
    result = process.process.wait(DEADLINE_SECONDS)
    assert result == 141
    assert process.process.stderr is not None
    assert process.process.stderr.read() == b""
    assert cluster.processes() == []


def test_its_manager_orders_and_places_as_was_asked(cluster: Cluster, titan: Titan) -> None:
    process = cluster.start("--policy", "spread", "--order", "skip", "--user-cpus", "2")
    policy = json.loads(titan("policy", "--json").out)
    assert (policy["placement"], policy["order"]) == ("spread", "skip")
    assert (policy["user_limits"], policy["was_set"]) == ({"": 2}, False)
    process.interrupt(signal.SIGINT)
    process.end()
