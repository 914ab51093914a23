"""The keeper in a loop: snapshots by a real process, tidying in a thread, a stop at any time."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.manager.harness import until
from tests.manager.logs import LogWriter
from titan.manager import keeper as keeper_module
from titan.manager.journal import FileJournal
from titan.manager.keeper import Keeper, SnapshotPolicy
from titan.manager.recovery import Recovered, recover
from titan.manager.retention import Limits, Plan
from wal import find_snapshots


def written(directory: Path) -> Recovered:
    """A log with something in it, taken up."""
    writer = LogWriter(directory, segment_bytes=4096)
    for _ in range(5):
        writer.turn()
    writer.close()
    return recover(directory, segment_bytes=4096)


def new_keeper(directory: Path, found: Recovered, bytes_since: int = 1) -> Keeper:
    keeper = Keeper(
        directory,
        FileJournal(directory / "wal", found.log),
        policy=SnapshotPolicy(bytes_since=bytes_since),
        limits=Limits(),
        now_us=lambda: found.state.time_us,
        on_failure=_fail,
        left_free_bytes=0,
        log_level="error",
    )
    keeper.note_start(found)
    return keeper


def _fail(error: BaseException) -> None:
    raise AssertionError(error)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_what_a_long_start_replayed_is_in_a_snapshot_soon(tmp_path: Path) -> None:
    found = written(tmp_path)

    async def run() -> None:
        task = asyncio.create_task(new_keeper(tmp_path, found).run())
        await until(lambda: find_snapshots(tmp_path / "snapshots"))
        await stop(task)

    asyncio.run(run())
    found.log.close()
    again = recover(tmp_path, segment_bytes=4096)
    assert again.snapshot_lsn == found.state.lsn
    assert again.records == 0
    again.log.close()


def test_a_stop_ends_a_snapshotter_that_is_at_work(tmp_path: Path) -> None:
    found = written(tmp_path)
    # It waits there for somebody who writes, and is at work however late it is looked for.
    first = min((tmp_path / "wal").glob("*.wal"))
    first.unlink()
    os.mkfifo(first)

    def children() -> list[int]:
        found = []
        for each in psutil.Process().children():
            # It may end while it is looked at.
            with suppress(psutil.Error):
                if "titan.lookback.snapshotter" in each.cmdline():
                    found.append(each.pid)
        return found

    async def run() -> None:
        task = asyncio.create_task(new_keeper(tmp_path, found).run())
        await until(children)
        await stop(task)
        assert not children()

    asyncio.run(run())
    found.log.close()


def test_a_stop_waits_for_the_step_of_tidying_that_is_under_way_and_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on after the lock was given up, and the manager waited for it to end."""
    found = written(tmp_path)
    keeper = new_keeper(tmp_path, found, bytes_since=1 << 30)
    begun, steps = threading.Event(), []

    def tidy(**_: int) -> Plan:
        begun.set()
        keeper.retention._is_stopped.wait(20)
        steps.append("ended")
        return Plan([], [], 0)

    monkeypatch.setattr(keeper.retention, "tidy", tidy)

    async def run() -> None:
        task = asyncio.create_task(keeper.run())
        await until(begun.is_set)
        await stop(task)
        assert steps == ["ended"]

    asyncio.run(run())
    found.log.close()


def test_a_mistake_in_tidying_is_logged_and_not_the_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = written(tmp_path)
    keeper = new_keeper(tmp_path, found, bytes_since=1 << 30)
    monkeypatch.setattr(keeper_module, "TIDY_SECONDS", 0.0)
    calls: list[int] = []

    def tidy(**_: int) -> Plan:
        calls.append(1)
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(keeper.retention, "tidy", tidy)

    async def run() -> None:
        task = asyncio.create_task(keeper.run())
        await until(lambda: len(calls) > 1)
        assert not task.done()
        await stop(task)

    asyncio.run(run())
    found.log.close()
    assert "a mistake" in caplog.text
