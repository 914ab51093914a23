"""`titan run`: a job that behaves like a command."""

import os
import re
import signal
import subprocess
from collections.abc import Callable

import grpc
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from titan.rpc.v1 import types_pb2

Spawn = Callable[..., Process]


def test_output_passes_unchanged_and_the_exit_code_is_the_jobs(
    manager: FakeManager, spawn: Spawn
) -> None:
    def finish(job: object) -> None:
        manager.run(manager.jobs[1])
        manager.write(manager.jobs[1], b"out\xff\x00 no newline")
        manager.write(manager.jobs[1], b"err\n", err=True)
        manager.end(manager.jobs[1], exit_code=7)

    manager.on_submit = finish
    process = spawn("run", "prog")
    out, err = process.process.communicate(timeout=DEADLINE_SECONDS)
    assert process.process.returncode == 7
    assert out == b"out\xff\x00 no newline"
    assert err == b"err\njob 1 FAILED: exit code 7 on w1 after 0.4 s\n"


@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [
        ({}, 0, "job 1 COMPLETED on w1 after 0.4 s"),
        ({"signal": 9}, 137, "job 1 FAILED: signal 9 (SIGKILL) on w1 after 0.4 s"),
        (
            {
                "state": types_pb2.FAILED,
                "reason": types_pb2.REASON_LAUNCH_ERROR,
                "detail": "no directory /x on w1; use --cwd",
            },
            127,
            "job 1 FAILED: no directory /x on w1; use --cwd after 0.4 s",
        ),
        (
            {
                "signal": 15,
                "reason": types_pb2.REASON_TIMEOUT,
                "detail": "ran into its time limit of 0.4s",
            },
            124,
            "job 1 FAILED: TIMEOUT, ran into its time limit of 0.4s on w1 after 0.4 s",
        ),
        (
            {
                "state": types_pb2.FAILED,
                "reason": types_pb2.REASON_OOM,
                "detail": "over its 1G",
            },
            137,
            "job 1 FAILED: OOM, over its 1G on w1 after 0.4 s",
        ),
        (
            {
                "state": types_pb2.FAILED,
                "reason": types_pb2.REASON_OUTPUT_LIMIT,
                "detail": "over 1G",
            },
            1,
            "job 1 FAILED: OUTPUT_LIMIT, over 1G on w1 after 0.4 s",
        ),
        (
            {"state": types_pb2.FAILED, "reason": types_pb2.REASON_WORKER_LOST},
            1,
            "job 1 FAILED: worker lost on w1 after 0.4 s",
        ),
        (
            {"state": types_pb2.CANCELLED, "reason": types_pb2.REASON_CANCELLED},
            130,
            "job 1 CANCELLED on w1 after 0.4 s",
        ),
    ],
    ids=[
        "completed",
        "killed",
        "not launched",
        "timed out",
        "out of memory",
        "wrote too much",
        "lost",
        "cancelled",
    ],
)
def test_every_end_has_its_exit_code_and_its_sentence(
    manager: FakeManager, titan: Titan, end: dict[str, int], code: int, sentence: str
) -> None:
    def finish(job: object) -> None:
        manager.run(manager.jobs[1])
        manager.end(manager.jobs[1], **end)  # type: ignore[arg-type]

    manager.on_submit = finish
    assert titan("run", "prog") == (code, "", f"{sentence}\n")


def test_ctrl_c_cancels_the_job_and_says_so(manager: FakeManager, spawn: Spawn) -> None:
    process = spawn("run", "prog")
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    manager.run(manager.jobs[1])
    manager.write(manager.jobs[1], b"begun\n")
    assert process.read_line() == "begun\n"
    process.interrupt(signal.SIGINT)
    assert process.read_error_line() == "titan: cancelling job 1; Ctrl-C again leaves at once\n"
    manager.wait(lambda: manager.called("CancelJob"), "a cancel")
    manager.write(manager.jobs[1], b"cleaned up\n")
    manager.end(manager.jobs[1], state=types_pb2.CANCELLED)
    result = process.end()
    assert result == (130, "cleaned up\n", "job 1 CANCELLED on w1 after 0.4 s\n")


def test_ctrl_c_twice_leaves_at_once(manager: FakeManager, spawn: Spawn) -> None:
    process = spawn("run", "prog")
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    # One that waits would be cancelled, and told to be, before the second Ctrl-C.
    manager.run(manager.jobs[1])
    process.interrupt(signal.SIGINT)
    process.read_error_line()
    process.interrupt(signal.SIGINT)
    result = process.end()
    assert (result.code, result.err) == (130, "")


def test_a_restart_of_the_manager_is_waited_out_and_told_once(
    manager: FakeManager, spawn: Spawn
) -> None:
    process = spawn("run", "prog")
    manager.wait(lambda: manager.called("StreamOutput"), "a stream")
    manager.run(manager.jobs[1])
    manager.write(manager.jobs[1], b"one ")
    manager.write(manager.jobs[1], b"two\n")
    assert process.read_line() == "one two\n"
    manager.stop()
    assert "lost the manager" in process.read_error_line()
    manager.start()
    manager.write(manager.jobs[1], b"three\n")
    manager.end(manager.jobs[1])
    assert process.end() == (0, "three\n", "job 1 COMPLETED on w1 after 0.4 s\n")


def test_a_closed_pipe_ends_quietly_and_cancels_the_job(manager: FakeManager, spawn: Spawn) -> None:
    process = spawn("run", "yes")
    assert process.process.stdout is not None
    process.process.stdout.close()
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    manager.run(manager.jobs[1])
    manager.write(manager.jobs[1], b"y\n")
    manager.wait(lambda: manager.called("CancelJob"), "a cancel")
    assert process.process.wait(DEADLINE_SECONDS) == 141
    assert process.process.stderr is not None
    assert process.process.stderr.read() == b""


def test_arrays_have_whole_lines_that_say_whose_they_are(
    manager: FakeManager, spawn: Spawn
) -> None:
    def finish(job: object) -> None:
        job_ = manager.jobs[1]
        for index in range(3):
            manager.run(job_, index)
        for part in (b"be", b"gin\nen", b"d"):
            for index in range(3):
                manager.write(job_, part, index)
        for index in range(3):
            manager.end(job_, index, exit_code=2 * (index == 1))

    manager.on_submit = finish
    result = spawn("run", "--array", "0-2", "prog").end()
    assert result.code == 2
    assert result.err == "job 1 FAILED: 1 of 3 tasks failed after 0.4 s\n"
    lines = result.out.splitlines()
    assert sorted(lines) == sorted(
        f"1.{index}| {word}" for index in range(3) for word in ("begin", "end")
    )


def test_a_job_goes_on_while_its_worker_is_away(manager: FakeManager, spawn: Spawn) -> None:
    manager.fail("StreamOutput", grpc.StatusCode.FAILED_PRECONDITION, "w1 is away", count=999)
    process = spawn("run", "prog")
    assert process.read_error_line() == "titan: w1 is away\n"
    manager.heal("StreamOutput")
    manager.run(manager.jobs[1])
    manager.write(manager.jobs[1], b"back\n")
    manager.end(manager.jobs[1])
    result = process.end()
    assert (result.code, result.out) == (0, "back\n")


@pytest.mark.parametrize("status", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND])
def test_titans_own_failure_is_125(
    manager: FakeManager, titan: Titan, status: grpc.StatusCode
) -> None:
    manager.fail("SubmitJob", status, "no")
    assert titan("run", "prog").code == 125


def test_a_refused_connection_is_125_too_and_a_usage_error_is_2(titan: Titan) -> None:
    assert titan("--manager", "127.0.0.1:1", "run", "prog").code == 125
    assert titan("run").code == 2


def test_an_array_on_a_terminal_has_a_progress_bar_on_stderr(
    manager: FakeManager, spawn: Spawn
) -> None:
    def finish(job: object) -> None:
        for index in range(2):
            manager.run(manager.jobs[1], index)
            manager.end(manager.jobs[1], index)

    manager.on_submit = finish
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = spawn("run", "--array", "0-1", "prog", stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            # The other side is gone.
            break
        seen += part
    os.close(ours)
    assert process.process.wait(DEADLINE_SECONDS) == 0
    text = seen.decode()
    assert re.search(r"job 1 .*2/2", text)
    assert "job 1 COMPLETED" in text
    # The cursor is given back.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_no_progress_is_shown_where_it_is_no_terminal(manager: FakeManager, spawn: Spawn) -> None:
    process = spawn("run", "--array", "0-1", "prog", stderr=subprocess.STDOUT)
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    for index in range(2):
        manager.run(manager.jobs[1], index)
        manager.end(manager.jobs[1], index)
    result = process.end()
    assert result.out == "job 1 COMPLETED after 0.4 s\n"
