"""What users say of when and where tasks run, on a real cluster."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.cluster import Cluster, wait_until
from tests.e2e.tasks import Gate


def test_a_task_that_fails_is_tried_again_elsewhere(shared: Cluster, tmp_path: Path) -> None:
    line = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    job = shared.submit("--retries", "5", "--cpus", "0.1", "--shell", line)
    assert shared.titan("wait", str(job)).returncode == 0
    view = shared.json("show", str(job))
    ends = [(each["attempt"], each["state"]) for each in view["attempts"]]
    assert ends == [(1, "FAILED"), (2, "FAILED"), (3, "COMPLETED")]
    one, two, _ = (each["worker"] for each in view["attempts"])
    assert one != two, "another worker is preferred"


def test_other_exit_codes_than_those_named_are_not_tried_again(shared: Cluster) -> None:
    job = shared.submit("--retries", "5", "--retry-on", "7", "--shell", "exit 8")
    assert shared.titan("wait", str(job)).returncode == 8
    assert shared.json("show", str(job))["attempts_total"] == 1


def test_labels_choose_the_worker(shared: Cluster) -> None:
    printed = shared.ok(
        "run", "--constraint", "zone==a", "--array", "0-3", "--shell", "echo $TITAN_WORKER"
    )
    assert {line.split(b"| ")[-1] for line in printed.splitlines()} == {b"w1"}
    printed = shared.ok("run", "--constraint", "zone not in (a,b)", "--shell", "echo $TITAN_WORKER")
    assert printed == b"w2\n"


def test_tasks_keep_apart_or_together(shared: Cluster) -> None:
    apart = shared.submit(
        "--array", "0-1", "--anti-affinity", "self", "--cpus", "0.1", "sleep", "0.2"
    )
    together = shared.submit(
        "--array", "0-3", "--affinity", "self", "--cpus", "0.1", "sleep", "0.2"
    )
    shared.ok("wait", str(apart), str(together))
    workers = [each["worker"] for each in shared.json("show", str(apart))["attempts"]]
    assert sorted(workers) == ["w1", "w2"]
    workers = [each["worker"] for each in shared.json("show", str(together))["attempts"]]
    assert len(set(workers)) == 1


def test_a_held_job_waits_for_its_release(shared: Cluster) -> None:
    job = shared.submit("--hold", "true")
    view = shared.json("show", str(job))
    assert (view["state"], view["held"]) == ("PENDING", True)
    assert b"PENDING (held)" in shared.ok("queue")
    assert shared.ok("release", str(job)) == b"Released job %d\n" % job
    assert shared.titan("wait", str(job)).returncode == 0
    result = shared.titan("hold", str(job))
    assert (result.returncode, b"has ended" in result.stdout) == (0, True)


def test_a_suspended_job_stands_still_and_leaves_its_cpus(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "1")
        command = ["sleep", f"1234.{tmp_path.stat().st_ino}"]
        job = cluster.submit(*command)
        pid = wait_until(lambda: _pid_of(command), "it runs")
        wait_until(lambda: cluster.json("show", str(job))["state"] == "RUNNING")
        cluster.ok("suspend", str(job))
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it stands")
        assert cluster.json("show", str(job))["suspended"] is True
        resume = f"a resume: it is suspended (`titan resume {job}`)"
        for at in ((), ("--at", "0s ago")):
            assert cluster.json("why", str(job), *at)["waiting_for"] == [resume]
        cluster.ok("run", "true")
        cluster.ok("resume", str(job))
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_SLEEPING, "it goes on")
        assert cluster.json("show", str(job))["suspended"] is False
        cluster.ok("cancel", str(job))


def test_a_higher_priority_preempts_and_the_victim_runs_again(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--preempt", "requeue")
        cluster.start_worker("w1", "--cpus", "1")
        low = cluster.submit("--preemptible", "--grace", "1s", "--shell", gate.line())
        gate.wait_runs(1)
        wait_until(lambda: cluster.json("show", str(low))["state"] == "RUNNING")
        cluster.ok("run", "--priority", "5", "true")
        gate.wait_runs(2)
        gate.open()
        assert cluster.titan("wait", str(low)).returncode == 0
        attempts = cluster.json("show", str(low))["attempts"]
        assert [(each["state"], each["reason"]) for each in attempts] == [
            ("CANCELLED", "PREEMPTED"),
            ("COMPLETED", "EXIT"),
        ]


def test_a_running_task_is_requeued_and_an_ended_job_submitted_again(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    job = shared.submit("--shell", gate.line())
    gate.wait_runs(1)
    wait_until(lambda: shared.json("show", str(job))["state"] == "RUNNING")
    shared.ok("requeue", "--grace", "1s", str(job))
    gate.wait_runs(2)
    gate.open()
    assert shared.titan("wait", str(job)).returncode == 0
    array = shared.submit("--array", "0-3", "--shell", "exit $((TITAN_TASK_INDEX % 2))")
    assert shared.titan("wait", str(array)).returncode == 1
    (again,) = shared.json("requeue", str(array))
    assert shared.titan("wait", str(again["submitted_again"])).returncode == 1
    view = shared.json("show", str(again["submitted_again"]))
    assert sorted(each["index"] for each in view["attempts"]) == [1, 3]


def test_an_update_shortens_what_runs(shared: Cluster) -> None:
    job = shared.submit("--grace", "1s", "sleep", "1000")
    wait_until(lambda: shared.json("show", str(job))["state"] == "RUNNING")
    shared.ok("update", "--time-limit", "100ms", "--priority", "3", str(job))
    assert shared.titan("wait", str(job)).returncode == 124
    view = shared.json("show", str(job))
    assert (view["reason"], view["priority"]) == ("TIMEOUT", 3)


def test_too_many_failures_cancel_the_rest(shared: Cluster) -> None:
    job = shared.submit("--array", "0-99%1", "--max-fails", "1", "false")
    assert shared.titan("wait", str(job)).returncode == 1
    tasks = shared.json("show", str(job))["tasks"]
    assert tasks["failed"] == 2
    assert tasks["cancelled"] == 98


def test_a_deadline_ends_what_is_late(shared: Cluster) -> None:
    running = shared.submit("--deadline", "now+1s", "--grace", "1s", "sleep", "1000")
    waiting = shared.submit("--deadline", "now+1s", "--hold", "true")
    assert shared.titan("wait", str(running)).returncode == 124
    assert shared.titan("wait", str(waiting)).returncode == 124
    assert shared.json("show", str(running))["reason"] == "DEADLINE"
    assert shared.json("show", str(waiting))["reason"] == "DEADLINE"


def test_the_policy_outlives_the_manager(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--order", "skip")
        assert cluster.json("policy")["order"] == "skip"
        cluster.ok("policy", "set", "--order", "fcfs", "--policy", "spread", "--user-cpus", "4")
        cluster.kill_manager()
        cluster.start_manager("--order", "easy")
        policy = cluster.json("policy")
        assert (policy["order"], policy["placement"]) == ("fcfs", "spread")
        assert policy["user_limits"] == {"": 4}
        assert policy["was_set"] is True
        cluster.start_worker("w1", "--cpus", "1")
        cluster.ok("run", "true")
        (event,) = [each for each in cluster.dump() if each["event"] == "TaskAssigned"]
        assert event["policy"] == "spread"


def _pid_of(command: list[str]) -> int:
    for each in psutil.process_iter(["cmdline"]):
        if each.info["cmdline"] == command:
            return int(each.pid)
    return 0
