"""Jobs for one worker: `--on` and `on=`."""

from __future__ import annotations

from pathlib import Path

import pytest

import titan
from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate


def test_a_job_runs_on_the_worker_that_it_names(shared: Cluster) -> None:
    printed = shared.ok("run", "--on", "w2", "--array", "0-7", "--shell", "echo $TITAN_WORKER")
    assert printed.count(b"w2\n") == len(printed.splitlines()) == 8
    view = shared.json("show", "last")
    assert view["on"] == "w2"
    assert {each["worker"] for each in view["attempts"]} == {"w2"}
    assert b"only on      w2\n" in shared.ok("show", "last")
    w1 = next(each for each in shared.json("workers") if each["name"] == "w1")
    assert shared.ok("run", "--on", w1["worker_id"], "--shell", "echo $TITAN_WORKER") == b"w1\n"
    assert shared.json("show", "last")["on"] == w1["worker_id"].replace("-", "")
    shared.ok("run", "true")
    assert shared.json("show", "last")["on"] is None


def test_an_unknown_worker_is_refused_with_those_there_are(shared: Cluster) -> None:
    result = shared.titan("submit", "--on", "w9", "true")
    assert result.returncode == 2
    assert b"no worker 'w9'; there are w1, w2" in result.stderr
    with shared.client() as client, pytest.raises(titan.InvalidJob, match="there are w1, w2"):
        client.submit(["true"], on="w9")


def test_what_the_one_worker_cannot_take_is_told_as_if_there_were_no_other(
    shared: Cluster,
) -> None:
    job = shared.submit("--on", "w2", "--resource", "gpu=1", "true")
    assert shared.json("show", str(job))["waiting_for"] == (
        "only on w2: no worker is large enough for it, even when empty: "
        "it needs gpu=1, the most is gpu=0"
    )
    shared.ok("cancel", str(job))


def test_it_waits_while_its_worker_is_drained_or_gone(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--heartbeat-timeout", "2s")
        worker = cluster.start_worker("w1")
        cluster.start_worker("w2")
        cluster.ok("drain", "w1", "--reason", "new disk")
        with cluster.client() as client:
            job = client.submit(gate.line(), shell=True, on="w1")
            # On a busy machine it may be silent for a moment, which is told first.
            draining = "only on w1: worker w1, which could take it, is draining"
            reason = wait_until(
                lambda: (reason := job.show()["waiting_for"]).startswith(draining) and reason,
                "it is told that w1 is draining",
            )
            assert reason.endswith(": new disk")
            worker.kill_all()
            wait_until(
                lambda: job.show()["waiting_for"].endswith("it is DISCONNECTED"), "it is told"
            )
            cluster.kill_manager()
            cluster.start_manager("--heartbeat-timeout", "2s")
            cluster.start_worker("w1")
            cluster.ok("undrain", "w1")
            gate.wait_runs(1)
            assert job.show()["attempts"][0]["worker"] == "w1"
            gate.open()
            assert job.wait(60)["state"] == "COMPLETED"
