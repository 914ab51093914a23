"""Draining real workers: what runs ends there, what waits goes elsewhere, restarts or not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import titan
from tests.cluster import DEADLINE_SECONDS, Cluster, wait_until
from tests.e2e.tasks import Gate


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose parts may be killed."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        yield cluster


def test_a_drained_worker_runs_out_while_manager_and_agent_are_killed(
    own: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    one = own.start_worker("w1", "--cpus", "2")
    job = own.submit("--array", "0-5", "--shell", gate.line())
    gate.wait_runs(2)
    wait_until(lambda: own.json("workers")[0]["running"] == 2, "both are known to run")
    waiting = own.popen("drain", "w1", "--wait", "--reason", "new kernel", "--json")
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == b"w1: 2 running\n"
    (worker,) = own.json("workers")
    assert (worker["state"], worker["draining"]) == ("HEALTHY", True)
    assert worker["reason"].endswith(": new kernel")
    assert b"HEALTHY (draining)" in own.ok("workers")
    assert "w1, which could take it, is draining" in own.json("show", str(job))["waiting_for"]

    own.kill_manager()
    one.kill()
    own.start_manager()
    own.start_worker("w1", "--cpus", "2")
    gate.open()
    out, err = waiting.communicate(timeout=DEADLINE_SECONDS)
    assert waiting.returncode == 0, err
    assert b'"running": 0' in out
    assert b"HEALTHY (drained)" in own.ok("workers")
    own.start_worker("w2", "--cpus", "2")
    own.ok("wait", str(job))
    shown = own.json("show", str(job), "--attempts", "100")
    on = {each["index"]: each["worker"] for each in shown["attempts"] if each["reason"] == "EXIT"}
    assert on == {0: "w1", 1: "w1", 2: "w2", 3: "w2", 4: "w2", 5: "w2"}
    assert len(gate.runs()) == 6, "none ran twice"

    assert own.ok("undrain", "w1") == b"w1 takes tasks\n"
    events = [each for each in own.dump() if "Drain" in each["event"] or "drain" in each["event"]]
    drained, undrained = events
    assert (drained["event"], drained["reason"]) == ("WorkerDraining", "new kernel")
    assert (undrained["event"], undrained["stopping"]) == ("WorkerUndrained", False)
    then = own.json("--at", str(drained["lsn"]), "workers")
    assert [each["draining"] for each in then] == [True]


def test_what_cannot_be_drained_is_refused_with_what_there_is(shared: Cluster) -> None:
    result = shared.titan("drain", "w9")
    assert result.returncode == 4
    assert b"no worker 'w9'; there are w1, w2" in result.stderr


def test_two_workers_of_one_name_are_told_apart_by_their_ids(own: Cluster) -> None:
    own.start_worker("a", "--name", "twin")
    own.start_worker("b", "--name", "twin")
    result = own.titan("drain", "twin")
    assert result.returncode == 5
    assert b"2 workers have the name twin" in result.stderr
    first, _ = own.json("workers")
    own.ok("drain", first["worker_id"])
    assert [each["draining"] for each in own.json("workers")] == [True, False]


def test_python_drains_too(own: Cluster) -> None:
    own.start_worker("w1")
    with own.client() as client:
        (view,) = client.drain("w1", reason="new kernel")
        assert view["draining"] is True
        assert client.workers()[0]["draining"] is True
        assert client.undrain("w1")[0]["draining"] is False
        with pytest.raises(titan.NotFound, match="there are w1"):
            client.drain("w2")

    async def drain() -> bool:
        access = own.manager_directory / "access.json"
        async with titan.AsyncClient(own.address, access_file=access) as client:
            await client.drain("w1")
            (view,) = await client.undrain("w1")
            return bool(view["draining"])

    assert asyncio.run(drain()) is False
    wait_until(lambda: own.json("workers")[0]["reason"] is None)
