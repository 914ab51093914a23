"""Many short tasks through one worker: what it keeps is bounded, and all of it is.

`make soak-worker` runs 100,000 of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.worker.fake_manager import FakeManager, wait_for
from tests.worker.worker_process import WorkerProcess
from titan.model import AttemptKey
from titan.rpc.v1 import worker_pb2

TASKS = int(os.environ.get("TITAN_SOAK_TASKS", "3000"))
ROUND_TASKS = 500
RETAIN_FILES = 1_000
# What an interpreter and an allocator may take for themselves.
GROWTH_BYTES_MAX = 12 << 20


class Use(NamedTuple):
    """What agent and host take between two rounds."""

    agent_bytes: int
    host_bytes: int
    agent_descriptors: int
    host_descriptors: int
    host_children: int


def measure(worker: WorkerProcess) -> Use:
    assert worker.process is not None
    agent, host = psutil.Process(worker.process.pid), psutil.Process(worker.host_pid())
    return Use(
        agent.memory_info().rss,
        host.memory_info().rss,
        agent.num_fds(),
        host.num_fds(),
        # Zombies are children, too.
        len(host.children()),
    )


def count_inodes(directory: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(directory))


def is_end(report: worker_pb2.TaskReport) -> bool:
    return report.kind == worker_pb2.REPORT_ENDED


async def run_all(manager: FakeManager, worker: WorkerProcess, tasks: int) -> list[Use]:
    """Round by round, each job a round; what is used after each."""
    uses: list[Use] = []
    seen = ended = 0

    def all_ended() -> bool:
        nonlocal seen, ended
        ended += sum(map(is_end, manager.reports[seen:]))
        seen = len(manager.reports)
        return ended == done

    for done in range(ROUND_TASKS, tasks + 1, ROUND_TASKS):
        indexes = tuple(range(ROUND_TASKS))
        await manager.run("true", job_id=done // ROUND_TASKS, indexes=indexes, slots=2)
        await wait_for(all_ended, f"{done} tasks to end")
        # Of the fake, which keeps all that it was told.
        manager.heartbeats.clear()
        manager.batches.clear()
        uses.append(measure(worker))
    return uses


@pytest.mark.timeout(300 + TASKS / 50)
def test_nothing_grows_with_the_number_of_tasks_that_ran(tmp_path: Path) -> None:
    async def scene() -> None:
        manager = FakeManager(tmp_path)
        await manager.start()
        worker = WorkerProcess(tmp_path / "worker", manager.address, manager.access_file)
        output = worker.path / "output"
        try:
            worker.start(output_retain_files=RETAIN_FILES)
            await manager.wait_registrations(1)
            begin = time.monotonic()
            uses = await run_all(manager, worker, TASKS)
            seconds = time.monotonic() - begin
            ended = [report for report in manager.reports if is_end(report)]
            assert len({(r.key.job_id, r.key.index) for r in ended}) == len(ended) == TASKS
            # A job of which anything is kept has two folders.
            folders = 2 * (RETAIN_FILES // (2 * ROUND_TASKS) + 1)
            inodes = RETAIN_FILES + folders
            await wait_for(lambda: count_inodes(output) <= inodes, "the older output to go")
            assert count_inodes(output) >= RETAIN_FILES - 10
            # The newest is what is left.
            newest = await manager.read_output(key_of(ended[-1]))
            assert newest == []
            early, last = uses[len(uses) // 3], uses[-1]
            print(
                f"\n{TASKS} tasks, {TASKS / seconds:.0f}/s\nafter a third {early}\nat last {last}"
            )
            assert last.agent_bytes - early.agent_bytes < GROWTH_BYTES_MAX
            assert last.host_bytes - early.host_bytes < GROWTH_BYTES_MAX
            # What is open for a moment only, or has ended just now, is so no longer.
            await wait_for(
                lambda: measure(worker).agent_descriptors <= early.agent_descriptors + 2,
                "the agent to have no more files open",
            )
            await wait_for(
                lambda: measure(worker).host_descriptors <= early.host_descriptors,
                "the host to have no more files open",
            )
            await wait_for(lambda: measure(worker).host_children == 0, "all tasks to be reaped")
            assert (worker.path / "host.journal").stat().st_size < 4 << 20
        finally:
            worker.close()
            await manager.stop()

    asyncio.run(scene())


def key_of(report: worker_pb2.TaskReport) -> AttemptKey:
    wire = report.key
    return AttemptKey(wire.epoch, wire.job_id, wire.index, wire.attempt)
