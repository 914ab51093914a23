"""What becomes of output that is more than its worker keeps, as users see it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from titan import Client

CAP = 64 << 10
# What a task writes, 8 bytes a line.
WRITE = "import sys; sys.stdout.write(''.join('%07d\\n' % n for n in range(100_000)))"
LENGTH = 800_000
LEFT_OUT_BYTES = LENGTH - CAP // 4 - (CAP // 4 + LENGTH % 4096)
TOLD = "M in the middle of its stdout were left out (over the worker's --output-max)\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose worker keeps little."""
    with Cluster(tmp_path_factory.mktemp("small") / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--output-max", "64K")
        yield cluster


@pytest.fixture(scope="module")
def job(small: Cluster) -> str:
    """One that has written much."""
    number = small.submit("python3", "-c", WRITE)
    small.ok("wait", str(number))
    return str(number)


def test_logs_have_both_ends_and_one_sentence_about_the_middle(small: Cluster, job: str) -> None:
    result = small.titan("logs", job)
    assert result.returncode == 0
    assert len(result.stdout) == LENGTH - LEFT_OUT_BYTES
    assert result.stdout.startswith(b"0000000\n0000001\n")
    assert result.stdout.endswith(b"0099999\n")
    size = f"{LEFT_OUT_BYTES / 1024:.3f}".rstrip("0").rstrip(".")
    assert result.stderr.decode() == "titan: " + TOLD.replace("M", f"{size}K", 1)
    run = small.titan("run", "python3", "-c", WRITE)
    assert run.returncode == 0
    assert run.stdout.endswith(b"0099999\n")


def test_the_last_lines_say_nothing_of_it_unless_they_reach_it(small: Cluster, job: str) -> None:
    result = small.titan("logs", "--tail", "2", job)
    assert (result.stdout, result.stderr) == (b"0099998\n0099999\n", b"")
    result = small.titan("logs", "--tail", "90000", job)
    assert result.stdout.endswith(b"0099999\n")
    assert len(result.stdout) <= CAP // 4 + 4096
    assert b"were left out" in result.stderr


def test_of_an_array_lines_stay_lines_and_the_task_is_named(small: Cluster) -> None:
    number = small.submit("--array", "0-1", "python3", "-c", "print('x' * 90_000); print('end')")
    small.ok("wait", str(number))
    result = small.titan("logs", str(number))
    lines = result.stdout.decode().splitlines()
    assert [line.rstrip("x") for line in lines] == [
        f"{number}.{index}| {end}" for index in (0, 1) for end in ("", "", "end")
    ]
    told = result.stderr.decode().splitlines()
    assert [line.split(": ")[:2] for line in told] == [
        ["titan", f"{number}.0"],
        ["titan", f"{number}.1"],
    ]


def test_python_is_told_of_it_by_a_chunk_and_leaves_it_out_of_the_whole(
    small: Cluster, job: str
) -> None:
    access_file = small.manager_directory / "access.json"
    with Client(small.address, access_file=access_file) as client:
        chunks = list(client.stream_output(int(job), follow=False))
        (hole,) = [chunk for chunk in chunks if chunk.hole_bytes]
        assert (hole.offset, hole.hole_bytes, hole.data) == (CAP // 4, LEFT_OUT_BYTES, b"")
        whole = client.job(int(job)).output()
        assert whole == b"".join(chunk.data for chunk in chunks)
        assert len(whole) == LENGTH - LEFT_OUT_BYTES


def test_show_ends_with_the_last_lines_of_a_long_stderr(small: Cluster) -> None:
    failing = WRITE.replace("stdout", "stderr") + "; sys.exit(3)"
    number = small.submit("python3", "-c", failing)
    assert small.titan("wait", str(number)).returncode == 3
    shown = small.ok("show", str(number)).decode()
    assert shown.splitlines()[-1] == "  0099999"
    assert "0000000" not in shown


def test_output_that_was_removed_is_told_as_such_and_that_of_what_runs_stays(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "cluster") as own:
        own.start_manager()
        worker = own.start_worker("w1", "--output-retain", "1s")
        output = worker.directory / "output"
        running = own.submit("--shell", "echo quiet; sleep 300")
        failed = own.submit("--shell", "echo gone >&2; exit 3")
        array = own.submit("--array", "0-2", "echo", "gone")
        named = own.submit("--stdout", str(tmp_path / "named"), "echo", "mine")
        own.titan("wait", str(failed), str(array), str(named))
        kept = output / str(running) / "0" / "0.1.out"
        wait_until(lambda: kept.exists() and kept.read_bytes() == b"quiet\n", "it writes")
        wait_until(lambda: os.listdir(output) == [str(running)], "the rest to go")
        when = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}"
        why = rf"it was removed on {when} by --output-retain"

        def is_noted(job_id: int) -> bool:
            return b"it was removed" in own.titan("logs", str(job_id)).stderr

        # It is, in a moment, when the files are gone: of what ended later than of others.
        for each in (failed, array, named):
            wait_until(partial(is_noted, each), "that is noted")
        told = own.titan("logs", str(failed)).stderr.decode()
        assert re.fullmatch(rf"titan: w1 has no output of {failed}: {why}\n", told), told
        told = own.titan("logs", str(array)).stderr.decode()
        sentence = rf"titan: w1 has no output of {array}\.0: {why} \(as of 2 more tasks\)\n"
        assert re.fullmatch(sentence, told), told
        told = own.titan("logs", str(named)).stderr.decode()
        mine = tmp_path / "named"
        assert re.search(rf"{why}; what it wrote to {mine} was not touched\n", told), told
        assert mine.read_text() == "mine\n"
        shown = own.ok("show", str(failed)).decode()
        assert re.search(why, shown), shown
        assert own.ok("logs", str(running)) == b"quiet\n"
        # It is known to the next agent, too.
        worker.end()
        own.start_worker("w1", "--output-retain", "1s")
        assert re.search(why, own.titan("logs", str(failed)).stderr.decode())
        assert own.ok("logs", str(running)) == b"quiet\n"
        own.ok("cancel", "--grace", "0", str(running))
