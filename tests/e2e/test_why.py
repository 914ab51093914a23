"""`titan why` and `titan plan` of a real cluster: of what waits, runs, ended, was forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One of two workers."""
    with Cluster(tmp_path / "cluster") as made:
        made.start_manager("--forget-over", "1")
        made.start_worker("w1", "--cpus", "2")
        made.start_worker("w2", "--cpus", "1", "--resource", "gpu=1")
        yield made


def test_why_a_task_waits_and_when_it_could_start(cluster: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with cluster.client() as client:
        first = client.submit(gate.line(), shell=True, cpus=2, time_limit="4m")
        gate.wait_runs(1)
        wait_until(lambda: client.show(first.id)["state"] == "RUNNING", "it is known to run")
        head = client.submit(["true"], cpus=2)
        last = client.submit(["true"], cpus=2)
    assert cluster.ok("why", str(last.id)).decode().splitlines() == [
        f"{last.id} (true) PENDING: 0 of 2 workers can take it now",
        "  1 lacks cpus (needs 2, largest free 0)",
        "  1 lacks cpus (needs 2, largest has 1): never, even when empty",
        f"1 task ahead; could start in about 4 min when {first.id} ends on w1",
    ]
    assert cluster.json("why", str(head.id))["tasks_ahead"] == 0
    never = cluster.submit("--resource", "gpu=3", "true")
    said = cluster.ok("why", str(never)).decode()
    assert "PENDING: no worker is large enough for it, even when empty: it needs gpu=3" in said
    assert said.splitlines()[-1] == "never: not on any of the 2 workers, even when empty"
    cluster.ok("cancel", str(never))
    assert "CANCELLED: cancelled before it started" in cluster.ok("why", str(never)).decode()
    assert cluster.titan("why", "99").returncode == 4
    gate.open()


def test_why_a_task_is_where_it_is_also_when_only_the_log_knows(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    with cluster.client() as client:
        job = client.submit(gate.line(), shell=True)
        gate.wait_runs(1)
        wait_until(lambda: client.show(job.id)["state"] == "RUNNING", "it runs")
        told = cluster.json("why", str(job.id))
        assert (told["verdict"], told["state"], told["attempt"]) == ("PLACED", "RUNNING", 1)
        assert told["policy"] == "round-robin-then-bin-packing"
        assert [(each["worker"], each["free"]["cpus"]) for each in told["candidates"]] == [
            ("w1", 2),
            ("w2", 1),
        ]
        assert [each["worker"] for each in told["candidates"] if each["chosen"]] == [told["worker"]]
        (event,) = [e for e in client.events(job.id) if e["event"] == "TaskAssigned"]
        assert told["assigned_lsn"] == event["lsn"]
        before = cluster.json("why", str(job.id), "--at", str(told["assigned_lsn"]))
        assert before == told | {"state": "SCHEDULED"}
        gate.open()
        job.wait()
        # Others take its place in the manager's memory.
        for _ in range(3):
            client.submit(["true"]).wait()
        wait_until(lambda: "JobsForgotten" in str(list(client.events(job.id))), "it is forgotten")
    assert cluster.json("why", str(job.id)) == told | {"state": "COMPLETED"}
    cluster.kill_manager()
    directory = str(cluster.manager_directory)
    assert (
        cluster.json("why", str(job.id), "--data-dir", directory)["candidates"]
        == (told["candidates"])
    )


def test_a_plan_exits_with_what_would_be_and_changes_nothing(cluster: Cluster) -> None:
    with cluster.client() as client:
        before = client.stats()["jobs"]
        now = cluster.titan("plan", "--cpus", "2", "true")
        assert (now.returncode, now.stdout.splitlines()[0]) == (
            0, b"true would start now: there is room for it",
        )  # fmt: skip
        assert b"worker       w1\n" in now.stdout
        cluster.ok("drain", "w1")
        later = cluster.titan("plan", "--cpus", "2", "true")
        assert later.returncode == 1
        assert later.stdout.splitlines()[0] == b"true would wait: 0 of 2 workers can take it now"
        assert cluster.titan("plan", "--cpus", "64", "true").returncode == 2
        assert client.stats()["jobs"] == before
