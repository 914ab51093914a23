"""What a real task host does with real processes: how they start, run and end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import Execution, Reason, ReportKind, State, StopMode

# Prints its arguments, one a line, as Python writes bytes.
SHOW_ARGUMENTS = "import os, sys; print(*map(os.fsencode, sys.argv[1:]), sep='\\n')"


def test_the_host_loads_no_grpc_and_no_asyncio() -> None:
    code = "import sys, titan.worker.host; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "grpc",
        "google",
        "google.protobuf",
        "asyncio",
        "psutil",
        "titan.rpc",
        "multiprocessing",
    }
    assert not heavy & set(loaded)


def test_a_task_that_exits_with_0_has_completed(host: HostDriver) -> None:
    report = host.wait_end(host.run("true"))
    assert (report.state, report.reason, report.exit_code) == (State.COMPLETED, Reason.EXIT, 0)
    assert 0 < report.start_us <= report.end_us
    assert report.max_rss_bytes > 0


def test_the_exit_code_is_reported(host: HostDriver) -> None:
    report = host.wait_end(host.run("sh", "-c", "exit 7"))
    assert (report.state, report.reason, report.exit_code) == (State.FAILED, Reason.EXIT, 7)
    assert (report.signal, report.detail) == (None, "exit code 7")


def test_the_signal_that_killed_it_is_reported(host: HostDriver) -> None:
    report = host.wait_end(host.run("sh", "-c", "kill -SEGV $$"))
    assert (report.state, report.reason) == (State.FAILED, Reason.SIGNAL)
    assert (report.exit_code, report.signal) == (None, signal.SIGSEGV)
    assert report.detail == "killed by SIGSEGV (signal 11)"


def test_cpu_time_is_that_of_the_task_and_its_children(host: HostDriver) -> None:
    burn = "import time\nwhile time.process_time() < 0.15: pass"
    report = host.wait_end(host.run("sh", "-c", f'{sys.executable} -c "{burn}"; true'))
    assert report.cpu_user_us + report.cpu_system_us > 140_000


def test_output_is_kept_byte_by_byte_and_apart(host: HostDriver) -> None:
    attempt = host.run("printf", r"a\377\000\nb")
    host.wait_end(attempt)
    assert (host.output(attempt), host.output(attempt, b"err")) == (b"a\xff\x00\nb", b"")
    attempt = host.run("sh", "-c", "echo problem >&2", job_id=2)
    host.wait_end(attempt)
    assert (host.output(attempt), host.output(attempt, b"err")) == (b"", b"problem\n")


def test_output_lies_below_the_job_and_the_thousands_of_the_index(host: HostDriver) -> None:
    host.send_batch(batch(launch("echo", "here", job_id=42), indexes=[1234], attempt=3))
    host.wait_end(key(42, 1234, 3))
    output = host.path / "output" / "42" / "1" / "1234.3.out"
    assert output.read_text() == "here\n"


def test_arguments_arrive_as_they_were_given(host: HostDriver) -> None:
    arguments = [b"a b", b"", b'it\'s "quoted"', b"new\nline", b"\xff\xfe", b"$HOME *", b"-x"]
    attempt = host.run(sys.executable, "-c", SHOW_ARGUMENTS, *arguments)
    host.wait_end(attempt)
    assert host.output(attempt) == b"".join(repr(each).encode() + b"\n" for each in arguments)


def test_stdin_is_empty(host: HostDriver) -> None:
    attempt = host.run("cat")
    assert host.wait_end(attempt).exit_code == 0
    assert host.output(attempt) == b""


def test_a_task_runs_in_its_directory(host: HostDriver) -> None:
    place = host.path / "some where"
    place.mkdir()
    attempt = host.run_launch(launch("pwd", cwd=os.fsencode(place)))
    host.wait_end(attempt)
    assert host.output(attempt) == os.fsencode(place) + b"\n"


def test_a_program_is_found_relative_to_the_directory(host: HostDriver) -> None:
    script = host.path / "here.sh"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    attempt = host.run_launch(launch("./here.sh", cwd=os.fsencode(host.path)))
    host.wait_end(attempt)
    assert host.output(attempt) == b"found\n"


# The environment -----------------------------------------------------------------------------


def environment_of(host: HostDriver, job_id: int) -> dict[bytes, bytes]:
    host.wait_end(key(job_id))
    lines = host.output(key(job_id)).splitlines()
    return dict(line.split(b"=", 1) for line in lines)


def test_the_environment_has_the_account_and_titans_own_and_nothing_of_the_host(
    driver: HostDriver,
) -> None:
    driver.start({"SECRET_OF_THE_HOST": "1", "LANG": "C.UTF-8", "TMPDIR": "/var/tmp"})
    driver.connect(name="w7")
    driver.run_launch(launch("env", job_id=42, cpus_milli=1500))
    variables = environment_of(driver, 42)
    expected = {
        b"TITAN_JOB_ID": b"42",
        b"TITAN_JOB_NAME": b"job-42",
        b"TITAN_TASK_INDEX": b"0",
        b"TITAN_ATTEMPT": b"1",
        b"TITAN_WORKER": b"w7",
        b"TITAN_CPUS": b"1.5",
        b"TITAN_MEMORY_BYTES": b"0",
        b"TITAN_MANAGER": b"127.0.0.1:50051",
        b"LANG": b"C.UTF-8",
        b"TMPDIR": b"/var/tmp",
        b"HOME": os.fsencode(os.path.expanduser("~")),
        b"PATH": os.environb[b"PATH"],
    }
    assert expected.items() <= variables.items()
    assert set(variables) == {*expected, b"USER", b"SHELL"}


def test_an_array_knows_its_size_and_index(host: HostDriver) -> None:
    host.send_batch(batch(launch("env", array_count=30), indexes=[0, 5]))
    host.wait_end(key(index=5))
    lines = host.output(key(index=5)).splitlines()
    assert b"TITAN_TASK_INDEX=5" in lines
    assert b"TITAN_ARRAY_COUNT=30" in lines


def test_what_is_asked_for_by_name_wins_over_what_was_exported(host: HostDriver) -> None:
    host.run(
        "env",
        exported={b"HOME": b"/exported", b"A": b"1", b"B": b"1"},
        chosen={b"B": b"2", b"BYTES": b"\xff", b"TITAN_JOB_ID": b"no"},
    )
    variables = environment_of(host, 1)
    assert variables[b"HOME"] == b"/exported"
    assert (variables[b"A"], variables[b"B"], variables[b"BYTES"]) == (b"1", b"2", b"\xff")
    assert variables[b"TITAN_JOB_ID"] == b"1"


def test_a_program_is_found_on_the_tasks_own_path_before_the_workers(host: HostDriver) -> None:
    folder = host.path / "bin"
    folder.mkdir()
    (folder / "mine").write_text("#!/bin/sh\necho mine; echo $PATH\n")
    (folder / "mine").chmod(0o755)
    attempt = host.run("mine", exported={b"PATH": os.fsencode(folder)})
    host.wait_end(attempt)
    path = os.fsencode(folder) + b":" + os.environb[b"PATH"]
    assert host.output(attempt) == b"mine\n" + path + b"\n"


# What cannot be launched ------------------------------------------------------------------------


def detail_of(host: HostDriver, job_id: int, *command: str) -> str:
    report = host.wait_end(host.run(*command, job_id=job_id))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert (report.start_us, report.exit_code) == (0, None)
    return report.detail


def test_what_cannot_be_launched_says_why(host: HostDriver) -> None:
    plain = host.path / "plain"
    plain.write_text("echo")
    orphan = host.path / "orphan"
    orphan.write_text("#!/no/such/interpreter\n")
    headless = host.path / "headless"
    headless.write_text("echo no first line\n")
    orphan.chmod(0o755)
    headless.chmod(0o755)
    cases = [
        (("no-such-program",), "no program no-such-program on the task's PATH on w1"),
        (("/no/such", "x"), "cannot run /no/such on w1: No such file or directory"),
        ((f"{plain}",), f"cannot run {plain} on w1: Permission denied; is it executable?"),
        ((f"{orphan}",), f"cannot run {orphan} on w1: the interpreter in its #! line is missing"),
        ((f"{headless}",), f"cannot run {headless} on w1: no program and no #! line"),
        (("echo hello",), "no program 'echo hello' on w1: one word with spaces: --shell?"),
        (
            ("/bin/echo hello",),
            "no program '/bin/echo hello' on w1: one word with spaces: --shell?",
        ),
    ]
    for job_id, (command, sentence) in enumerate(cases, 1):
        assert detail_of(host, job_id, *command) == sentence


def test_arguments_beyond_the_systems_limit_fail_the_launch(host: HostDriver) -> None:
    assert detail_of(host, 1, "echo", "x" * 200_000).endswith("Argument list too long")


def test_a_name_that_no_environment_can_hold_fails_the_launch(host: HostDriver) -> None:
    report = host.wait_end(host.run("true", chosen={b"A=B": b"1"}))
    assert report.reason == Reason.LAUNCH_ERROR
    assert "environment" in report.detail


def test_a_missing_directory_is_named_with_the_worker(host: HostDriver) -> None:
    report = host.wait_end(host.run_launch(launch("true", cwd=b"/no/such/place")))
    assert report.reason == Reason.LAUNCH_ERROR
    assert report.detail == "no directory /no/such/place on w1; use --cwd"


def test_output_that_cannot_be_written_fails_the_launch(host: HostDriver) -> None:
    (host.path / "output").rmdir()
    (host.path / "output").write_text("in the way")
    report = host.wait_end(host.run("true"))
    assert report.reason == Reason.LAUNCH_ERROR
    assert report.detail.startswith("cannot make the output's directory on w1: ")
    (host.path / "output").unlink()
    assert host.wait_end(host.run("true", job_id=2)).exit_code == 0


def test_output_that_was_cleared_away_is_begun_anew(host: HostDriver) -> None:
    host.wait_end(host.run("true"))
    shutil.rmtree(host.path / "output")
    host.send_batch(batch(launch("echo", "again"), indexes=[1]))
    assert host.wait_end(key(index=1)).exit_code == 0
    assert host.output(key(index=1)) == b"again\n"


# What a task must not inherit --------------------------------------------------------------------


def test_no_descriptor_leaks_into_a_task(host: HostDriver) -> None:
    # Others run, so that there is something that could leak.
    host.wait_start(host.run("sleep", "60", job_id=2))
    attempt = host.run(sys.executable, "-c", "import os; print(*os.listdir('/proc/self/fd'))")
    host.wait_end(attempt)
    # The fourth is that of the listing itself.
    assert host.output(attempt).split() == [b"0", b"1", b"2", b"3"]


def test_signals_are_as_after_login(driver: HostDriver) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        driver.start()
    finally:
        signal.signal(signal.SIGHUP, previous)
    driver.connect()
    attempt = driver.run("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    driver.wait_end(attempt)
    blocked, ignored = (int(line.split()[1], 16) for line in driver.output(attempt).splitlines())
    # 32 and 33 are the C library's own: nobody can set them, but whoever started us may have.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)


def test_a_task_leads_a_session_of_its_own(host: HostDriver) -> None:
    attempt = host.run("sh", "-c", "cat /proc/$$/stat")
    host.wait_end(attempt)
    fields = host.output(attempt).rsplit(b")", 1)[1].split()
    pid = host.output(attempt).split()[0]
    assert fields[2:4] == [pid, pid]


def test_a_new_attempt_of_that_name_begins_with_empty_output(host: HostDriver) -> None:
    attempt = key()
    path = Path(os.fsdecode(host.output_path(attempt)))
    path.parent.mkdir(parents=True)
    path.write_text("of another cluster")
    host.run("echo", "new")
    host.wait_end(attempt)
    assert host.output(attempt) == b"new\n"


# Ends ------------------------------------------------------------------------------------------


def test_cancel_asks_with_sigterm_first(host: HostDriver) -> None:
    attempt = host.run(
        "sh", "-c", "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.01; done"
    )
    host.wait_output(attempt)
    host.stop(attempt, grace_ms=60_000)
    report = host.wait_end(attempt)
    assert (report.state, report.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert report.exit_code == 5
    assert host.output(attempt) == b"up\nasked\n"


def test_cancel_kills_after_the_grace_a_group_that_ignores_sigterm(host: HostDriver) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; exec sleep 60'; sleep 60"
    attempt = host.run("sh", "-c", script)
    child = int(host.wait_output(attempt))
    host.stop(attempt, grace_ms=50)
    report = host.wait_end(attempt)
    assert (report.state, report.signal) == (State.CANCELLED, signal.SIGKILL)
    wait_for(lambda: not is_running(child), "the child to be gone")


def test_cancel_wakes_a_stopped_task_so_that_it_can_end_by_itself(host: HostDriver) -> None:
    script = "trap 'exit 5' TERM; echo $$; kill -STOP $$; exit 6"
    attempt = host.run("sh", "-c", script)
    pid = int(host.wait_output(attempt))
    wait_for(lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "the task to stand still")
    host.stop(attempt, grace_ms=60_000)
    assert host.wait_end(attempt).exit_code == 5


def test_cancel_reaches_a_child_that_left_the_group(host: HostDriver) -> None:
    attempt = host.run("sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!; wait")
    child = int(host.wait_output(attempt))
    host.stop(attempt, grace_ms=60_000)
    host.wait_end(attempt)
    wait_for(lambda: not is_running(child), "the child to be gone")


def test_what_a_task_leaves_in_its_group_is_killed_before_its_end_is_reported(
    host: HostDriver,
) -> None:
    attempt = host.run("sh", "-c", "sleep 60 & echo $!")
    report = host.wait_end(attempt)
    assert report.exit_code == 0
    child = int(host.output(attempt))
    wait_for(lambda: not is_running(child), "the child to be gone")


def test_orphans_are_reaped(host: HostDriver) -> None:
    attempt = host.run("sh", "-c", "(setsid true &) ; (setsid true &) ; sleep 0.05")
    host.wait_end(attempt)
    wait_for(lambda: not host.children(), "the host to have no children")


def test_what_waits_is_recalled_and_what_runs_is_not(host: HostDriver) -> None:
    host.send_batch(batch(launch("sleep", "60"), indexes=[0, 1], slots=1))
    host.wait_start(key())
    host.stop(key(), key(index=1), mode=StopMode.RECALL)
    assert host.wait_end(key(index=1)).kind == ReportKind.RECALLED
    assert host.find_end(key()) is None


def test_a_thousand_tasks_end_once_each_and_no_more_run_at_once_than_may(
    host: HostDriver,
) -> None:
    host.send_batch(batch(launch("/bin/true"), indexes=range(1_000), slots=4))
    host.wait_until(lambda: host.reports and host.reports[-1].seq >= 2_000)
    numbers = [report.seq for report in host.reports]
    assert numbers == sorted(set(numbers))
    ends = [report for report in host.reports if report.kind == ReportKind.ENDED]
    assert sorted(report.key.index for report in ends) == list(range(1_000))
    running = most = 0
    # Who starts in the microsecond in which another ends has its place.
    changes = [(report.start_us, 1) for report in ends] + [(report.end_us, -1) for report in ends]
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    assert most == 4
    # A start is told by itself only if its end is not told with it.
    assert len(host.reports) < 2_000


def test_a_task_makes_files_with_its_own_umask_and_its_output_stays_readable(
    host: HostDriver, tmp_path: Path
) -> None:
    own = launch("touch", str(tmp_path / "own"), execution=Execution(umask=0o777))
    plain = launch("sh", "-c", "umask", job_id=2)
    assert host.wait_end(host.run_launch(own)).state is State.COMPLETED
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0
    out = Path(os.fsdecode(host.output_path(key())))
    assert out.stat().st_mode & 0o777 == 0o644
    after = host.run_launch(plain)
    host.wait_end(after)
    mine = os.umask(0o22)
    os.umask(mine)
    assert int(host.output(after), 8) == mine


def test_a_cancel_with_a_signal_of_its_own_sends_that(host: HostDriver) -> None:
    line = "trap 'echo int; exit 0' INT; echo up; while :; do sleep 0.01; done"
    attempt = host.run("sh", "-c", line)
    host.wait_output(attempt)
    host.stop(attempt, grace_ms=60_000, number=signal.SIGINT)
    report = host.wait_end(attempt)
    assert (report.state, report.reason, report.exit_code) == (State.CANCELLED, Reason.CANCELLED, 0)
    assert host.output(attempt) == b"up\nint\n"
