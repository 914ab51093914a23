"""The parts of `make chaos`: its script of faults, its bad network, its tasks, its processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster import wait_until
from tools.chaos.evidence import read_executions
from tools.chaos.faults import DISK_KINDS, Fault, draw_faults
from tools.chaos.processes import MARK, TASK_PROGRAM, find_processes
from tools.chaos.proxy import FREEZE, SWALLOW, WELL, Condition, Link

WORKERS = ["w1", "w2", "w3"]


def draw(seed: int, seconds: float = 120, *, has_disk: bool = True) -> list[Fault]:
    return draw_faults(seed, seconds=seconds, workers=WORKERS, timeout_seconds=6, has_disk=has_disk)


def test_a_seed_draws_the_same_faults_again_and_another_seed_others() -> None:
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_faults_on_one_target_follow_each_other_and_end_in_time() -> None:
    for seed in range(20):
        ends: dict[str, float] = {}
        for fault in draw(seed):
            assert fault.at_seconds >= ends.get(fault.target, 0)
            ends[fault.target] = fault.at_seconds + fault.seconds
        assert max(ends.values()) <= 120.001


def test_a_run_of_two_minutes_sees_every_kind_and_the_disk_only_where_there_is_one() -> None:
    kinds = {fault.kind for seed in range(5) for fault in draw(seed)}
    assert len(kinds) == 21
    assert not {fault.kind for fault in draw(1, has_disk=False)} & set(DISK_KINDS)


class Far:
    """A server behind a link, which answers each line with itself in capitals."""

    def __init__(self, link: Link, port: int, received: list[bytes]) -> None:
        self.link = link
        self.port = port
        self.received = received
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for each in self._writers:
            each.close()
            with suppress(OSError):
                await each.wait_closed()


@asynccontextmanager
async def far_behind_a_link() -> AsyncIterator[Far]:
    received: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while line := await reader.readline():
                received.append(line)
                writer.write(line.upper())
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = Link("link", server.sockets[0].getsockname()[1])
    far = Far(link, await link.listen(0), received)
    try:
        yield far
    finally:
        await far.close()
        await link.close()
        await asyncio.gather(*tasks)
        server.close()


def run_on_a_link(story: Callable[[Far], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with asyncio.timeout(60), far_behind_a_link() as far:
            await story(far)

    asyncio.run(tell())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it waits for what another task does
        await asyncio.sleep(0.01)


def test_a_link_that_is_well_passes_everything_both_ways() -> None:
    async def story(far: Far) -> None:
        reader, writer = await far.connect()
        writer.write(b"one\ntwo\n")
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"

    run_on_a_link(story)


@pytest.mark.parametrize(
    "condition",
    [
        Condition(delay_seconds=0.01, jitter_seconds=0.02),
        Condition(bytes_per_second=1_000),
    ],
)
def test_a_slow_link_passes_everything_in_the_end(condition: Condition) -> None:
    async def story(far: Far) -> None:
        far.link.set(condition)
        reader, writer = await far.connect()
        writer.write(b"one\n")
        assert await reader.readline() == b"ONE\n"

    run_on_a_link(story)


def test_what_a_frozen_link_holds_goes_on_when_it_thaws() -> None:
    async def story(far: Far) -> None:
        reader, writer = await far.connect()
        writer.write(b"one\n")
        assert await reader.readline() == b"ONE\n"
        far.link.set(Condition(back=FREEZE))
        writer.write(b"two\n")
        # One way only: it arrives, and the answer does not.
        await until(lambda: far.received == [b"one\n", b"two\n"])
        answer = asyncio.create_task(reader.readline())
        far.link.set(Condition(forth=FREEZE, back=FREEZE))
        writer.write(b"three\n")
        assert not answer.done()
        far.link.set(WELL)
        assert await answer == b"TWO\n"
        assert await reader.readline() == b"THREE\n"

    run_on_a_link(story)


def test_a_connection_that_lost_bytes_breaks_when_the_link_is_well_again() -> None:
    async def story(far: Far) -> None:
        reader, writer = await far.connect()
        quiet_reader, quiet_writer = await far.connect()
        for each, answers in ((writer, reader), (quiet_writer, quiet_reader)):
            each.write(b"one\n")
            assert await answers.readline() == b"ONE\n"
        far.link.set(Condition(back=SWALLOW))
        writer.write(b"two\n")
        await until(lambda: far.received[2:] == [b"two\n"])
        # The answer is on its way to nowhere; nothing shows when it got there.
        await until(lambda: any(each.is_torn for each in far.link._connections))
        far.link.set(WELL)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        quiet_writer.write(b"three\n")
        assert await quiet_reader.readline() == b"THREE\n"

    run_on_a_link(story)


def test_a_link_that_refuses_breaks_what_there_is_and_what_comes() -> None:
    async def story(far: Far) -> None:
        reader, writer = await far.connect()
        writer.write(b"one\n")
        assert await reader.readline() == b"ONE\n"
        far.link.set(Condition(refuses=True))
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        late_reader, _ = await far.connect()
        with suppress(ConnectionResetError):
            assert await late_reader.read() == b""
        far.link.set(WELL)
        again_reader, again_writer = await far.connect()
        again_writer.write(b"two\n")
        assert await again_reader.readline() == b"TWO\n"

    run_on_a_link(story)


def run_task(folder: Path, kind: str, attempt: str) -> int:
    environment = {
        "PATH": os.environ["PATH"],
        "TITAN_JOB_ID": "7",
        "TITAN_TASK_INDEX": "2",
        "TITAN_ATTEMPT": attempt,
        "TITAN_WORKER": "w1",
    }
    command = ["/bin/sh", str(TASK_PROGRAM), str(folder), kind, "1", "0.01"]
    return subprocess.run(command, env=environment, check=False).returncode


@pytest.mark.parametrize(
    ("kind", "attempt", "code"),
    [("short", "1", 0), ("fails", "2", 3), ("flaky", "1", 3), ("flaky", "2", 0)],
)
def test_a_task_writes_down_that_it_ran(tmp_path: Path, kind: str, attempt: str, code: int) -> None:
    assert run_task(tmp_path, kind, attempt) == code
    (run,) = read_executions([tmp_path / "w1"])
    assert run.key == (7, 2, int(attempt))
    assert (run.worker, run.exit_code) == ("w1", code)
    assert run.last > run.start
    assert len((tmp_path / "w1").read_text().splitlines()) == 3


def test_a_process_of_a_run_is_found_by_its_mark(tmp_path: Path) -> None:
    assert find_processes(tmp_path) == []
    mark = {MARK: str(tmp_path), "TITAN_ATTEMPT": "1"}
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, env={**os.environ, **mark}, stdin=subprocess.PIPE) as process:
        (found,) = wait_until(lambda: find_processes(tmp_path), "the process is found")
        assert found.pid == process.pid
        assert found.is_task
        process.communicate()
    assert find_processes(tmp_path) == []
