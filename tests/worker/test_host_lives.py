"""How a task host begins, goes on without an agent, dies, and is followed by another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import DEADLINE_SECONDS, HostDriver, is_running
from titan.model import HeldState, ReportKind, State
from titan.worker import directory, protocol
from titan.worker.host import journal as host_journal
from titan.worker.host.records import EndRecord, ProcessRecord, recover


def pid_of(host: HostDriver, job_id: int) -> int:
    """The process of a task that prints its pid first."""
    return int(host.wait_output(key(job_id)).split()[0])


def run_sleeper(host: HostDriver, job_id: int = 1) -> int:
    """A task that runs for a long time and is in the journal; its pid.

    Its output alone does not tell the second: a process may print before its record is written.
    """
    host.wait_start(host.run("sh", "-c", "echo $$; exec sleep 60", job_id=job_id))
    return pid_of(host, job_id)


# Agents come and go -----------------------------------------------------------------------------


def test_tasks_run_on_without_an_agent_and_the_next_one_learns_how_they_ended(
    host: HostDriver,
) -> None:
    gate = host.path / "gate"
    os.mkfifo(gate)
    first = host.connect()
    host.run("sh", "-c", f"echo up; cat {gate}; exit 3")
    host.wait_output(key())
    host.disconnect()
    with gate.open("w"):
        pass
    welcome = host.connect()
    assert welcome.instance == first.instance
    if not welcome.reports or welcome.reports[-1].kind != ReportKind.ENDED:
        host.wait_end(key())
        welcome = host.connect()
    assert [(r.seq, r.kind, r.exit_code) for r in welcome.reports] == [
        (1, ReportKind.STARTED, None),
        (2, ReportKind.ENDED, 3),
    ]
    assert welcome.report_seq == 2


def test_what_is_acknowledged_is_not_told_again(host: HostDriver) -> None:
    host.wait_end(host.run("true"))
    run_sleeper(host, job_id=2)
    host.wait_start(key(2))
    host.send(protocol.Acknowledge(2))
    welcome = host.connect()
    assert [(report.seq, report.key) for report in welcome.reports] == [(3, key(2))]
    assert [(held.key, held.state) for held in welcome.live] == [(key(2), HeldState.RUNNING)]


def test_a_hundred_tasks_through_agents_that_come_and_go_end_once_each(host: HostDriver) -> None:
    host.send_batch(batch(launch("true"), indexes=range(100), slots=3))
    ended: dict[int, int] = {}
    while len(ended) < 100:
        welcome = host.connect()
        for report in welcome.reports:
            if report.kind == ReportKind.ENDED:
                assert ended.setdefault(report.key.index, report.seq) == report.seq
        if welcome.reports:
            host.send(protocol.Acknowledge(welcome.reports[0].seq))
    assert sorted(ended) == list(range(100))


def test_the_newest_agent_wins(host: HostDriver) -> None:
    older = HostDriver(host.path)
    older.connect()
    host.connect()
    assert not older.pump()
    older.disconnect()
    assert host.wait_end(host.run("true")).exit_code == 0


def test_an_agent_of_another_major_version_is_refused_with_a_sentence(host: HostDriver) -> None:
    answer = host.greet(major=2)
    assert isinstance(answer, protocol.Refused)
    assert f"speaks version 1.{protocol.VERSION_MINOR}, this agent 2.0" in answer.sentence
    assert not answer.is_passing


def test_a_message_of_a_newer_minor_version_is_passed_over(host: HostDriver) -> None:
    host.send_raw(b"\x05\x00\x00\x00\x94\x7b\x01\x02\x03")
    assert host.wait_end(host.run("true")).exit_code == 0


def test_garbage_closes_the_connection_and_nothing_else(host: HostDriver) -> None:
    pid = run_sleeper(host)
    host.send_raw(b"\xff" * 64)
    while host.pump():
        pass
    assert [held.key for held in host.connect().live] == [key()]
    assert is_running(pid)


def test_a_directory_with_a_long_name_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40)
    path.mkdir()
    host = HostDriver(path)
    try:
        host.start()
        host.connect()
        assert host.wait_end(host.run("true")).exit_code == 0
    finally:
        host.close()


def test_a_second_host_is_kept_out(host: HostDriver) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "titan.worker.host", str(host.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == directory.EXIT_IN_USE
    assert host.process is not None
    assert f"in use by another task host (pid {host.process.pid})" in second.stderr


def test_the_socket_is_for_its_owner_only(host: HostDriver) -> None:
    assert (host.path / "host.sock").stat().st_mode & 0o777 == 0o600


# Ends of the host -------------------------------------------------------------------------------


def test_leaving_stops_all_and_reports_none_of_it(host: HostDriver) -> None:
    pid = run_sleeper(host)
    host.send_batch(batch(launch("true", job_id=2, class_id=2), slots=0))
    host.wait_start(key())
    host.send(protocol.Leave(60_000))
    host.wait_until(lambda: host.left)
    assert not is_running(pid)
    assert [report.kind for report in host.reports] == [ReportKind.STARTED]
    assert host.process is not None
    assert host.process.poll() is None
    host.disconnect()
    assert host.process.wait(DEADLINE_SECONDS) == 0
    assert not (host.path / "host.sock").exists()


def test_without_an_agent_for_too_long_tasks_are_stopped_and_the_host_ends(
    host: HostDriver,
) -> None:
    host.connect(detach_limit_seconds=0.05)
    pid = run_sleeper(host)
    host.disconnect()
    assert host.process is not None
    assert host.process.wait(DEADLINE_SECONDS) == 0
    assert not is_running(pid)


def test_sigterm_stops_the_tasks_and_ends_the_host(host: HostDriver) -> None:
    pid = run_sleeper(host)
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(DEADLINE_SECONDS) == 0
    assert not is_running(pid)


def test_ends_nobody_has_acknowledged_outlive_the_host(host: HostDriver) -> None:
    host.wait_end(host.run("sh", "-c", "exit 9"))
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    host.process.wait(DEADLINE_SECONDS)
    host.start()
    (report,) = host.connect().reports
    assert (report.seq, report.exit_code) == (1, 9)


def test_a_task_of_another_cluster_with_the_same_numbers_is_left_alone(
    host: HostDriver, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = HostDriver(tmp_path / "other")
    try:
        other.start()
        other.connect()
        bystanders = []
        for job_id in (1, 2):
            sleeper = launch("sh", "-c", "echo $$; exec sleep 60", job_id=job_id)
            other.run_launch(sleeper._replace(epoch=1))
            bystanders.append(pid_of(other, job_id))
        run_sleeper(host)
        host.stop(key())
        host.wait_end(key())
        run_sleeper(host, job_id=2)
        host.kill()
        host.start()
        host.connect()
        assert all(map(is_running, bystanders))
    finally:
        other.close()


# After kill -9 ----------------------------------------------------------------------------------


def test_a_killed_hosts_tasks_are_ended_and_its_ends_told_truly(host: HostDriver) -> None:
    old = host.connect()
    host.send(protocol.Cluster(b"C" * 16))
    host.wait_end(host.run("true", job_id=1))
    host.wait_end(host.run("sh", "-c", "exit 4", job_id=2))
    host.send(protocol.Acknowledge(2))
    host.run("sh", "-c", "trap '' TERM; setsid sleep 60 & echo $$ $!; wait", job_id=3)
    leader, stray = map(int, host.wait_output(key(3)).split())
    host.wait_start(key(3))
    host.kill()
    assert is_running(leader)
    host.start()
    welcome = host.connect()
    assert welcome.instance != old.instance
    assert (old.starts, welcome.starts) == (1, 2)
    assert welcome.cluster_id == b"C" * 16
    assert welcome.live == ()
    (report,) = welcome.reports
    assert (report.seq, report.key, report.exit_code) == (1, key(2), 4)
    assert (report.state, report.detail) == (State.FAILED, "exit code 4")
    assert not is_running(leader)
    assert not is_running(stray)


def test_a_process_whose_pid_was_not_written_down_is_found_all_the_same(
    host: HostDriver,
) -> None:
    pid = run_sleeper(host)
    host.wait_start(key())
    host.kill()
    # As if it had died between the spawn and the record of it.
    header, entries = host_journal.read(host.path / "host.journal") or pytest.fail("no journal")
    kept = [entry for entry in entries if entry.record != recover_process(host)]
    assert len(kept) == len(entries) - 1
    rewrite(host.path, header, kept)
    assert is_running(pid)
    host.start()
    host.connect()
    assert not is_running(pid)


def test_what_a_killed_hosts_task_has_started_without_environment_is_found_by_its_output(
    host: HostDriver,
) -> None:
    host.run("sh", "-c", "env -i setsid sh -c 'echo $$; exec sleep 60' & exec sleep 60")
    stray = pid_of(host, 1)
    host.wait_start(key())
    host.kill()
    assert is_running(stray)
    host.start()
    host.connect()
    assert not is_running(stray)


def recover_process(host: HostDriver) -> object:
    _, entries = host_journal.read(host.path / "host.journal") or pytest.fail("no journal")
    (unfinished,) = recover(entry.record for entry in entries).unfinished
    return unfinished.process


def rewrite(path: Path, header: host_journal.Header, entries: list[host_journal.Entry]) -> None:
    """Write the journal with these entries and the times they have."""
    journal = host_journal.HostJournal(path / "host.journal")
    journal.rewrite(header, [], entries[0].ticks if entries else 0)
    for entry in entries:
        journal.append(entry.record, entry.ticks)
    journal.flush()
    journal.close()


def test_another_process_that_got_the_pid_is_not_touched(host: HostDriver) -> None:
    run_sleeper(host)
    host.kill()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        header, entries = host_journal.read(host.path / "host.journal") or pytest.fail("none")
        changed = [
            entry._replace(record=entry.record._replace(pid=bystander.pid, start_ticks=1))
            if isinstance(entry.record, ProcessRecord)
            else entry
            for entry in entries
        ]
        assert changed != entries
        rewrite(host.path, header, changed)
        host.start()
        host.connect()
        assert bystander.poll() is None
        bystander.kill()


def test_after_a_reboot_nothing_is_looked_for(host: HostDriver) -> None:
    pid = run_sleeper(host)
    host.wait_end(host.run("sh", "-c", "exit 4", job_id=2))
    host.kill()
    header, entries = host_journal.read(host.path / "host.journal") or pytest.fail("no journal")
    rewrite(host.path, header._replace(boot_id="another"), entries)
    host.start()
    (report,) = host.connect().reports
    assert report.exit_code == 4
    assert is_running(pid)
    os.killpg(pid, signal.SIGKILL)


def test_the_host_of_a_copied_directory_leaves_the_tasks_of_the_first_alone(
    host: HostDriver, tmp_path: Path
) -> None:
    pid = run_sleeper(host)
    host.wait_end(host.run("sh", "-c", "exit 4", job_id=2))
    other = HostDriver(tmp_path / "copy")
    other.path.mkdir()
    shutil.copy(host.path / "host.journal", other.path)
    try:
        other.start()
        welcome = other.connect()
        assert (welcome.reports, welcome.live) == ((), ())
        assert is_running(pid)
        assert "a copy of that of the task host with pid" in other.log()
    finally:
        other.close()


def test_a_journal_that_cannot_be_read_is_put_aside(driver: HostDriver) -> None:
    (driver.path / "host.journal").write_bytes(b"\0" * 4096)
    driver.start()
    assert driver.connect().reports == ()
    assert (driver.path / "host.journal.unreadable").exists()
    assert "put aside" in driver.log()


def recorded_end(host: HostDriver) -> EndRecord:
    """The last end that the host has reported, as it is written down."""
    return EndRecord(host.wait_end(host.run("/no/such", job_id=2)))


def test_the_journal_is_compacted(host: HostDriver) -> None:
    path = host.path / "host.journal"
    count, portion = 4_000, 200
    for first in range(0, count, portion):
        # Launches that fail make as many records, and no processes.
        indexes = range(first, first + portion)
        host.send_batch(batch(launch("/no/such"), indexes=indexes, slots=1))
        # What is not acknowledged stays in the journal.
        host.wait_end(key(index=indexes[-1]))
        host.send(protocol.Acknowledge(host.reports[-1].seq))
    assert host.reports[-1].seq == count
    assert host.connect().reports == ()
    written_bytes = count * len(host_journal.encode_record(recorded_end(host), 0))
    assert path.stat().st_size < host_journal.COMPACT_BYTES_MIN * 1.1 < written_bytes
