"""What `titan show` tells of tasks that run: asked of their workers at this moment."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate

# Takes memory and computes.
BUSY = "exec python3 -c 'x = bytearray(64 << 20)\nwhile True: pass'"
FIELDS = ("cpu_user_seconds", "cpu_system_seconds", "max_rss_bytes", "rss_bytes")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A manager, a worker that is called and one that fetches."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "1")
        cluster.start_worker("w2", "--cpus", "1", "--no-listen")
        yield cluster


def attempts(cluster: Cluster, job: int) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = cluster.json("show", str(job))["attempts"]
    return shown


def test_cpu_and_memory_of_what_runs_are_shown_wherever_it_runs(own: Cluster) -> None:
    job = own.submit("--array", "0-1", "--shell", BUSY)

    def is_measured() -> list[dict[str, Any]] | None:
        found = attempts(own, job)
        busy = [each for each in found if (each["rss_bytes"] or 0) > 64 << 20]
        is_busy = all(each["cpu_user_seconds"] > 0.2 for each in busy)
        return found if len(busy) == 2 and is_busy else None

    found = wait_until(is_measured)
    assert found is not None
    assert {each["worker"] for each in found} == {"w1", "w2"}
    for each in found:
        assert each["state"] == "RUNNING"
        assert each["max_rss_bytes"] >= each["rss_bytes"]
        assert each["end_time"] is None
    # A worker that does not answer within a second is left out, and these are busy.
    wait_until(lambda: b" NOW " in own.ok("show", str(job)), "one of them answers")
    own.ok("cancel", str(job))
    own.titan("wait", str(job))
    for each in attempts(own, job):
        assert each["rss_bytes"] is None
        assert each["cpu_user_seconds"] > 0.2
    assert " NOW " not in own.ok("show", str(job)).decode()


def test_a_plain_job_says_it_in_a_line(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = own.submit("--shell", gate.line())
    gate.wait_runs(1)
    wait_until(lambda: attempts(own, job)[0]["rss_bytes"])

    def line_of_use() -> bytes:
        lines = own.ok("show", str(job)).splitlines()
        return next((each for each in lines if each.startswith(b"uses")), b"")

    # A worker that does not answer within a second is left out.
    line = wait_until(line_of_use, "its worker answers")
    assert re.fullmatch(rb"uses         cpu [0-9.]+s, memory .* now", line), line
    # Of the past nobody can be asked.
    lsn = own.json("stats")["lsn"]
    (then,) = own.json("show", str(job), "--at", str(lsn))["attempts"]
    assert (then["state"], then["rss_bytes"]) == ("RUNNING", None)


@pytest.mark.parametrize("name", ["w1", "w2"])
def test_a_worker_that_cannot_be_asked_gives_nulls_and_no_error(
    own: Cluster, tmp_path: Path, name: str
) -> None:
    gate = Gate(tmp_path)
    job = own.submit("--array", "0-1", "--shell", gate.line())
    gate.wait_runs(2)
    wait_until(lambda: all(each["rss_bytes"] for each in attempts(own, job)))
    os.kill(own.workers[name].pid, signal.SIGSTOP)
    try:

        def is_shown_in_time() -> bool:
            """The other one has a second for its answer, which a busy machine may miss once."""
            before = time.monotonic()
            found = {each["worker"]: each for each in attempts(own, job)}
            took = time.monotonic() - before
            silent = found.pop(name)
            assert [silent[field] for field in FIELDS] == [None] * 4
            assert silent["state"] == "RUNNING"
            (other,) = found.values()
            return took < 5 and (other["rss_bytes"] or 0) > 0

        wait_until(is_shown_in_time, "the other one is shown, and nobody waits for this one")
    finally:
        os.kill(own.workers[name].pid, signal.SIGCONT)
    wait_until(lambda: all(each["rss_bytes"] for each in attempts(own, job)))
