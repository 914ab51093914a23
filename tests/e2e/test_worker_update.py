"""`titan worker update`: a running worker has more or less, and no task is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate, given_labels


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A manager and a worker of two cpus."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "2", "--resource", "gpu=2")
        yield cluster


def test_a_worker_that_has_less_runs_on_and_gets_nothing_until_it_fits(
    own: Cluster, tmp_path: Path
) -> None:
    gate, later = Gate(tmp_path), Gate(tmp_path, "later")
    job = own.submit("--array", "0-1", "--shell", gate.line())
    gate.wait_runs(2)
    wait_until(lambda: own.json("workers")[0]["running"] == 2, "both are known to run")
    directory = str(own.workers["w1"].directory)
    said = own.ok(
        *("worker", "update", "--data-dir", directory, "--cpus", "1"),
        *("--resource", "gpu=0", "--resource", "disk=5", "--label", "zone=b"),
    )
    assert said == b"The worker has 1 cpu, 8G memory, disk=5, zone=b\n"
    # Its manager may hear of it a little later.
    wait_until(lambda: own.json("workers")[0]["cpus"] == 1, "it is known")
    (worker,) = own.json("workers")
    assert (worker["cpus"], worker["cpus_free"]) == (1, -1)
    assert (worker["resources"], given_labels(worker)) == ({"disk": 5}, {"zone": "b"})
    assert worker["running"] == 2
    waiting = own.submit("--shell", later.line())
    assert own.json("show", str(waiting))["state"] == "PENDING"
    gate.open()
    own.ok("wait", str(job))
    later.wait_runs(1)
    later.open()
    own.ok("wait", str(waiting))
    assert len(gate.runs()) == 2, "none ran twice"
    shown = own.json("show", str(job))
    assert [each["attempt"] for each in shown["attempts"]] == [1, 1]


def test_a_worker_that_has_more_takes_what_waited_for_it(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.open()
    job = own.submit("--cpus", "3", "--shell", gate.line())
    assert "no worker is large enough" in own.json("show", str(job))["waiting_for"]
    own.ok("worker", "--data-dir", str(own.workers["w1"].directory), "update", "--cpus", "4")
    own.ok("wait", str(job))


def test_a_worker_that_does_not_run_is_named(own: Cluster) -> None:
    worker = own.workers["w1"]
    arguments = ("worker", "update", "--cpus", "1", "--data-dir", str(worker.directory))
    worker.kill()
    for path in (worker.directory / "access.json", None):
        refused = own.titan(*arguments)
        assert refused.returncode == 4
        assert refused.stderr.startswith(b"titan: no worker runs in %s" % bytes(worker.directory))
        if path is not None:
            path.unlink()
    own.start_worker("w1")
    refused = own.titan("worker", "update", "--resource", "cpus=3", "--data-dir", arguments[-1])
    assert refused.returncode == 5
    assert refused.stderr == b"titan: a worker cannot have cpus=3\n"


def test_nothing_to_change_is_a_usage_error_as_are_options_of_a_start(own: Cluster) -> None:
    for arguments, sentence in (
        (("worker", "update"), b"there is nothing to change: name --cpus"),
        (("worker", "--cpus", "3", "update", "--cpus", "2"), b"--cpus stands before update"),
        (("worker", "update", "--cpus", "0"), b"cpus"),
        (("worker", "upd"), b"upd"),
    ):
        refused = own.titan(*arguments)
        assert refused.returncode == 2
        assert sentence in refused.stderr
    wait_until(lambda: own.json("workers")[0]["cpus"] == 2)
