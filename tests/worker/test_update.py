"""A worker is told what it has now: its manager learns it, and its tasks run on."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from tests.worker.builders import key
from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.host_driver import is_running
from tests.worker.scenes import Play, connection_to, run_sleeper, status_of, wait_exit
from tests.worker.worker_process import WorkerProcess
from titan.rpc.v1 import task_pb2, task_pb2_grpc, types_pb2, worker_pb2


async def update(manager: FakeManager, **change: Any) -> task_pb2.UpdateWorkerResponse:
    """Over a connection of its own: the manager's ends with its session."""
    request = task_pb2.UpdateWorkerRequest(**change)
    async with connection_to(manager.registrations[-1].address) as open_channel:
        stub = task_pb2_grpc.TaskServiceStub(open_channel)
        return await stub.UpdateWorker(request, metadata=manager.metadata())


def test_it_registers_again_with_what_it_has_now_and_its_tasks_run_on(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        pid = await run_sleeper(manager, worker)
        await manager.wait_report(key(), worker_pb2.REPORT_STARTED)
        memory_bytes = manager.registrations[0].capacity.memory_bytes
        answer = await update(
            manager, cpus_milli=1500, named={"gpu": 1, "disk": 3}, labels={"zone": "b"}
        )
        assert len(manager.registrations) == 2
        again = manager.registrations[1]
        assert again.capacity == answer.capacity == types_pb2.Resources(
            cpus_milli=1500, memory_bytes=memory_bytes, named={"gpu": 1, "disk": 3}
        )  # fmt: skip
        assert dict(again.labels) == dict(answer.labels) == {"rack": "r1", "zone": "b"}
        assert answer.registered
        assert again.instance == manager.registrations[0].instance
        assert [each.state for each in again.held.attempts] == [worker_pb2.HELD_RUNNING]
        assert is_running(pid)
        await manager.wait_report(await manager.run("true", job_id=2))
        await manager.cancel(key())
        await manager.wait_report(key())
        # What is not named stays, and a count of 0 takes a resource away.
        answer = await update(manager, memory_bytes=1 << 30, named={"gpu": 0})
        assert answer.capacity == types_pb2.Resources(
            cpus_milli=1500, memory_bytes=1 << 30, named={"disk": 3}
        )

    play(scene)


def test_what_changes_nothing_is_not_told_again(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        assert (await update(manager, cpus_milli=4000)).registered
        beats = len(manager.heartbeats)
        await wait_for(lambda: len(manager.heartbeats) > beats, "a heartbeat")
        assert len(manager.registrations) == 1

    play(scene)


def test_a_manager_that_is_away_is_told_when_it_is_back(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        worker.kill()
        worker.start(registering_seconds=0.2)
        await manager.wait_registrations(2)
        manager.refuse["RegisterWorker"] = [grpc.StatusCode.UNAVAILABLE] * 1_000
        answer = await update(manager, cpus_milli=1000)
        assert not answer.registered
        manager.refuse.clear()
        again = await manager.wait_registrations(3)
        assert again.capacity.cpus_milli == 1000

    play(scene)


def test_it_lasts_until_the_worker_is_started_again(play: Play) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        await update(manager, cpus_milli=1000)
        worker.send(signal.SIGTERM)
        await wait_exit(worker)
        worker.start()
        assert (await manager.wait_registrations(3)).capacity.cpus_milli == 4000

    play(scene)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "there is nothing to change"),
        ({"cpus_milli": 0}, "a worker cannot have 0 cpus"),
        ({"memory_bytes": -1}, "a worker cannot have -1 bytes of memory"),
        ({"named": {"cpus": 3}}, "a worker cannot have cpus=3"),
        ({"named": {"gpu": -3}}, "a worker cannot have gpu=-3"),
        (
            {"labels": {"titan.run-as": "*:self"}},
            "the label titan.run-as is one of Titan's own",
        ),
    ],
)
def test_what_no_worker_can_have_is_refused_and_changes_nothing(
    play: Play, change: Mapping[str, Any], sentence: str
) -> None:
    async def scene(manager: FakeManager, worker: WorkerProcess) -> None:
        code, said = await status_of(update(manager, **change))
        assert (code, said) == (grpc.StatusCode.INVALID_ARGUMENT, sentence)
        assert (await update(manager, cpus_milli=4000)).capacity.named["gpu"] == 2
        assert len(manager.registrations) == 1

    play(scene)
