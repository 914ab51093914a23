"""What a worker's directory is worth: copied, without an agent, or after a reboot."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, is_alive, wait_until
from tests.e2e.tasks import Gate
from titan.worker.host import journal as host_journal


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with a manager."""
    with Cluster(tmp_path / "cluster") as made:
        made.start_manager("--heartbeat-timeout", "30s")
        yield made


def test_a_copy_of_a_workers_directory_is_a_worker_of_its_own_and_takes_no_task_from_the_first(
    cluster: Cluster, tmp_path: Path
) -> None:
    original = cluster.start_worker("w1", "--cpus", "1")
    gate = Gate(tmp_path)
    ended = cluster.submit("--shell", "exit 3")
    assert cluster.titan("wait", str(ended)).returncode == 3
    job = cluster.submit("--shell", gate.line("exit 7"))
    ((pid, _),) = gate.wait_runs(1)
    ignored = shutil.ignore_patterns("*.sock")
    shutil.copytree(original.directory, cluster.root / "w2", ignore=ignored)
    copy = cluster.start_worker("w2", "--cpus", "1")
    assert "is a copy of the directory of another worker" in copy.log
    assert {each["name"]: each["state"] for each in cluster.json("workers")} == {
        "w1": "HEALTHY",
        "w2": "HEALTHY",
    }
    assert is_alive(pid)
    other = cluster.submit("--shell", "exit 8")
    assert cluster.titan("wait", str(other)).returncode == 8
    gate.open()
    assert cluster.titan("wait", str(job)).returncode == 7
    assert cluster.json("show", str(job))["attempts_total"] == 1
    # It keeps what it is.
    copy.kill()
    assert "is a copy" not in cluster.start_worker("w2", "--cpus", "1").log
    assert len(cluster.json("workers")) == 2


def test_a_host_whose_agent_stays_away_too_long_stops_its_tasks_and_they_run_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    agent = cluster.start_worker("w1", "--cpus", "1", "--detach-limit", "1s")
    gate = Gate(tmp_path)
    job = cluster.submit("--shell", gate.line("exit 7"))
    ((pid, _),) = gate.wait_runs(1)
    host = agent.host_pid
    agent.kill()
    wait_until(lambda: not is_alive(pid) and not is_alive(host), "the host and its task end")
    cluster.start_worker("w1", "--cpus", "1")
    assert [name for _, name in gate.wait_runs(2)] == [f"{job}.0.1", f"{job}.0.2"]
    gate.open()
    assert cluster.titan("wait", str(job)).returncode == 7


def test_after_a_reboot_an_end_that_nobody_heard_of_is_told_and_the_rest_runs_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    worker = cluster.start_worker("w1", "--cpus", "2")
    gate, other = Gate(tmp_path), Gate(tmp_path, "other")
    ends = cluster.submit("--shell", gate.line("exit 4"))
    runs = cluster.submit("--shell", other.line("exit 5"))
    gate.wait_runs(1)
    other.wait_runs(1)
    worker.process.send_signal(signal.SIGSTOP)
    gate.open()
    journal = worker.directory / "host.journal"
    wait_until(lambda: "EndRecord" in kinds(journal), "the host has written the end down")
    worker.kill_all()
    reboot(journal)
    cluster.start_worker("w1", "--cpus", "2")
    assert [name for _, name in other.wait_runs(2)] == [f"{runs}.0.1", f"{runs}.0.2"]
    other.open()
    assert cluster.titan("wait", str(ends)).returncode == 4
    assert cluster.titan("wait", str(runs)).returncode == 5
    assert len(gate.runs()) == 1


def kinds(journal: Path) -> list[str]:
    """What is written down."""
    _, entries = host_journal.read(journal) or pytest.fail("no journal")
    return [type(entry.record).__name__ for entry in entries]


def reboot(journal: Path) -> None:
    """As if it had been written before the machine was started."""
    header, entries = host_journal.read(journal) or pytest.fail("no journal")
    written = host_journal.HostJournal(journal)
    written.rewrite(header._replace(boot_id="of another start"), [], entries[0].ticks)
    for entry in entries:
        written.append(entry.record, entry.ticks)
    written.flush()
    written.close()
