"""What the agent does about output of ended tasks, on a real disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.worker.builders import key
from tests.worker.fake_manager import wait_for
from tests.worker.test_output_files import NOW, write
from titan.worker.output import files as output_files
from titan.worker.output import retention as output_retention
from titan.worker.output.retention import OutputRetention
from titan.worker.output.shelf import Entry, Limits, Name

DAY = 86_400


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is gathered for a second."""
    monkeypatch.setattr(output_retention, "GATHER_SECONDS", 0.001)
    monkeypatch.setattr(output_retention, "FAILED_SECONDS", 0.001)


class Keeper:
    """Holds what it is told to."""

    def __init__(self, *names: Name) -> None:
        self.names: set[Name] | None = set(names)
        self.questions = 0

    def held_names(self) -> set[Name] | None:
        self.questions += 1
        return self.names


def play(
    directory: Path,
    limits: Limits,
    keeper: Keeper,
    scene: Callable[[OutputRetention], Awaitable[None]],
) -> None:
    """Runs a scene beside a retention of that directory's output."""

    async def run() -> None:
        retention = OutputRetention(directory / "output", limits, keeper)
        running = asyncio.create_task(retention.run())
        try:
            await scene(retention)
        finally:
            assert not running.done(), running.exception()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    asyncio.run(run())


def jobs(directory: Path) -> list[str]:
    return sorted(os.listdir(directory / "output"))


def test_what_is_there_at_the_start_is_looked_through_and_the_oldest_goes(tmp_path: Path) -> None:
    for job_id in range(1, 6):
        write(tmp_path / "output", job_id, end_s=NOW - 100 * job_id)

    async def scene(retention: OutputRetention) -> None:
        await wait_for(lambda: jobs(tmp_path) == ["1", "2"], "the oldest to go")
        sentence = await wait_for(
            lambda: retention.find_sentence(key(4), (NOW - 400) * 1_000_000), "a note of it"
        )
        assert sentence.endswith(" by --output-retain-files")
        assert retention.find_sentence(key(2), (NOW - 200) * 1_000_000) == ""
        assert retention.find_sentence(key(4), 0) == ""

    play(tmp_path, Limits(0, 0, 4), Keeper(), scene)


def test_what_is_held_stays_however_old_it_is_until_it_has_ended(tmp_path: Path) -> None:
    for job_id in (1, 2):
        write(tmp_path / "output", job_id, end_s=NOW - 30 * DAY)
    keeper = Keeper((1, 0, 1))

    async def scene(retention: OutputRetention) -> None:
        await wait_for(lambda: jobs(tmp_path) == ["1"], "what is not held to go")
        assert keeper.names is not None
        keeper.names.clear()
        retention.ended(key(1), (NOW - 8 * DAY) * 1_000_000)
        await wait_for(lambda: not jobs(tmp_path), "it to go")

    play(tmp_path, Limits(7 * DAY, 0, 0), keeper, scene)


def test_nothing_goes_while_nobody_knows_what_is_held(tmp_path: Path) -> None:
    write(tmp_path / "output", 1, end_s=NOW - 30 * DAY)
    keeper = Keeper()
    keeper.names = None

    async def scene(retention: OutputRetention) -> None:
        write(tmp_path / "output", 2, end_s=NOW - 30 * DAY)
        retention.ended(key(2), (NOW - 30 * DAY) * 1_000_000)
        for _ in range(3):
            asked = keeper.questions
            retention.look_again()
            await wait_for(lambda asked=asked: keeper.questions > asked, "another turn")  # type: ignore[misc]
        assert jobs(tmp_path) == ["1", "2"]
        keeper.names = set()
        retention.look_again()
        await wait_for(lambda: not jobs(tmp_path), "both to go")

    play(tmp_path, Limits(7 * DAY, 0, 0), keeper, scene)


def test_each_that_ends_counts_and_pushes_the_oldest_out(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()

    async def scene(retention: OutputRetention) -> None:
        for job_id in range(1, 8):
            write(tmp_path / "output", job_id, end_s=NOW - 100 + job_id)
            retention.ended(key(job_id), (NOW - 100 + job_id) * 1_000_000)
            newest = [str(each) for each in range(max(1, job_id - 2), job_id + 1)]
            await wait_for(lambda newest=newest: jobs(tmp_path) == newest, "the oldest to go")  # type: ignore[misc]

    play(tmp_path, Limits(0, 3 * 4096, 0), Keeper(), scene)


def test_a_disk_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "output", 1, end_s=NOW - 30 * DAY)
    remove = output_files.remove

    def fail(directory: bytes, entries: list[Entry]) -> list[Entry]:
        monkeypatch.setattr(output_files, "remove", remove)
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(output_files, "remove", fail)

    async def scene(_: OutputRetention) -> None:
        await wait_for(lambda: not jobs(tmp_path), "it to go")

    play(tmp_path, Limits(7 * DAY, 0, 0), Keeper(), scene)
    assert "Read-only file system" in caplog.text
