"""Hosts and workers for tests: real processes, ended after each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.strays import nothing_left
from tests.worker.fake_manager import FakeManager
from tests.worker.host_driver import HostDriver
from tests.worker.scenes import Play, Scene
from tests.worker.worker_process import WorkerProcess


@pytest.fixture(autouse=True)
def nothing_is_left_by_the_test(tmp_path: Path) -> Iterator[None]:
    """Fails a test that leaves a process or a control group."""
    with nothing_left(tmp_path):
        yield


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[HostDriver]:
    """A host's directory; nothing is started yet."""
    made = HostDriver(tmp_path)
    yield made
    made.close()


@pytest.fixture
def host(driver: HostDriver) -> HostDriver:
    """A running host with its agent connected."""
    driver.start()
    driver.connect()
    return driver


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Runs a scene with a manager and a worker that has registered with it."""
    workers: list[WorkerProcess] = []

    async def run(scene: Scene) -> None:
        manager = FakeManager(tmp_path)
        await manager.start()
        worker = WorkerProcess(tmp_path / "worker", manager.address, manager.access_file)
        workers.append(worker)
        try:
            worker.start()
            await manager.wait_registrations(1)
            await scene(manager, worker)
        finally:
            await manager.stop()

    yield lambda scene: asyncio.run(run(scene))
    for worker in workers:
        worker.close()
