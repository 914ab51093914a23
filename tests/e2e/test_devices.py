"""Devices from the command line to the task: declared, asked for, and changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate

SHOW = "echo $TITAN_DEVICES_GPU; echo $CUDA_VISIBLE_DEVICES"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A manager and a worker with three devices."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "8", "--resource", "gpu=[4,GPU-abc,7]")
        yield cluster


def test_tasks_that_run_at_once_see_devices_of_their_own(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    job = own.submit(
        *("--array", "0-2", "--resource", "gpu=1"),
        *("--shell", f"echo $TITAN_DEVICES_GPU; {gate.line()}"),
    )
    gate.wait_runs(3)
    assert own.ok("run", "--shell", SHOW) == b"\n\n"
    gate.open()
    own.ok("wait", str(job))
    seen = [own.ok("logs", f"{job}.{index}") for index in range(3)]
    assert sorted(seen) == [b"4\n", b"7\n", b"GPU-abc\n"]
    assert own.ok("run", "--resource", "gpu=2", "--shell", SHOW) == b"4,GPU-abc\n4,GPU-abc\n"


def test_an_update_names_other_devices_or_counts_them(own: Cluster) -> None:
    update = ("worker", "update", "--data-dir", str(own.workers["w1"].directory), "--resource")
    own.ok(*update, "gpu=[x,y]")
    # Its manager may hear of it a little later.
    wait_until(lambda: own.json("workers")[0]["resources"] == {"gpu": 2}, "it is known")
    assert own.ok("run", "--resource", "gpu=2", "--shell", SHOW) == b"x,y\nx,y\n"
    own.ok(*update, "gpu=1")
    wait_until(lambda: own.json("workers")[0]["resources"] == {"gpu": 1}, "that is known")
    assert own.ok("run", "--resource", "gpu=1", "--shell", SHOW) == b"0\n0\n"
    result = own.titan(*update, "gpu=[x,x]")
    assert result.returncode == 2
    assert b"the device x of gpu is named twice" in result.stderr
