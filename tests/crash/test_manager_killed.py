"""kill -9 of the manager and its snapshotter, again and again, while users submit and workers work.

First with the settings that a manager has by itself; then with some that are so small that
segments, snapshots, removal and forgetting never stop, and most kills hit one of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster, wait_until
from tests.crash.follower import Follower
from tests.crash.load import RETRY_FOR_SECONDS, Accepted, User
from tests.crash.recovered import check_every_way_leads_to_the_same_state
from tests.crash.story import Story
from titan import Client
from titan.client.views import job_view
from titan.manager.recovery import recover
from titan.model import State
from titan.queries import views
from titan.scheduler.summary import Known
from titan.snapshots import load_snapshot, snapshot_directory
from titan.state.digest import digest
from titan.state.job import weigh
from wal import find_snapshots, list_segments

# A longer run: TITAN_CRASHES=2000 with another TITAN_CRASH_SEED.
CRASHES = int(os.environ.get("TITAN_CRASHES", "16"))
SEED = os.environ.get("TITAN_CRASH_SEED", "1")
USERS = 4

# Of all kills of a manager, those with small settings; and how often it is the snapshotter alone.
SMALL_CRASHES = CRASHES // 4
SNAPSHOTTER_KILLS = SMALL_CRASHES // 3
RETAIN_SECONDS = 1
FORGET_OVER = 20
SMALL = (
    "--segment-size", "64K", "--snapshot-every", "64K", "--retain", f"{RETAIN_SECONDS}s",
    "--forget-over", str(FORGET_OVER),
)  # fmt: skip
# What is kept then: the log since the second newest snapshot, and two segments in advance.
KEPT_SEGMENTS_MAX = 8


# Far longer than it takes, also where a process takes seconds to start.
@pytest.mark.timeout(300 + CRASHES * 15)
def test_a_manager_killed_again_and_again_loses_no_job_and_ends_none_twice(
    tmp_path: Path,
) -> None:
    """Invariants 1, 2, 5 and 7 over real processes, on one data directory."""
    runs = tmp_path / "runs"
    runs.touch()
    accepted = Accepted()
    with Cluster(tmp_path / "cluster") as cluster:
        directory = cluster.manager_directory
        cluster.start_manager()
        follower = Follower(directory)
        follower.start()
        for name in ("w1", "w2"):
            cluster.start_worker(name, "--cpus", "3")
        # Long, so that a segment is full within a second.
        line = f"echo $TITAN_JOB_ID.$TITAN_TASK_INDEX.$TITAN_ATTEMPT >> {runs} # {'x' * 2000}"
        users = [
            User(number, cluster.client(RETRY_FOR_SECONDS), line, accepted, f"{SEED}/{number}")
            for number in range(USERS)
        ]
        for user in users:
            user.start()
        try:
            crash_repeatedly(cluster, accepted, runs)
            crash_while_tidying(cluster, accepted)
        finally:
            for user in users:
                user.stop()
            for user in users:
                user.join(DEADLINE_SECONDS)
        assert not any(user.is_alive() for user in users)
        assert accepted.errors == []
        assert accepted.repeats >= CRASHES / 10, "hardly any call was cut off"

        # The last ones may not have been read yet.
        wait_until(
            lambda: follower.errors or follower.story.has_ended(len(accepted.jobs)), "all jobs end"
        )
        with cluster.client() as client:
            told = wait_until(lambda: find_remembered(client), "most are forgotten")
        cluster.kill_manager()
        follower.stop()
        assert follower.errors == []
        check_runs(runs, follower.story)
        check_story(follower.story, accepted)
        check_told(told, follower.story)
        check_recovery(directory, tmp_path / "copy", told)
        check_stays_small(cluster, follower.story)


def crash_repeatedly(cluster: Cluster, accepted: Accepted, runs: Path) -> None:
    """Kills after so many answers, after so many runs, or after a moment: drawn from the seed."""
    chance = random.Random(SEED)
    for number in range(CRASHES - SMALL_CRASHES):
        more = chance.randrange(1, 12)
        match chance.choice(["answers", "runs", "moment"]):
            case "answers":
                wait_answers(accepted, more)
            case "runs":
                size = runs.stat().st_size + 8 * more
                wait_until(lambda size=size: accepted.errors or runs.stat().st_size >= size)  # type: ignore[misc]
            case "moment":
                threading.Event().wait(chance.uniform(0, 0.1))
        assert accepted.errors == []
        cluster.kill_manager()
        is_last = number == CRASHES - SMALL_CRASHES - 1
        cluster.start_manager(*(SMALL if is_last else ()))


def crash_while_tidying(cluster: Cluster, accepted: Accepted) -> None:
    """Kills while a snapshot is taken, once it was, when old segments go, and at any time."""
    chance = random.Random(f"{SEED}/small")
    directory = cluster.manager_directory
    victims = ["manager"] * SMALL_CRASHES + ["snapshotter"] * SNAPSHOTTER_KILLS
    moments = ["begun", "taken", "removed", "begun", "answers"] * len(victims)
    turns = [
        (victim, "begun" if victim == "snapshotter" else moment)
        for victim, moment in zip(victims, moments, strict=False)
    ]
    chance.shuffle(turns)
    for victim, moment in turns:
        wait_moment(cluster, accepted, moment, chance.randrange(1, 12))
        if moment == "begun":
            # It takes so long in all, mostly to load its modules.
            threading.Event().wait(chance.uniform(0, 0.3))
        assert accepted.errors == []
        if victim == "manager":
            cluster.kill_manager()
            wait_until(lambda: not find_snapshotters(directory), "the snapshotter dies with it")
            for lsn in find_snapshots(snapshot_directory(directory)):
                load_snapshot(directory, lsn)
            cluster.start_manager(*SMALL)
            continue
        for pid in find_snapshotters(directory):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_moment(cluster: Cluster, accepted: Accepted, moment: str, more: int) -> None:
    """Until a snapshot is begun or taken, an old segment was removed, or more was answered."""
    directory = cluster.manager_directory
    newest = find_snapshots(snapshot_directory(directory))[-1:]
    oldest = oldest_lsn(directory)

    def has_come() -> bool:
        if accepted.errors:
            return True
        match moment:
            case "begun":
                return bool(find_snapshotters(directory))
            case "taken":
                return find_snapshots(snapshot_directory(directory))[-1:] != newest
            case _:
                return oldest_lsn(directory) != oldest

    if moment == "answers":
        wait_answers(accepted, more)
    else:
        wait_until(has_come, moment)


def wait_answers(accepted: Accepted, more: int) -> None:
    """Until so many more jobs were accepted."""
    goal = len(accepted.jobs) + more
    wait_until(lambda: accepted.errors or len(accepted.jobs) >= goal)


def find_snapshotters(directory: Path) -> list[int]:
    """The processes that take a snapshot of that directory."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "titan.lookback.snapshotter" in words and str(directory) in words:
                found.append(process.pid)
    return found


def oldest_lsn(directory: Path) -> int:
    """The first record that is kept."""
    return list_segments(directory / "wal")[0].first_lsn


def check_runs(runs: Path, story: Story) -> None:
    """Every task ran once, and that was attempt 1: a manager's death costs its workers nothing."""
    lines = Counter(runs.read_text().split())
    assert set(lines) == {f"{job_id}.{index}.1" for job_id, index in story.all_tasks()}
    assert {line: count for line, count in lines.items() if count > 1} == {}


def check_story(story: Story, accepted: Accepted) -> None:
    """The log, told without the state's code, holds what was answered and nothing else."""
    assert story.starts == CRASHES + 1
    assert sorted(story.requests.values()) == sorted(accepted.jobs.values())
    assert len(story.jobs) == len(accepted.jobs)
    tasks = story.all_tasks()
    assert len(tasks) == accepted.tasks
    assert story.active == {}
    assert story.ends == dict.fromkeys(tasks, State.COMPLETED)
    assert dict(story.attempts) == dict.fromkeys(tasks, 1)


def find_remembered(client: Client) -> dict[int, dict[str, Any]]:
    """What the manager still knows; none while it has not forgotten all that it should."""
    told = {view["job_id"]: view for view in client.queue(all=True, limit=100_000)}
    weight = sum(weigh(sum(view["tasks"].values())) for view in told.values())
    return told if weight <= FORGET_OVER else {}


def check_told(told: dict[int, dict[str, object]], story: Story) -> None:
    """What the manager remembers has ended, and is in the log."""
    assert {view["state"] for view in told.values()} == {"COMPLETED"}
    assert set(told) <= set(story.jobs)


def check_recovery(directory: Path, copy: Path, told: dict[int, dict[str, object]]) -> None:
    """A start, a reader from wherever it begins, and what the live manager showed agree."""
    shutil.copytree(directory, copy)
    before = check_every_way_leads_to_the_same_state(copy)
    found = recover(copy)
    found.log.close()
    after = check_every_way_leads_to_the_same_state(copy)
    assert digest(found.state) == digest(after)
    assert not found.unusable
    # The kill may have left one frame that only recovery counts.
    assert before.lsn <= after.lsn
    known = Known()
    assert {
        job_id: job_view(views.job_message(after, job, known)) for job_id, job in after.jobs.items()
    } == told


def check_stays_small(cluster: Cluster, story: Story) -> None:
    """What was logged is gone, as soon as it is old enough and nobody needs it."""
    directory = cluster.manager_directory
    base = find_snapshots(snapshot_directory(directory))[-2]
    path = snapshot_directory(directory) / f"{base:020d}.snapshot"
    wait_until(lambda: time.time() - path.stat().st_mtime > RETAIN_SECONDS, "it is old enough")
    cluster.start_manager(*SMALL)
    wait_until(
        lambda: (
            sum(each.size_bytes for each in list_segments(directory / "wal"))
            <= KEPT_SEGMENTS_MAX << 16
            and len(find_snapshots(snapshot_directory(directory))) <= 3
        ),
        f"of {story.size_bytes} bytes little is kept",
    )
    # Workers are heard and written down as long as it runs, and more is removed.
    cluster.kill_manager()
    wait_until(lambda: not find_snapshotters(directory), "the snapshotter dies with it")
    check_every_way_leads_to_the_same_state(directory)
