"""A hundred tasks on a worker whose agent, or whose task host, is killed with kill -9."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import strays
from tests.cluster import Cluster, Worker, is_alive, wait_until
from titan.worker.host import journal as host_journal
from titan.worker.host.records import EndRecord
from titan.worker.processes import find_start_ticks

COUNT = 100


class Gates:
    """Lets tasks go on, a group of them at a time. All of a group wait for one pipe."""

    def __init__(self, place: Path, count: int) -> None:
        self._paths = [place / f"gate.{number}" for number in range(count)]
        self._place = place
        for path in self._paths:
            os.mkfifo(path)
        # Held open by this process, so that a task that opens one does not wait for that.
        self._held = [os.open(path, os.O_RDWR) for path in self._paths]

    def line(self) -> str:
        """Opens its gate, tells its pid and that of a child, waits, exits with its index.

        Tells, too, of which earlier attempt of its task it has found a process.
        """
        return (
            f"cd {self._place}; i=$TITAN_TASK_INDEX; exec 3< gate.$((i % {len(self._paths)}));"
            " for pid in $(cat $i.[0-9]*.pids 2>/dev/null); do"
            " grep -qs '^State:.[^ZX]' /proc/$pid/status && echo $i >> overlaps; done;"
            " setsid sleep 300 & echo $$ $! > $i.$TITAN_ATTEMPT.pids;"
            " echo $i.$TITAN_ATTEMPT >> starts; read _ <&3; exit $i"
        )

    def open(self, number: int) -> None:
        """All that wait for it, and all that will, go on."""
        with open(self._paths[number], "w") as path:
            path.write("\n" * (2 * COUNT))

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def starts(self) -> list[str]:
        """`index.attempt` of all that have started, in their order."""
        path = self._place / "starts"
        return path.read_text().split() if path.exists() else []

    def overlaps(self) -> list[str]:
        """The tasks of which two attempts ran at once."""
        path = self._place / "overlaps"
        return path.read_text().split() if path.exists() else []

    def pids(self, attempt: int, group: int | None = None) -> list[int]:
        """The processes of these attempts, by default of all groups."""
        return [
            int(pid)
            for path in self._place.glob(f"*.{attempt}.pids")
            if group is None or int(path.name.split(".")[0]) % len(self._paths) == group
            for pid in path.read_text().split()
        ]


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Gates]:
    """Three: the tasks of the first end before the kill, those of the last long after it."""
    made = Gates(tmp_path, 3)
    yield made
    made.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a manager that is not quick to give up a worker."""
    with Cluster(tmp_path / "cluster") as made:
        made.start_manager("--heartbeat-timeout", "30s")
        yield made


def submit(cluster: Cluster, gates: Gates) -> list[int]:
    """Jobs of a hundred tasks in all, half of them with a memory limit."""
    half = COUNT // 2
    options = ("--cpus", "0.01", "--shell", gates.line())
    return [
        cluster.submit("--array", f"0-{half - 1}", *options),
        cluster.submit("--array", f"{half}-{COUNT - 1}", "--memory", "64M", *options),
    ]


def group(number: int) -> list[int]:
    """The indexes that wait for the gate."""
    return [index for index in range(COUNT) if index % 3 == number]


def ends(cluster: Cluster) -> list[dict[str, Any]]:
    """The events of attempts that ended."""
    return [event for event in cluster.dump() if event["event"] == "AttemptEnded"]


def check_true_ends(cluster: Cluster, jobs: list[int]) -> None:
    """Each task ended once, with its own exit code."""
    assert cluster.titan("wait", *map(str, jobs)).returncode == 1
    true_ends = [each for each in ends(cluster) if each["state"] != "LOST"]
    told = sorted((each["index"], each["exit_code"], each["state"]) for each in true_ends)
    expected = [(i, i, "FAILED" if i else "COMPLETED") for i in range(COUNT)]
    assert told == expected


def wait_started(gates: Gates, count: int) -> None:
    wait_until(lambda: len(gates.starts()) >= count, f"{count} tasks start")


def wait_ended(gates: Gates, number: int) -> None:
    pids = gates.pids(1, number)
    wait_until(lambda: not any(map(is_alive, pids)), "the tasks end, and all of them")


def test_all_tasks_of_a_killed_agent_end_with_their_own_exit_codes_and_none_runs_twice(
    cluster: Cluster, gates: Gates
) -> None:
    agent = cluster.start_worker("w1", "--cpus", "4")
    jobs = submit(cluster, gates)
    wait_started(gates, COUNT)
    gates.open(0)
    # Some of these ends are told, some are on their way.
    wait_until(lambda: cluster.json("stats")["tasks"]["failed"] > 0, "an end is told")
    agent.kill()
    gates.open(1)
    wait_ended(gates, 0)
    wait_ended(gates, 1)
    cluster.start_worker("w1", "--cpus", "4")
    gates.open(2)
    check_true_ends(cluster, jobs)
    assert Counter(gates.starts()) == {f"{index}.1": 1 for index in range(COUNT)}
    assert {each["attempt"] for each in ends(cluster)} == {1}


def read_ends(worker: Worker) -> int:
    """How many ends the host has on file, acknowledged or not."""
    _, entries = host_journal.read(worker.directory / "host.journal") or pytest.fail("no journal")
    return sum(isinstance(entry.record, EndRecord) for entry in entries)


def test_what_ended_before_its_host_was_killed_is_told_truly_and_the_rest_is_stopped_and_run_again(
    cluster: Cluster, gates: Gates
) -> None:
    agent = cluster.start_worker("w1", "--cpus", "4")
    jobs = submit(cluster, gates)
    wait_started(gates, COUNT)
    gates.open(0)
    acknowledged = len(group(0))
    wait_until(
        lambda: (
            sum(cluster.json("stats")["tasks"][each] for each in ("failed", "completed"))
            == acknowledged
        ),
        "the first ends are told",
    )
    # The agent is held, so that nobody hears of the next ends.
    agent.process.send_signal(signal.SIGSTOP)
    try:
        gates.open(1)
        wait_until(lambda: read_ends(agent) == acknowledged + len(group(1)), "the host has them")
        stopped = gates.pids(1, 2)
        assert all(map(is_alive, stopped))
        os.kill(agent.host_pid, signal.SIGKILL)
    finally:
        agent.process.send_signal(signal.SIGCONT)
    again = group(2)
    wait_started(gates, COUNT + len(again))
    assert not any(map(is_alive, stopped))
    check_groups(agent)
    gates.open(2)
    check_true_ends(cluster, jobs)
    assert gates.overlaps() == []
    expected = [f"{index}.1" for index in range(COUNT)] + [f"{index}.2" for index in again]
    assert sorted(gates.starts()) == sorted(expected)
    lost = [each for each in ends(cluster) if each["state"] == "LOST"]
    assert sorted(each["index"] for each in lost) == again
    assert {each["task_state"] for each in lost} == {"PENDING"}


def check_groups(worker: Worker) -> None:
    """Nothing is in the control groups but what the host that runs now has started."""
    mine = strays.read_descendants(worker.host_pid)
    for path in strays.find_groups(worker.directory):
        try:
            inside = [int(pid) for pid in Path(path, "cgroup.procs").read_text().split()]
        except OSError:
            # It was removed meanwhile, which it is only when nothing is in it.
            assert not os.path.exists(path)
            continue
        assert {pid for pid in inside if find_start_ticks(pid)} <= {*mine, worker.host_pid}
