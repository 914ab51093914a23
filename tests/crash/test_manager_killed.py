"""kill -9 of the manager, again and again, while users submit and workers work."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

import wal
from tests.cluster import Cluster, wait_until
from tests.crash.load import RETRY_FOR_SECONDS, Accepted, User
from tests.crash.story import Story
from titan import events as ev
from titan.client.views import job_view
from titan.model import State
from titan.queries import views
from titan.state.cluster import ClusterState
from titan.state.digest import digest
from titan.state.invariants import check_invariants
from titan.state.replay import replay

# A longer run: TITAN_CRASHES=2000 with another TITAN_CRASH_SEED.
CRASHES = int(os.environ.get("TITAN_CRASHES", "50"))
SEED = os.environ.get("TITAN_CRASH_SEED", "1")
USERS = 4


@pytest.mark.timeout(60 + CRASHES * 3)
def test_a_manager_killed_fifty_times_in_a_row_loses_no_job_and_ends_none_twice(
    tmp_path: Path,
) -> None:
    """Invariants 1, 2, 5 and 7 over real processes, on one data directory."""
    runs = tmp_path / "runs"
    runs.touch()
    accepted = Accepted()
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        for name in ("w1", "w2"):
            cluster.start_worker(name, "--cpus", "3")
        line = f"echo $TITAN_JOB_ID.$TITAN_TASK_INDEX.$TITAN_ATTEMPT >> {runs}"
        users = [
            User(number, cluster.client(RETRY_FOR_SECONDS), line, accepted, f"{SEED}/{number}")
            for number in range(USERS)
        ]
        for user in users:
            user.start()
        try:
            crash_repeatedly(cluster, accepted, runs)
        finally:
            for user in users:
                user.stop()
            for user in users:
                user.join(30)
        assert not any(user.is_alive() for user in users)
        assert accepted.errors == []
        assert accepted.repeats >= CRASHES / 10, "hardly any call was cut off"

        with cluster.client() as client:
            client.wait(*accepted.jobs.values(), timeout=60)
            told = {view["job_id"]: view for view in client.queue(all=True, limit=100_000)}
        cluster.kill_manager()
        check_runs(runs, told)
        check_log(cluster.manager_directory, accepted)
        check_replay(cluster.manager_directory, tmp_path / "copy", told)


def crash_repeatedly(cluster: Cluster, accepted: Accepted, runs: Path) -> None:
    """Kills after so many answers, after so many runs, or after a moment: drawn from the seed."""
    chance = random.Random(SEED)
    for _ in range(CRASHES):
        more = chance.randrange(1, 12)
        match chance.choice(["answers", "runs", "moment"]):
            case "answers":
                goal = len(accepted.jobs) + more
                wait_until(lambda goal=goal: accepted.errors or len(accepted.jobs) >= goal)  # type: ignore[misc]
            case "runs":
                size = runs.stat().st_size + 8 * more
                wait_until(lambda size=size: accepted.errors or runs.stat().st_size >= size)  # type: ignore[misc]
            case "moment":
                threading.Event().wait(chance.uniform(0, 0.1))
        assert accepted.errors == []
        cluster.kill_manager()
        cluster.start_manager()


def check_runs(runs: Path, told: dict[int, dict[str, object]]) -> None:
    """Every task ran once, and that was attempt 1: a manager's death costs its workers nothing."""
    lines = Counter(runs.read_text().split())
    expected = {
        f"{job_id}.{index}.1"
        for job_id, view in told.items()
        for index in range(sum(view["tasks"].values()))  # type: ignore[attr-defined]
    }
    assert set(lines) == expected
    assert {line: count for line, count in lines.items() if count > 1} == {}
    assert {view["state"] for view in told.values()} == {"COMPLETED"}


def check_log(directory: Path, accepted: Accepted) -> None:
    """The log, told without the state's code, holds what was answered and nothing else."""
    story = Story(directory)
    assert story.starts == CRASHES + 1
    assert sorted(story.requests.values()) == sorted(accepted.jobs.values())
    assert len(story.jobs) == len(accepted.jobs)
    tasks = story.all_tasks()
    assert len(tasks) == accepted.tasks
    assert story.active == {}
    assert story.ends == dict.fromkeys(tasks, State.COMPLETED)
    assert dict(story.attempts) == dict.fromkeys(tasks, 1)


def check_replay(directory: Path, copy: Path, told: dict[int, dict[str, object]]) -> None:
    """The manager's replay, the dump's reader and what the live manager showed agree."""
    shutil.copytree(directory, copy)
    before = ClusterState()
    with wal.Reader(copy / "wal") as reader:
        replay(reader, before)
    managers, readers = ClusterState(), ClusterState()
    log = wal.Log.open(copy / "wal", lock_path=copy / "lock")
    records = replay(log.records(), managers)
    log.close()
    with wal.Reader(copy / "wal") as reader:
        for lsn, payload in reader:
            readers.apply_record(lsn, *ev.decode_record(payload))
    assert readers.lsn == records
    assert digest(managers) == digest(readers)
    # The kill may have left one frame that only recovery counts.
    assert before.lsn <= managers.lsn
    check_invariants(managers)

    assert {
        job_id: job_view(views.job_message(managers, job, {}))
        for job_id, job in managers.jobs.items()
    } == told
