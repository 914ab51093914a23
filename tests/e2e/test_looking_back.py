"""The past of a real cluster: as it was, also of jobs that the manager has forgotten."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster import Cluster, is_alive, wait_until
from tests.e2e.tasks import Gate
from titan import NotFound, OutOfRange

LIVE = ("cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "rss_bytes")
# What a heartbeat says of a worker, which only the manager's memory has.
SAID = (
    "last_heartbeat_time", "cpu_percent", "load_1m", "memory_used_bytes", "memory_total_bytes",
    "disk_free_bytes",
)  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One of which a test decides how it forgets."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Where tasks wait."""
    return Gate(tmp_path)


def lookback_pids(cluster: Cluster) -> list[int]:
    """The processes that read the past for its manager."""
    directory = str(cluster.manager_directory)
    found = []
    for process in cluster.find_processes():
        # One may have ended by now.
        with suppress(psutil.Error):
            command = process.cmdline()
            if "titan.lookback" in command and directory in command and is_alive(process.pid):
                found.append(process.pid)
    return found


def without_heartbeats(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the log knows of workers. On a busy machine some have beaten before a test looks."""
    return [{**each, **dict.fromkeys(SAID)} for each in workers]


def test_every_answer_is_what_it_was_at_that_lsn_and_time(cluster: Cluster, gate: Gate) -> None:
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        job = client.submit(gate.line("exit 3"), shell=True, array="0-2")
        gate.wait_runs(2)
        wait_until(lambda: client.show(job.id)["tasks"]["running"] == 2, "two run")

        def look() -> tuple[int, tuple[Any, ...], float, Any] | None:
            """None: something was written meanwhile, as a heartbeat is every few seconds."""
            lsn = client.stats()["lsn"]
            seen = (client.show(job.id), client.queue(), without_heartbeats(client.workers()))
            time_seen = time.time()
            counts = client.stats()["tasks"]
            return (lsn, seen, time_seen, counts) if client.stats()["lsn"] == lsn else None

        looked = wait_until(look, "nothing happens while it looks")
        assert looked is not None
        lsn, seen, time_seen, counts = looked
        gate.open()
        assert job.wait(timeout=60)["state"] == "FAILED"
        for at in (lsn, time_seen):
            shown = client.show(job.id, at=at)
            for attempt, then in zip(shown["attempts"], seen[0]["attempts"], strict=True):
                # What it used then nobody has written down.
                attempt |= {name: then[name] for name in LIVE if attempt[name] is None}
            workers = without_heartbeats(client.workers(at=at))
            assert (shown, client.queue(at=at), workers) == seen
            assert client.stats(at=at)["tasks"] == counts
            assert client.stats(at=at)["lsn"] == lsn
        assert client.queue(at=time.time()) == []
        # What was acknowledged a moment ago can be asked about.
        late = client.submit(["true"])
        assert client.show(late.id, at=client.stats()["lsn"])["job_id"] == late.id
        with pytest.raises(NotFound):
            client.show(job.id, at=1)
        with pytest.raises(OutOfRange, match="from LSN 1 "):
            client.show(job.id, at=1_000_000)
        with pytest.raises(OutOfRange, match="has not come yet"):
            client.queue(at=time.time() + 3600)
        with pytest.raises(OutOfRange, match="before the oldest"):
            client.queue(at=1.0)


def test_the_events_of_a_job_are_those_that_the_log_has(cluster: Cluster) -> None:
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    first, second = cluster.submit("--array", "0-3", "true"), cluster.submit("true")
    cluster.ok("wait", str(first), str(second))
    for job_id in (first, second):
        told = [
            event
            for event in cluster.dump()
            if event.get("job_id") == job_id or event.get("first_job_id") == job_id
        ]
        assert cluster.json("show", str(job_id), "--events") == told
    task = cluster.json("show", f"{first}.2", "--events")
    assert {event.get("index", 2) for event in task} == {2}
    middle = task[-1]["lsn"] - 1
    early = cluster.json("show", f"{first}.2", "--events", "--at", str(middle))
    assert early == [event for event in task if event["lsn"] <= middle]
    # Which job is meant, whether there is one and whether there was a then: all as without.
    (submitted,) = {each["lsn"] for each in cluster.json("show", str(second), "--events")[:1]}
    then = str(submitted - 1)
    assert cluster.json("show", "last", "--at", then)["job_id"] == first
    early = cluster.json("show", "last", "--events", "--at", then)
    assert early == [
        event for event in cluster.json("show", str(first), "--events") if event["lsn"] < submitted
    ]
    for job, at in ((str(second), then), ("1", "0"), ("1", "2001-01-01"), ("1", "999999")):
        refused = cluster.titan("show", job, "--at", at)
        silent = cluster.titan("show", job, "--events", "--at", at)
        # But for the end of the log, which heartbeats move on.
        said = [each.stderr.partition(b" to LSN ")[0] for each in (silent, refused)]
        assert (silent.returncode, said[0]) == (refused.returncode, said[1])
        assert silent.stdout == b""
        assert refused.returncode == {then: 4, "0": 2}.get(at, 1)
    text = cluster.titan("show", str(second), "--events")
    assert text.stderr == b"", "it is told from the beginning"
    lines = text.stdout.decode().splitlines()
    assert [line.split()[3] for line in lines[1:]] == [
        event["event"] for event in cluster.json("show", str(second), "--events")
    ]


def test_a_forgotten_job_is_as_if_it_were_remembered(cluster: Cluster, gate: Gate) -> None:
    cluster.start_manager("--forget-over", "0")
    cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        gone = client.submit(gate.line("echo out; echo err >&2; exit 3"), shell=True)
        gate.open()
        wait_until(
            lambda: not any(job["job_id"] == gone.id for job in client.queue(all=True)),
            "the job is forgotten",
        )
        shown = client.show(gone.id)
        assert (shown["state"], shown["exit_code"]) == ("FAILED", 3)
        assert shown["attempts"][0]["worker"] == "w1"
        assert client.show("last")["job_id"] == gone.id
        assert gone.wait(timeout=60) == shown
        assert gone.cancel() == {"job_id": gone.id, "state": "FAILED", "exit_code": 3}
        assert gone.output() == b"out\n"
        assert gone.output(stream="stderr") == b"err\n"
        assert next(client.watch(gone.id)).jobs[0]["state"] == "FAILED"
        names = [event["event"] for event in gone.events()]
        assert (names[0], names[-1]) == ("JobSubmitted", "JobsForgotten")
        # One that runs, beside it, is cancelled by the same call.
        running = client.submit(["sleep", "60"])
        both = client.cancel(running.id, gone.id)
        assert [each["job_id"] for each in both] == [running.id, gone.id]
        with pytest.raises(NotFound, match="there is no job 77"):
            client.show(77)
        with pytest.raises(NotFound, match="has no task"):
            client.show(f"{gone.id}.5")
    result = cluster.titan("show", str(gone.id))
    assert result.returncode == 0
    assert result.stdout.decode().splitlines()[-1] == "  err"
    assert cluster.titan("wait", str(gone.id)).returncode == 3
    assert cluster.titan("show", "77").returncode == 4


def test_a_lookback_process_that_was_killed_is_not_missed(cluster: Cluster) -> None:
    cluster.start_manager()
    with cluster.client() as client:
        job = client.submit(["true"])
        lsn = client.stats()["lsn"]
        expected = client.show(job.id, at=lsn)
        (first,) = lookback_pids(cluster)
        os.kill(first, signal.SIGKILL)
        assert client.show(job.id, at=lsn) == expected
        (second,) = lookback_pids(cluster)
        assert first != second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_lookback_process_outlives_its_manager(cluster: Cluster, number: int) -> None:
    manager = cluster.start_manager()
    with cluster.client() as client:
        client.queue(at=1)
    (pid,) = lookback_pids(cluster)
    manager.end(number)
    wait_until(lambda: not is_alive(pid), "the lookback process is gone")


def test_the_files_answer_where_no_manager_runs(cluster: Cluster, tmp_path: Path) -> None:
    manager = cluster.start_manager("--forget-over", "0")
    cluster.start_worker("w1", "--cpus", "2")
    job_id = cluster.submit("--shell", "echo hello; exit 4")
    wait_until(lambda: not cluster.json("queue", "--all"), "the job is forgotten")
    shown = cluster.json("show", str(job_id))
    events = cluster.json("show", str(job_id), "--events")
    workers = without_heartbeats(cluster.json("workers"))
    directory = str(cluster.manager_directory)
    for words in (["queue"], ["show", "1"], ["show", "1", "--events"], ["workers"], ["stats"]):
        refused = cluster.titan(*words, "--data-dir", directory)
        assert refused.returncode == 5, words
        assert f"(process {manager.pid}) runs on {directory}" in refused.stderr.decode()
    manager.end()
    assert cluster.json("show", str(job_id), "--data-dir", directory) == shown
    assert cluster.json("show", str(job_id), "--events", "--data-dir", directory) == events
    assert without_heartbeats(cluster.json("workers", "--data-dir", directory)) == workers
    submitted = str(events[0]["lsn"])
    (then,) = cluster.json("queue", "--data-dir", directory, "--at", submitted)
    assert (then["job_id"], then["state"]) != (job_id, "FAILED")
    assert cluster.json("stats", "--data-dir", directory)["lsn"] >= events[-1]["lsn"]
    text = cluster.titan("show", str(job_id), "--data-dir", directory)
    assert text.stderr.decode().startswith("as of ")
    for wrong in (tmp_path, cluster.root / "w1", tmp_path / "none"):
        result = cluster.titan("queue", "--data-dir", str(wrong))
        assert result.returncode == 1
        assert "data directory of" in result.stderr.decode()
    # Nothing was changed by looking: the manager goes on.
    cluster.start_manager()
    assert json.loads(cluster.ok("--json", "show", str(job_id)))["exit_code"] == 4
