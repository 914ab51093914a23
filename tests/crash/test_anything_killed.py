"""kill -9 of whatever there is, drawn from a seed: manager, agents, hosts, whole machines."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster, Worker, wait_until
from tests.crash.load import RETRY_FOR_SECONDS, Accepted, User
from tests.crash.story import Story
from tests.crash.test_manager_killed import check_recovery
from titan.model import State

# A longer run: TITAN_KILLS=500 with another TITAN_CRASH_SEED.
KILLS = int(os.environ.get("TITAN_KILLS", "16"))
SEED = os.environ.get("TITAN_CRASH_SEED", "1")
USERS = 2
WORKERS = ("w1", "w2")


# Far longer than it takes, also where a process takes seconds to start.
@pytest.mark.timeout(300 + KILLS * 15)
def test_whatever_is_killed_every_job_ends_once_and_none_is_lost(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.touch()
    accepted = Accepted()
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--heartbeat-timeout", "2s")
        for name in WORKERS:
            cluster.start_worker(name, "--cpus", "3")
        line = f"echo $TITAN_JOB_ID.$TITAN_TASK_INDEX.$TITAN_ATTEMPT >> {runs}; sleep 0.1"
        users = [
            User(
                number,
                cluster.client(RETRY_FOR_SECONDS),
                line,
                accepted,
                f"{SEED}/{number}",
                cancel_chance=0.2,
            )
            for number in range(USERS)
        ]
        for user in users:
            user.start()
        try:
            kill_repeatedly(cluster, accepted)
        finally:
            for user in users:
                user.stop()
            for user in users:
                user.join(DEADLINE_SECONDS)
        assert accepted.errors == []
        with cluster.client() as client:
            client.wait(*accepted.jobs.values(), timeout=DEADLINE_SECONDS)
            told = {view["job_id"]: view for view in client.queue(all=True, limit=100_000)}
        cluster.kill_manager()
        assert len(accepted.cancelled) > 0
        for job_id, view in told.items():
            ends = {"COMPLETED", "CANCELLED"} if job_id in accepted.cancelled else {"COMPLETED"}
            assert view["state"] in ends, view
        check_story(cluster.manager_directory, accepted, runs)
        check_recovery(cluster.manager_directory, tmp_path / "copy", told)


def kill_repeatedly(cluster: Cluster, accepted: Accepted) -> None:
    """Kills one of them when so many more jobs were accepted, and starts it again."""
    chance = random.Random(SEED)
    for _ in range(KILLS):
        victim = chance.choice(["manager", "agent", "host", "machine"])
        name = chance.choice(WORKERS)
        more = chance.randrange(2, 10)
        goal = len(accepted.jobs) + more
        wait_until(lambda goal=goal: accepted.errors or len(accepted.jobs) >= goal)  # type: ignore[misc]
        assert accepted.errors == []
        if victim == "manager":
            cluster.kill_manager()
            cluster.start_manager("--heartbeat-timeout", "2s")
        elif victim == "host":
            kill_host(cluster.workers[name])
        else:
            worker = cluster.workers[name]
            (worker.kill if victim == "agent" else worker.kill_all)()
            cluster.start_worker(name, "--cpus", "3")


def kill_host(worker: Worker) -> None:
    """The agent starts another one, unless it is about to already."""
    host = worker.find_host()
    if host is not None:
        with suppress(ProcessLookupError):
            os.kill(host, signal.SIGKILL)


def check_story(directory: Path, accepted: Accepted, runs: Path) -> None:
    """Each task ended once; each attempt that ran did so once; every answer is in the log."""
    story = Story.of_log(directory)
    assert sorted(story.requests.values()) == sorted(accepted.jobs.values())
    tasks = story.all_tasks()
    assert len(tasks) == accepted.tasks
    assert story.active == {}
    assert set(story.ends) == set(tasks)
    completed = {task for task, end in story.ends.items() if end is State.COMPLETED}
    assert {State.CANCELLED} >= {end for task, end in story.ends.items() if task not in completed}
    assert {job_id for job_id, _ in set(tasks) - completed} <= accepted.cancelled
    lines = Counter(runs.read_text().split())
    assert {line: count for line, count in lines.items() if count > 1} == {}
    ran = {(int(job), int(index)) for job, index, _ in (line.split(".") for line in lines)}
    assert completed <= ran <= set(tasks)
