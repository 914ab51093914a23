"""`titan history` and the manager that has it written, as processes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wal
from tests.cluster import Cluster, is_alive, wait_until
from tests.history.writing import WRITER_SECONDS, find_writers
from titan import units
from titan.cli.stats_last import bars
from titan.following import HISTORY_SLOT
from titan.manager import history as manager_history
from titan.manager.history import HistoryWriter
from titan.manager.history_desk import HistoryDesk
from titan.manager.left_slot import warn_of_left_slot


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing of it runs yet."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


def ask(cluster: Cluster, *options: str, url: str = "") -> list[dict[str, Any]]:
    """What --json prints."""
    where = ("--history", url) if url else ("--data-dir", str(cluster.manager_directory))
    done = cluster.titan("history", *where, "--json", *options)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def wait_rows(cluster: Cluster, count: int, *options: str, url: str = "") -> list[dict[str, Any]]:
    """So many, once there are as many."""

    def rows() -> list[dict[str, Any]]:
        where = ("--history", url) if url else ("--data-dir", str(cluster.manager_directory))
        done = cluster.titan("history", *where, "--json", *options)
        found = json.loads(done.stdout) if done.returncode == 0 else []
        return found if len(found) == count else []

    return wait_until(rows, f"{count} rows of history", WRITER_SECONDS)


def test_what_a_cluster_runs_is_in_its_history(
    cluster: Cluster, new_url: Callable[[], str]
) -> None:
    url = new_url()
    cluster.start_manager("--history", url)
    cluster.start_worker("w1", "--cpus", "2")
    job = cluster.submit("--name", "three", "--array", "0-2", "--shell", "exit $TITAN_TASK_INDEX")
    rows = wait_rows(cluster, 3, url=url)
    assert {(row["job_id"], row["index"], row["state"], row["exit_code"]) for row in rows} == {
        (job, 0, "COMPLETED", 0),
        (job, 1, "FAILED", 1),
        (job, 2, "FAILED", 2),
    }
    shown = {(each["index"]): each for each in cluster.json("show", str(job))["attempts"]}
    for row in rows:
        known = shown[row["index"]]
        same = (
            "attempt", "worker", "state", "reason", "detail", "exit_code", "signal", "start_time",
            "end_time", "cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "stdout_path",
            "stderr_path",
        )  # fmt: skip
        assert {name: row[name] for name in same} == {name: known[name] for name in same}


def test_a_writer_that_dies_is_replaced_and_ends_with_its_manager(cluster: Cluster) -> None:
    manager = cluster.start_manager("--history", f"sqlite:///{cluster.root}/elsewhere.sqlite")
    url = f"sqlite:///{cluster.root}/elsewhere.sqlite"
    cluster.start_worker("w1")
    cluster.submit("--", "true")
    wait_rows(cluster, 1, url=url)
    (first,) = find_writers(cluster)
    first.kill()
    cluster.submit("--", "true")
    wait_rows(cluster, 2, url=url)
    (second,) = find_writers(cluster)
    assert second.pid != first.pid
    assert "another in 1 s exit_code=-9" in manager.log
    assert manager.end(signal.SIGTERM) == 0
    assert not is_alive(second.pid)
    # As it does when the manager is killed.
    manager = cluster.start_manager("--history", url)
    (third,) = wait_until(lambda: find_writers(cluster), "another one", WRITER_SECONDS)
    cluster.kill_manager()
    # Where it was not yet so far as to end with the manager, it ends when it is.
    wait_until(lambda: not is_alive(third.pid), "it is gone", WRITER_SECONDS)
    assert not (cluster.manager_directory / "history.sqlite").exists()


def test_without_a_history_there_is_no_process_and_no_file(cluster: Cluster) -> None:
    manager = cluster.start_manager("--history", "none")
    cluster.start_worker("w1")
    cluster.titan("run", "true")
    assert find_writers(cluster) == []
    assert "the slot of an earlier one" not in manager.log
    done = cluster.titan("history", "--data-dir", str(cluster.manager_directory))
    assert done.returncode == 1
    assert b"there is no history in" in done.stderr
    assert b"Traceback" not in done.stderr


def test_one_that_is_run_by_itself_writes_the_same(cluster: Cluster) -> None:
    cluster.start_manager()
    cluster.start_worker("w1")
    cluster.titan("run", "true")
    directory = str(cluster.manager_directory)
    server = cluster.spawn("history", "run", "--data-dir", directory, name="history")
    wait_rows(cluster, 1)
    again = cluster.titan("history", "run", "--data-dir", directory)
    assert again.returncode == 1
    assert b"another process writes the history" in again.stderr
    assert server.end(signal.SIGINT) == 0
    assert len(ask(cluster)) == 1


def test_the_answers_come_as_a_table_and_as_comma_separated_values(cluster: Cluster) -> None:
    cluster.start_manager("--history", f"sqlite:///{cluster.manager_directory}/history.sqlite")
    cluster.start_worker("w1")
    cluster.titan("run", "--name", "a\x1b[31m,b", "true")
    cluster.submit("--name", "array", "--array", "5-6", "--", "false")
    wait_rows(cluster, 3)

    def history(*options: str) -> str:
        done = cluster.titan("history", "--data-dir", str(cluster.manager_directory), *options)
        return done.stdout.decode()

    table = history().splitlines()
    assert [*table[0].split()] == [
        "JOB", "NAME", "USER", "STATE", "EXIT", "WORKER", "END", "WAIT", "RUN", "CPU", "USED",
        "PEAK",
    ]  # fmt: skip
    assert {line.split()[0] for line in table[1:]} == {"1", "2.5", "2.6"}
    assert "\x1b" not in "".join(table)
    rows = list(csv.DictReader(io.StringIO(history("--csv", "--columns", "job,name,exit"))))
    assert {(row["job"], row["name"], row["exit"]) for row in rows} == {
        ("1", "a\x1b[31m,b", "0"), ("2.5", "array", "1"), ("2.6", "array", "1"),
    }  # fmt: skip
    assert [row["job_id"] for row in ask(cluster, "--name", "array", "--columns", "job_id")] == [
        2, 2,
    ]  # fmt: skip
    (total,) = ask(cluster, "--totals", "worker")
    assert (total["worker"], total["attempts"], total["failed"]) == ("w1", 3, 2)
    (failing,) = ask(cluster, "--most-failing")
    assert (failing["name"], failing["failed"], failing["attempts"]) == ("array", 2, 2)
    assert len(ask(cluster, "--slowest", "--limit", "2")) == 2
    assert ask(cluster, "--until", "1h ago") == ask(cluster, "--until", "1h") == []
    assert len(ask(cluster, "--since", "10m")) == 3
    assert ask(cluster, "--me") == ask(cluster)
    assert ask(cluster, "--user", "nobody-at-all") == []


def test_how_busy_it_was_is_told_and_drawn(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_manager("--history", f"sqlite:///{cluster.manager_directory}/history.sqlite")
    cluster.start_worker("w1", "--cpus", "2")
    cluster.submit("--array", "0-2", "--shell", "exit $TITAN_TASK_INDEX")
    wait_rows(cluster, 3)
    directory = ("--data-dir", str(cluster.manager_directory))
    usage = json.loads(cluster.ok("stats", "--last", "hour", "--json", *directory))
    assert (usage["ended"], usage["failed"]) == (3, 2)
    assert 0 <= usage["wait_p50_seconds"] <= usage["wait_p95_seconds"] <= usage["wait_p99_seconds"]
    assert 0 < usage["utilisation"] <= 1
    series = usage["series"]
    assert series["seconds"] == pytest.approx(60)
    assert {len(values) for name, values in series.items() if name != "seconds"} == {60}
    assert sum(series["ended"]) == 3
    assert max(series["cpus"]) <= 2
    picture = tmp_path / "day.png"
    # On a machine that is busy the library that draws takes its time to load.
    told = cluster.ok("stats", "--last", "day", "--png", str(picture), *directory, seconds=180)
    assert b"3 attempts, 2 FAILED" in told
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_bar_is_as_high_as_its_value_and_only_nothing_is_blank() -> None:
    assert bars([0, 0.001, 4, 8], 8, " ▁▂▃▄▅▆▇█") == " ▁▄█"
    assert bars([0, 0], 0, " .#") == "  "


def test_where_the_extra_is_not_installed_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager_history, "MODULES", ("sqlalchemy", "no_such_module"))
    with caplog.at_level(logging.INFO):
        asyncio.run(HistoryWriter(tmp_path, "", HistoryDesk()).run())
    assert [each.getMessage() for each in caplog.records] == [
        "no history is written, for want of no_such_module: pip install 'titan-scheduler[history]'"
    ]
    assert os.listdir(tmp_path) == []


def test_a_slot_that_an_earlier_history_left_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "manager"
    with wal.Log.open(directory / "wal", segment_bytes=1 << 16) as log:
        for _ in range(3):
            log.append(os.urandom(50_000))
            assert log.flush()
        warn_of_left_slot(directory, 10 << 30)
        position = log.position
        first, second, third = wal.list_segments(directory / "wal")
        for lsn, held in ((0, (first, second, third)), (1, (second, third)), (3, (third,))):
            at = position._replace(lsn=lsn)
            wal.write_slot(directory / "readers", HISTORY_SLOT, at)
            wal.write_slot(directory / "readers", "another", at)
            caplog.clear()
            warn_of_left_slot(directory, 10 << 30)
            (told,) = [each.getMessage() for each in caplog.records]
            size = units.format_size(sum(each.size_bytes for each in held))
            assert f"from record {lsn + 1} on, {size} by now and at most 10G" in told
            assert f"remove {directory}/readers/history.slot" in told
    (directory / "readers" / "history.slot").unlink()
    caplog.clear()
    warn_of_left_slot(directory, 10 << 30)
    assert caplog.records == []
