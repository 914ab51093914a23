"""Time limits of real processes, by a real task host, with and without an agent."""

from __future__ import annotations

import signal
import subprocess

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import Reason, ReportKind, State
from titan.worker.messages import Launch

DAY_MS = 86_400_000


def sh(line: str, **limit: int) -> Launch:
    """A line of shell with a time limit."""
    return launch("sh", "-c", line, **limit)  # type: ignore[arg-type]


def test_a_task_that_runs_into_its_limit_is_asked_to_end_and_has_timed_out(
    host: HostDriver,
) -> None:
    line = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.01; done"
    attempt = host.run_listening(sh(line, time_limit_ms=700, grace_ms=DAY_MS))
    report = host.wait_end(attempt)
    assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)
    assert (report.exit_code, report.signal) == (3, None)
    assert report.detail == "ran into its time limit of 0.7s"
    assert report.end_us - report.start_us >= 700_000
    assert host.output(attempt) == b"up\nasked\n"


def test_one_that_does_not_listen_is_killed_after_the_grace_with_all_that_came_of_it(
    host: HostDriver,
) -> None:
    line = "trap '' TERM; setsid sleep 300 & echo $!; while :; do sleep 0.01; done"
    attempt = host.run_listening(sh(line, time_limit_ms=500, grace_ms=100))
    child = int(host.output(attempt))
    report = host.wait_end(attempt)
    assert (report.state, report.reason, report.signal) == (
        State.FAILED,
        Reason.TIMEOUT,
        signal.SIGKILL,
    )
    assert report.end_us - report.start_us >= 600_000
    wait_for(lambda: not is_running(child), "what left its group to end")


def test_a_limit_is_kept_while_there_is_no_agent_and_told_to_the_next_one(
    host: HostDriver,
) -> None:
    limited = sh("echo $$; exec sleep 300", time_limit_ms=400, grace_ms=DAY_MS)
    with host.listening(limited) as attempt:
        pid = int(host.output(attempt))
        host.disconnect()
    wait_for(lambda: not is_running(pid), "the task to be ended")
    report = host.connect().reports[-1]
    assert report.kind == ReportKind.ENDED
    assert (report.key, report.state, report.reason) == (attempt, State.FAILED, Reason.TIMEOUT)


def test_a_limit_shorter_than_it_takes_to_start_a_program_ends_it_all_the_same(
    host: HostDriver,
) -> None:
    long = sh("sleep 300", time_limit_ms=1, grace_ms=DAY_MS)
    host.send_batch(batch(long, indexes=range(20)))
    for index in range(20):
        report = host.wait_end(key(index=index))
        assert (report.reason, report.signal) == (Reason.TIMEOUT, signal.SIGTERM)


def test_a_limit_of_years_can_be_waited_for(host: HostDriver) -> None:
    host.run_launch(sh("sleep 300", time_limit_ms=3650 * DAY_MS))
    host.wait_start(key())
    assert host.wait_end(host.run("true", job_id=2)).state is State.COMPLETED


def test_the_signal_before_the_end_comes_once_and_before_it(host: HostDriver) -> None:
    line = (
        "trap 'echo soon' USR1; trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    )
    limit = {"time_limit_ms": 900, "grace_ms": DAY_MS}
    warned = sh(line, end_signal=signal.SIGUSR1, end_signal_before_ms=200, **limit)
    attempt = host.run_listening(warned)
    report = host.wait_end(attempt)
    assert (report.reason, report.exit_code) == (Reason.TIMEOUT, 0)
    assert host.output(attempt) == b"up\nsoon\nend\n"


def test_a_signal_before_the_end_and_the_end_itself_are_both_sent_when_both_are_due(
    host: HostDriver,
) -> None:
    line = (
        "trap 'echo soon' USR1; trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    )
    limit = {"time_limit_ms": 800, "grace_ms": DAY_MS}
    warned = sh(line, end_signal=signal.SIGUSR1, end_signal_before_ms=100, **limit)
    with host.listening(warned) as attempt:
        # While the host stands still both become due: the limit itself.
        subprocess.run(["sleep", "0.9"], check=True)
    assert host.wait_end(attempt).reason == Reason.TIMEOUT
    assert sorted(host.output(attempt).split()) == [b"end", b"soon", b"up"]
