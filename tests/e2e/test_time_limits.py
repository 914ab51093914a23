"""Time limits of real tasks, and how they are told by whichever part is there."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, is_alive, wait_until
from tests.e2e.tasks import Gate

# A task that says that it runs and does not listen to SIGTERM.
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose parts may be killed."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        yield cluster


def test_what_runs_into_its_limit_has_failed_with_timeout_and_run_exits_with_124(
    shared: Cluster,
) -> None:
    result = shared.titan("run", "--time-limit", "300ms", "sleep", "300")
    assert result.returncode == 124
    told = result.stderr.decode()
    assert "FAILED: TIMEOUT, ran into its time limit of 0.3s on w" in told
    view = shared.json("show", "last")
    assert (view["state"], view["reason"]) == ("FAILED", "TIMEOUT")
    assert (view["signal"], view["exit_code"]) == (signal.SIGTERM, None)
    assert view["detail"] == "ran into its time limit of 0.3s"
    assert view["time_limit_seconds"] == 0.3
    assert 0.3 <= view["end_time"] - view["start_time"] < 10
    assert shared.titan("wait", "last").returncode == 124
    submitted = shared.titan("submit", "--wait", "--time-limit", "200ms", "sleep", "300")
    assert submitted.returncode == 124
    listed = shared.ok("queue", "--all", "--limit", "2", "--me").decode()
    assert "TIMEOUT, ran into its time limit of 0.2s" in listed


def test_what_ends_within_its_limit_is_not_touched_by_it(shared: Cluster) -> None:
    result = shared.titan("run", "--time-limit", "1h", "--shell", "echo done; exit 3")
    assert (result.returncode, result.stdout) == (3, b"done\n")
    view = shared.json("show", "last")
    assert (view["reason"], view["time_limit_seconds"]) == ("EXIT", 3600)


def test_what_does_not_listen_is_killed_after_the_grace(shared: Cluster) -> None:
    # The task has so long to say what it ignores.
    limit = ("--time-limit", "4s", "--grace", "200ms")
    result = shared.titan("run", *limit, "--shell", DEAF)
    assert (result.returncode, result.stdout) == (124, b"up\n")
    view = shared.json("show", "last")
    assert (view["reason"], view["signal"]) == ("TIMEOUT", signal.SIGKILL)
    assert view["end_time"] - view["start_time"] >= 4.2


def test_an_orderly_exit_at_the_limit_is_a_timeout_too(shared: Cluster) -> None:
    line = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.02; done"
    result = shared.titan("run", "--time-limit", "4s", "--shell", line)
    assert (result.returncode, result.stdout) == (124, b"saved\n")
    view = shared.json("show", "last")
    assert (view["state"], view["reason"], view["exit_code"]) == ("FAILED", "TIMEOUT", 0)


def test_the_signal_before_the_end_arrives_before_it(shared: Cluster) -> None:
    line = (
        "trap 'echo soon' USR1; trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    )
    limit = ("--time-limit", "4300ms", "--signal-before-end", "USR1@300ms")
    result = shared.titan("run", *limit, "--shell", line)
    assert (result.returncode, result.stdout) == (124, b"up\nsoon\nend\n")
    assert "SIGUSR1 0.3s before" in shared.ok("show", "last").decode()


def test_a_limit_shorter_than_the_start_of_a_program_ends_each_task_of_an_array(
    shared: Cluster,
) -> None:
    limit = ("--time-limit", "1ms", "--array", "0-9")
    result = shared.titan("run", *limit, "sleep", "300")
    assert result.returncode == 124
    view = shared.json("show", "last")
    assert (view["tasks"]["failed"], view["reason"]) == (10, "TIMEOUT")
    assert {each["reason"] for each in view["attempts"]} == {"TIMEOUT"}
    assert shared.titan("wait", f"{view['job_id']}.3").returncode == 124


def test_a_task_that_is_cancelled_within_its_limit_stays_cancelled(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    job = shared.submit("--time-limit", "1h", "--shell", gate.line())
    gate.wait_runs(1)
    shared.ok("cancel", str(job))
    assert shared.titan("wait", str(job)).returncode == 130
    view = shared.json("show", str(job))
    assert (view["state"], view["reason"]) == ("CANCELLED", "CANCELLED")


def test_a_task_is_ended_in_time_while_its_agent_is_gone_and_told_truly_by_the_next(
    own: Cluster, tmp_path: Path
) -> None:
    agent = own.start_worker("w1", "--cpus", "2")
    gate = Gate(tmp_path)
    job = own.submit("--time-limit", "6s", "--grace", "100ms", "--shell", gate.line())
    ((pid, _),) = gate.wait_runs(1)
    with own.client() as client:
        wait_until(lambda: client.show(job)["state"] == "RUNNING", "its start is told")
    agent.kill()
    began = time.monotonic()
    wait_until(lambda: not is_alive(pid), "the task is ended")
    assert time.monotonic() - began < 13.5
    # There is nobody who could have told of it.
    assert own.json("show", str(job))["state"] == "RUNNING"
    own.start_worker("w1", "--cpus", "2")
    assert own.titan("wait", str(job)).returncode == 124
    view = own.json("show", str(job))
    assert (view["reason"], view["attempts_total"]) == ("TIMEOUT", 1)
    assert 6 <= view["end_time"] - view["start_time"] < 13.5
    assert len(gate.runs()) == 1


def test_a_task_is_ended_in_time_while_the_manager_is_gone_and_the_next_knows_its_limit(
    own: Cluster, tmp_path: Path
) -> None:
    own.start_worker("w1", "--cpus", "1")
    gate = Gate(tmp_path)
    limit = ("--time-limit", "4s", "--grace", "100ms")
    first, second = (own.submit(*limit, "--shell", gate.line()) for _ in range(2))
    ((pid, _),) = gate.wait_runs(1)
    own.kill_manager()
    wait_until(lambda: not is_alive(pid), "the task is ended")
    own.start_manager()
    assert own.titan("wait", str(first), str(second)).returncode == 124
    for job in (first, second):
        view = own.json("show", str(job))
        assert (view["reason"], view["attempts_total"]) == ("TIMEOUT", 1)
    assert own.json("stats")["tasks"]["failed"] == 2


def test_a_limit_that_makes_no_sense_is_a_usage_error(shared: Cluster) -> None:
    for given, why in (
        (("--time-limit", "90"), b"add a unit"),
        (("--signal-before-end", "USR1@5s"), b"needs a time limit"),
    ):
        result = shared.titan("run", *given, "true")
        assert result.returncode == 2
        assert why in result.stderr


def test_the_python_client_asks_for_the_same(shared: Cluster) -> None:
    with shared.client() as client:
        job = client.submit(["sleep", "300"], time_limit=0.2, grace="1s")
        view = job.wait(60)
    assert (view["state"], view["reason"], view["time_limit_seconds"]) == (
        "FAILED",
        "TIMEOUT",
        0.2,
    )
