"""`titan logs`."""

import signal
from collections.abc import Callable

import grpc
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager, array_of
from titan.rpc.v1 import manager_pb2

Spawn = Callable[..., Process]


@pytest.fixture
def written(manager: FakeManager) -> manager_pb2.Job:
    """A running job that wrote to both streams."""
    job = manager.add_job()
    manager.run(job)
    manager.write(job, b"out\n")
    manager.write(job, b"err\n", err=True)
    return job


def test_each_stream_goes_where_the_job_sent_it(written: manager_pb2.Job, titan: Titan) -> None:
    assert titan("logs", "1") == (0, "out\n", "err\n")


def test_one_stream_can_be_chosen(written: manager_pb2.Job, titan: Titan) -> None:
    assert titan("logs", "--stdout", "1") == (0, "out\n", "")
    assert titan("logs", "--stderr", "1") == (0, "", "err\n")
    assert titan("logs", "--stderr", "--stdout", "1") == (0, "out\n", "err\n")


def test_tail_and_attempt_are_asked_for(
    written: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    titan("logs", "--tail", "5", "--attempt", "3", "1")
    request = manager.called("StreamOutput")[0]
    assert (request.tail_lines, request.attempt, request.follow) == (5, 3, False)


def test_an_array_is_printed_task_by_task_in_prefixed_lines(
    manager: FakeManager, titan: Titan
) -> None:
    job = manager.add_job(array=array_of((0, 5)))
    for index in (4, 0, 2):
        manager.run(job, index)
        manager.write(job, b"a\nb", index)
    assert titan("logs", "1").out.splitlines() == [
        *("1.0| a", "1.0| b", "1.2| a", "1.2| b", "1.4| a", "1.4| b")
    ]
    assert titan("logs", "1.2-4").out.splitlines() == ["1.2| a", "1.2| b", "1.4| a", "1.4| b"]
    # One task alone passes unchanged.
    assert titan("logs", "1.2").out == "a\nb"


def test_following_goes_on_until_the_job_has_ended_over_a_restart(
    written: manager_pb2.Job, manager: FakeManager, spawn: Spawn
) -> None:
    process = spawn("logs", "-f", "--stdout", "1")
    assert process.read_line() == "out\n"
    manager.stop()
    assert "lost the manager" in process.read_error_line()
    manager.start()
    manager.write(written, b"more\n")
    assert process.read_line() == "more\n"
    manager.end(written, exit_code=3)
    assert process.end() == (0, "", "")


def test_following_an_array_merges_its_tasks(manager: FakeManager, spawn: Spawn) -> None:
    job = manager.add_job(array=array_of((0, 2)))
    process = spawn("logs", "-f", "1")
    manager.run(job, 1)
    manager.write(job, b"one\n", 1)
    assert process.read_line() == "1.1| one\n"
    manager.run(job, 0)
    manager.write(job, b"zero\n", 0)
    assert process.read_line() == "1.0| zero\n"
    manager.end(job, 0)
    manager.end(job, 1)
    assert process.end().code == 0


def test_ctrl_c_ends_following_quietly(
    written: manager_pb2.Job, manager: FakeManager, spawn: Spawn
) -> None:
    process = spawn("logs", "-f", "1")
    assert process.read_line() == "out\n"
    assert process.read_error_line() == "err\n"
    process.interrupt(signal.SIGINT)
    assert process.end() == (130, "", "")


def test_a_closed_pipe_ends_quietly(
    written: manager_pb2.Job, manager: FakeManager, spawn: Spawn
) -> None:
    process = spawn("logs", "-f", "--stdout", "1")
    assert process.read_line() == "out\n"
    assert process.process.stdout is not None
    process.process.stdout.close()
    manager.write(written, b"more\n")
    assert process.process.wait(DEADLINE_SECONDS) == 141
    assert process.process.stderr is not None
    assert process.process.stderr.read() == b""


def test_a_job_that_never_started_has_a_sentence_and_no_output(
    manager: FakeManager, titan: Titan
) -> None:
    manager.add_job()
    manager.fail("StreamOutput", grpc.StatusCode.NOT_FOUND, "job 1 has not started")
    assert titan("logs", "1") == (0, "", "titan: job 1 has not started\n")


def test_a_worker_that_is_away_is_a_failure_with_its_sentence(
    written: manager_pb2.Job, manager: FakeManager, titan: Titan
) -> None:
    manager.fail("StreamOutput", grpc.StatusCode.FAILED_PRECONDITION, "w1 is DISCONNECTED")
    assert titan("logs", "1") == (1, "", "titan: w1 is DISCONNECTED\n")
    manager.fail("StreamOutput", grpc.StatusCode.UNAVAILABLE, "w1 does not answer", count=2)
    assert titan("logs", "1") == (1, "", "titan: w1 does not answer\n")


def test_no_such_job_is_4(manager: FakeManager, titan: Titan) -> None:
    assert titan("logs", "9").code == 4
