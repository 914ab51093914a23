"""Real tasks that stand still and go on, by a real task host."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, state_of, wait_for
from titan.model import AttemptKey, Reason, ReportKind, State, StopMode
from titan.worker import processes, protocol

DAY_MS = 86_400_000
COUNT = "i=0; echo $$; while :; do i=$((i+1)); echo $i > counter.new; mv counter.new counter; done"
# Starts a process in the task's group, one that leaves it, and one that loses its parent, too.
FAMILY = (
    "sleep 300 & echo $!; setsid sleep 300 & echo $!;"
    " sh -c 'setsid sleep 300 & echo $!'; echo $$; exec sleep 300"
)


def run_family(host: HostDriver) -> tuple[AttemptKey, list[int]]:
    """A task of four processes; their pids."""
    attempt = host.run("sh", "-c", FAMILY)
    wait_for(lambda: host.output(attempt).count(b"\n") == 4, "its processes")
    pids = [int(line) for line in host.output(attempt).split()]
    wait_for(lambda: all(name_of(pid) == "sleep" for pid in pids), "them to sleep")
    return attempt, pids


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def wait_stopped(*pids: int) -> None:
    wait_for(lambda: all(map(stands_still, pids)), "it to stand still")


def stands_still(pid: int) -> bool:
    return processes.stands_still(processes.Found(pid, 0, 0, key(), state_of(pid) == "T"))


def wait_going(*pids: int) -> None:
    wait_for(lambda: all(state_of(pid) in ("R", "S", "D") for pid in pids), "it to go on")


def suspend(host: HostDriver, attempt: AttemptKey, *pids: int) -> None:
    host.stop(attempt, mode=StopMode.SUSPEND)
    wait_stopped(*pids)


def resume(host: HostDriver, attempt: AttemptKey) -> None:
    host.stop(attempt, mode=StopMode.RESUME)


def wait_another(host: HostDriver, job_id: int, after_ms: int) -> None:
    """Until a task that begins now has run into its limit."""
    host.run_launch(launch("sleep", "300", job_id=job_id, time_limit_ms=after_ms))
    host.wait_end(key(job_id))


def test_a_task_that_is_suspended_does_nothing_until_it_is_resumed(host: HostDriver) -> None:
    attempt = host.run_launch(launch("sh", "-c", COUNT, cwd=os.fsencode(host.path)))
    counter = host.path / "counter"
    wait_for(counter.exists, "it to count")
    pid = int(host.wait_output(attempt))
    for turn in range(2):
        suspend(host, attempt, pid)
        # Its mv, if there is one, is of its group and stands still once it is out of the kernel.
        wait_for(
            lambda: all(each.is_stopped for each in processes_of(host, attempt) if each.pid != pid),
            "its mv to stand still",
        )
        reached = counter.read_text()
        host.wait_end(host.run("true", job_id=2 + turn))
        assert counter.read_text() == reached
        counter.unlink()
        resume(host, attempt)
        wait_for(counter.exists, "it to go on counting")
    host.stop(attempt)
    host.wait_end(attempt)


def test_all_processes_of_a_task_stand_still_and_go_on_together(host: HostDriver) -> None:
    attempt, pids = run_family(host)
    suspend(host, attempt, *pids)
    resume(host, attempt)
    wait_going(*pids)
    assert host.find_end(attempt) is None


def test_other_tasks_go_on(host: HostDriver) -> None:
    other = host.run("sh", "-c", "echo $$; exec sleep 300", job_id=2)
    pid = int(host.wait_output(other))
    attempt, pids = run_family(host)
    suspend(host, attempt, *pids)
    wait_for(lambda: state_of(pid) == "S", "the other to sleep")
    assert host.wait_end(host.run("true", job_id=3)).state is State.COMPLETED


def test_wishing_it_again_changes_nothing(host: HostDriver) -> None:
    attempt, pids = run_family(host)
    resume(host, attempt)
    suspend(host, attempt, *pids)
    host.stop(attempt, attempt, key(9), mode=StopMode.SUSPEND)
    host.stop(key(9), mode=StopMode.RESUME)
    host.wait_end(host.run("true", job_id=2))
    wait_stopped(*pids)
    resume(host, attempt)
    resume(host, attempt)
    wait_going(*pids)
    assert host.find_end(key(9)) is None


def test_suspended_and_resumed_in_one_message_it_goes_on(host: HostDriver) -> None:
    attempt, pids = run_family(host)
    for _ in range(20):
        host.stop(attempt, mode=StopMode.SUSPEND)
        host.stop(attempt, mode=StopMode.RESUME)
    host.wait_end(host.run("true", job_id=2))
    wait_going(*pids)


def processes_of(host: HostDriver, attempt: AttemptKey) -> list[processes.Found]:
    """All of it, wherever it is."""
    assert host.process is not None
    mark = processes.Mark(attempt, 0, 0, host.output_path(attempt, b""))
    return processes.find([mark], host.process.pid)


def wait_all_stopped(host: HostDriver, attempt: AttemptKey) -> None:
    """Until nothing of it moves, wherever it is."""

    def are_stopped() -> bool:
        found = processes_of(host, attempt)
        return bool(found) and all(map(processes.stands_still, found))

    wait_for(are_stopped, "all of it to stand still")
    assert "does not stand still" not in host.log()


def test_what_leaves_the_group_at_that_moment_stands_still_as_well(host: HostDriver) -> None:
    # The first ones only make the host look for longer.
    code = (
        "import os, time\n"
        "for number in range(600):\n"
        "    if number == 200:\n"
        "        print(flush=True)\n"
        "    if not os.fork():\n"
        "        number < 200 or os.setsid()\n"
        "        time.sleep(300)\n"
        "time.sleep(300)\n"
    )
    attempt = host.run(sys.executable, "-c", code)
    host.wait_output(attempt)
    host.stop(attempt, mode=StopMode.SUSPEND)
    wait_all_stopped(host, attempt)


def test_what_is_about_to_become_a_program_stands_still_with_its_parent(host: HostDriver) -> None:
    code = (
        "import subprocess\n"
        "print(flush=True)\n"
        "while True:\n"
        "    subprocess.run(['setsid', 'setsid', 'true'])\n"
    )
    attempt = host.run(sys.executable, "-c", code)
    host.wait_output(attempt)
    for turn in range(10):
        host.stop(attempt, mode=StopMode.SUSPEND)
        wait_all_stopped(host, attempt)
        resume(host, attempt)
        host.wait_end(host.run("true", job_id=2 + turn))
    assert host.find_end(attempt) is None


def test_what_waits_is_recalled_instead(host: HostDriver) -> None:
    host.send_batch(batch(launch("sleep", "300"), indexes=[0, 1], slots=1))
    host.wait_start(key())
    host.stop(key(index=1), mode=StopMode.SUSPEND)
    assert host.wait_end(key(index=1)).kind == ReportKind.RECALLED


def test_a_cancel_wakes_what_is_suspended_so_that_all_of_it_can_react(host: HostDriver) -> None:
    loop = "while :; do sleep 0.01; done"
    child = f"trap 'echo child; exit 0' TERM; echo up; {loop}"
    own = f"trap 'wait; echo own; exit 5' TERM; echo $$; {loop}"
    attempt = host.run("sh", "-c", f'setsid sh -c "{child}" & {own}')
    wait_for(lambda: host.output(attempt).count(b"\n") == 2, "both to be up")
    (pid,) = (int(line) for line in host.output(attempt).split() if line != b"up")
    suspend(host, attempt, pid)
    host.stop(attempt, grace_ms=DAY_MS)
    report = host.wait_end(attempt)
    assert (report.state, report.reason, report.exit_code) == (
        State.CANCELLED,
        Reason.CANCELLED,
        5,
    )
    assert host.output(attempt).endswith(b"child\nown\n")


def test_what_does_not_listen_is_killed_after_the_grace_although_it_was_suspended(
    host: HostDriver,
) -> None:
    attempt = host.run("sh", "-c", "trap '' TERM; setsid sleep 300 & echo $!; wait; sleep 300")
    child = int(host.wait_output(attempt))
    suspend(host, attempt, child)
    host.stop(attempt, grace_ms=50)
    assert host.wait_end(attempt).signal == signal.SIGKILL
    wait_for(lambda: not is_running(child), "the child to be gone")


def test_what_is_suspended_and_killed_by_somebody_has_ended(host: HostDriver) -> None:
    attempt, pids = run_family(host)
    suspend(host, attempt, *pids)
    os.kill(pids[-1], signal.SIGKILL)
    report = host.wait_end(attempt)
    assert (report.state, report.reason, report.signal) == (State.FAILED, Reason.SIGNAL, 9)
    wait_for(lambda: not any(map(is_running, pids)), "all of it to be gone")


def test_it_stays_suspended_while_the_agent_is_away_and_the_next_one_resumes_it(
    host: HostDriver,
) -> None:
    attempt, pids = run_family(host)
    suspend(host, attempt, *pids)
    host.disconnect()
    host.connect()
    host.stop(attempt, mode=StopMode.SUSPEND)
    host.wait_end(host.run("true", job_id=2))
    wait_stopped(*pids)
    resume(host, attempt)
    wait_going(*pids)


def test_the_host_after_one_that_was_killed_ends_what_was_suspended(host: HostDriver) -> None:
    attempt, pids = run_family(host)
    suspend(host, attempt, *pids)
    host.kill()
    host.start()
    host.connect()
    wait_for(lambda: not any(map(is_running, pids)), "all of it to be gone")


def test_what_is_suspended_can_end_by_itself_when_the_worker_leaves(host: HostDriver) -> None:
    line = "trap 'echo asked; exit 0' TERM; echo $$; while :; do sleep 0.01; done"
    attempt = host.run("sh", "-c", line)
    pid = int(host.wait_output(attempt))
    suspend(host, attempt, pid)
    host.send(protocol.Leave(DAY_MS))
    host.wait_until(lambda: host.left)
    assert b"asked" in host.output(attempt)


# Time limits ------------------------------------------------------------------------------------


def test_a_time_limit_stands_still_with_its_task(host: HostDriver) -> None:
    attempt = host.run("sh", "-c", "echo $$; exec sleep 300")
    pid = int(host.wait_output(attempt))
    suspend(host, attempt, pid)
    # It has run for longer than that.
    host.stop(attempt, mode=StopMode.LIMIT, time_limit_ms=1)
    wait_another(host, job_id=2, after_ms=50)
    assert stands_still(pid)
    assert host.find_end(attempt) is None
    resume(host, attempt)
    assert host.wait_end(attempt).reason is Reason.TIMEOUT


def test_what_was_left_of_a_time_limit_is_left_afterwards(host: HostDriver) -> None:
    # Both messages are there at once: a machine that stood still between them would end the task.
    with host.standing_still():
        attempt = host.run_launch(launch("sleep", "300", time_limit_ms=1_500))
        host.stop(attempt, mode=StopMode.SUSPEND)
    wait_all_stopped(host, attempt)
    wait_another(host, job_id=2, after_ms=1_600)
    assert host.find_end(attempt) is None
    resume(host, attempt)
    report = host.wait_end(attempt)
    assert report.reason is Reason.TIMEOUT
    assert report.detail == "ran into its time limit of 1.5s"
    assert report.end_us - report.start_us >= 3_100_000


def test_a_shorter_limit_that_is_over_already_ends_the_task_at_once(host: HostDriver) -> None:
    line = (
        "trap 'echo soon' USR1; trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    )
    limited = launch(
        *("sh", "-c", line),
        time_limit_ms=DAY_MS, grace_ms=DAY_MS, end_signal=signal.SIGUSR1, end_signal_before_ms=9,
    )  # fmt: skip
    attempt = host.run_launch(limited)
    host.wait_output(attempt)
    host.stop(attempt, mode=StopMode.LIMIT, time_limit_ms=1)
    report = host.wait_end(attempt)
    assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)
    assert report.detail == "ran into its time limit of 0.001s"
    assert sorted(host.output(attempt).split()) == [b"end", b"soon", b"up"]


@pytest.mark.parametrize("time_limit_ms", [DAY_MS, 0], ids=["longer", "none"])
def test_a_longer_limit_or_none_lets_it_run_on(host: HostDriver, time_limit_ms: int) -> None:
    # Both messages are there at once: a machine that stood still between them would end the task.
    with host.standing_still():
        host.run_launch(launch("sleep", "300", time_limit_ms=1_000))
        host.stop(key(), mode=StopMode.LIMIT, time_limit_ms=time_limit_ms)
    wait_another(host, job_id=2, after_ms=1_100)
    assert host.find_end(key()) is None
    # And it can have one again.
    host.stop(key(), mode=StopMode.LIMIT, time_limit_ms=5)
    assert host.wait_end(key()).reason is Reason.TIMEOUT


def test_another_limit_of_what_waits_counts_from_its_start(host: HostDriver) -> None:
    host.send_batch(batch(launch("sleep", "300"), indexes=[0, 1], slots=1))
    host.stop(key(index=1), mode=StopMode.LIMIT, time_limit_ms=100)
    wait_another(host, job_id=2, after_ms=150)
    host.stop(key())
    report = host.wait_end(key(index=1))
    assert report.reason is Reason.TIMEOUT
    assert report.end_us - report.start_us >= 100_000
