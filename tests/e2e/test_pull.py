"""Workers that cannot be called: they fetch their tasks, and send what they are asked for."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate

# Both ways of being one: the first says so, of the second the manager finds it out.
WAYS = [["--no-listen"], ["--advertise", "127.0.0.1:1"]]


@pytest.fixture(params=WAYS, ids=["told", "found out"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A manager and a worker that it can't call."""
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        start(cluster, request.param)
        yield cluster


def start(cluster: Cluster, options: list[str]) -> None:
    """Starts the worker, and waits until both sides know how it is."""
    worker = cluster.start_worker("w1", "--cpus", "4", *options)
    wait_until(lambda: cluster.json("workers")[-1]["address"] is None)
    if "--advertise" in options:
        assert cluster.manager is not None
        cluster.manager.wait_log("a worker cannot be called and is told to fetch its tasks")
        worker.wait_log("it fetches its tasks from the manager")
    assert b" pull" in cluster.ok("workers")


def test_tasks_run_and_their_output_is_read(own: Cluster) -> None:
    assert own.ok("run", "--array", "0-9", "--shell", "echo $TITAN_TASK_INDEX >&2; echo out").count(
        b"out\n"
    )
    result = own.titan("run", "--shell", "echo a; echo b >&2; exit 3")
    assert (result.returncode, result.stdout) == (3, b"a\n")
    assert result.stderr.startswith(b"b\n")
    assert own.ok("logs", "--stdout", "last") == b"a\n"
    assert own.ok("logs", "--tail", "1", "1.4") == b"out\n"


def test_output_is_followed_as_it_is_written_and_a_reader_may_leave(
    own: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    job = own.submit("--shell", f"echo one; {gate.line('echo two')}")
    follower = own.popen("logs", "-f", str(job))
    leaver = own.popen("logs", "-f", str(job))
    for each in (follower, leaver):
        assert each.stdout is not None
        assert each.stdout.readline() == b"one\n"
    leaver.send_signal(signal.SIGINT)
    leaver.communicate(timeout=60)
    assert leaver.returncode == 130
    gate.open()
    out, _ = follower.communicate(timeout=60)
    assert (follower.returncode, out) == (0, b"two\n")


def test_large_output_comes_whole(own: Cluster) -> None:
    job = own.submit("--shell", "seq 1 600000")
    own.ok("wait", str(job))
    expected = b"".join(b"%d\n" % number for number in range(1, 600_001))
    assert own.ok("logs", str(job)) == expected


def test_a_cancel_reaches_it_at_once(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    took = []
    for number in range(1, 6):
        job = own.submit("--shell", gate.line())
        gate.wait_runs(number)
        before = time.monotonic()
        own.ok("cancel", str(job))
        own.titan("wait", str(job))
        took.append(time.monotonic() - before)
        assert own.json("show", str(job))["state"] == "CANCELLED"
    # If each waited for the next heartbeat, that would be nearly 3 s from one to the next; most of
    # it is what the commands take, and one of them may meet a moment in which all stands still.
    assert sorted(took)[2] < 2.5, took


def test_tasks_outlive_agent_and_manager_and_run_once(own: Cluster, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    worker = own.workers["w1"]
    options = ["--no-listen"] if "listens nowhere" in worker.log else ["--advertise", "127.0.0.1:1"]
    job = own.submit("--array", "0-5", "--shell", gate.line())
    gate.wait_runs(4)
    worker.kill()
    own.kill_manager()
    own.start_manager()
    start(own, options)
    own.kill_manager()
    own.start_manager()
    gate.open()
    own.ok("wait", str(job), seconds=60)
    shown = own.json("show", str(job))
    assert shown["tasks"]["completed"] == 6
    assert [each["attempt"] for each in shown["attempts"]] == [1] * 6
    assert len(gate.runs()) == 6, "none ran twice"


def test_a_task_starts_about_as_fast_as_on_a_worker_that_is_called(own: Cluster) -> None:
    with own.client() as client:
        took = []
        for _ in range(20):
            before = time.monotonic()
            client.submit(["true"]).wait(timeout=60)
            took.append(time.monotonic() - before)
    # Far below the 3 s between heartbeats; 10 ms on a quiet machine.
    assert sorted(took)[10] < 0.5


def test_many_short_tasks_run_once_each(own: Cluster) -> None:
    job = own.submit("--array", "0-499", "true")
    own.ok("wait", str(job), seconds=60)
    shown = own.json("show", str(job), "--attempts", "1000")
    assert shown["tasks"]["completed"] == 500
    ends = [each["index"] for each in shown["attempts"] if each["state"] == "COMPLETED"]
    assert sorted(ends) == list(range(500))


def test_it_stays_healthy_while_nothing_happens(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        # Half of that in silence makes a worker UNHEALTHY, and no worker stands still so long.
        cluster.start_manager("--heartbeat-timeout", "20s")
        cluster.start_worker("w1", "--no-listen")
        heard = cluster.json("workers")[0]["last_heartbeat_time"]
        wait_until(lambda: cluster.json("workers")[0]["last_heartbeat_time"] > heard + 10.5)
        assert not [each for each in cluster.dump() if each["event"] == "WorkerUnhealthy"]


def test_to_listen_nowhere_and_somewhere_is_a_usage_error(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        for option in ("--listen", "--advertise"):
            refused = cluster.titan("worker", "--no-listen", option, "127.0.0.1:5")
            assert refused.returncode == 2
            assert b"--no-listen takes neither --listen nor --advertise" in refused.stderr


def test_a_worker_that_listens_nowhere_cannot_be_told_what_it_has(own: Cluster) -> None:
    worker = own.workers["w1"]
    updated = own.titan("worker", "update", "--data-dir", str(worker.directory), "--cpus", "2")
    if "listens nowhere" in worker.log:
        assert updated.returncode == 5
        assert b"cannot be called: it is starting, or listens nowhere" in updated.stderr
    else:
        assert updated.returncode == 0, updated.stderr
        # The manager may hear of it a little later.
        wait_until(lambda: own.json("workers")[0]["cpus"] == 2, "it is known")
        assert own.ok("run", "echo", "hi") == b"hi\n"
