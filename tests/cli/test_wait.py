"""`titan wait`."""

import json
import signal
from collections.abc import Callable

import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import FakeManager, array_of

Spawn = Callable[..., Process]


def test_several_jobs_exit_as_the_first_that_is_not_0(manager: FakeManager, titan: Titan) -> None:
    for exit_code in (0, 3, 4):
        job = manager.add_job()
        manager.run(job)
        manager.end(job, exit_code=exit_code)
    result = titan("wait", "1", "2", "3")
    assert result.code == 3
    assert result.out.splitlines() == [
        "job 1 COMPLETED on w1 after 0.4 s",
        "job 2 FAILED: exit code 3 on w1 after 0.4 s",
        "job 3 FAILED: exit code 4 on w1 after 0.4 s",
    ]
    assert titan("wait", "3", "2").code == 4
    assert titan("wait", "1").code == 0
    assert json.loads(titan("wait", "3", "1", "--json").out) == [
        {"job_id": 3, "state": "FAILED", "exit_code": 4},
        {"job_id": 1, "state": "COMPLETED", "exit_code": 0},
    ]


def test_a_wait_ends_when_the_job_does_over_a_restart(manager: FakeManager, spawn: Spawn) -> None:
    job = manager.add_job()
    process = spawn("wait", "1")
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    manager.stop()
    assert "lost the manager" in process.read_error_line()
    manager.start()
    manager.run(job)
    manager.end(job, exit_code=9)
    assert process.end() == (9, "job 1 FAILED: exit code 9 on w1 after 0.4 s\n", "")


def test_tasks_of_an_array_can_be_waited_for(manager: FakeManager, spawn: Spawn) -> None:
    job = manager.add_job(array=array_of((0, 10)))
    manager.run(job, 1)
    manager.run(job, 2)
    process = spawn("wait", "1.1-2", "1.1")
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    manager.end(job, 1, exit_code=5)
    assert process.read_line() == "job 1.1 FAILED: exit code 5 on w1 after 0.4 s\n"
    manager.end(job, 2)
    assert process.read_line() == "job 1.1-2 FAILED: 1 of 2 tasks failed on w1 after 0.4 s\n"
    assert process.end().code == 5


def test_a_timeout_is_titans_own_failure_and_names_what_has_not_ended(
    manager: FakeManager, titan: Titan
) -> None:
    manager.add_job()
    result = titan("wait", "1", "--timeout", "50ms")
    assert result == (125, "", "titan: not ended after 0.05s: 1\n")


@pytest.mark.parametrize(("job", "code"), [("9", 125), ("x", 2)])
def test_no_such_job_is_titans_own_failure_and_no_job_at_all_a_usage_error(
    manager: FakeManager, titan: Titan, job: str, code: int
) -> None:
    assert titan("wait", job).code == code
    assert titan("wait").code == 2


def test_ctrl_c_ends_a_wait_quietly(manager: FakeManager, spawn: Spawn) -> None:
    manager.add_job()
    process = spawn("wait", "1")
    manager.wait(lambda: manager.called("WatchJobs"), "a watch")
    process.interrupt(signal.SIGINT)
    assert process.end() == (130, "", "")


def test_too_many_tasks_by_index_are_refused(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(array=array_of((0, 100_000)))
    result = titan("wait", "1.0-99999")
    assert result.code == 125
    assert "wait for the whole job: 1" in result.err
