"""What reaches a task, arguments and environment to the byte, and what it wrote back again."""

from __future__ import annotations

import os
import pwd
import signal
import sys
import time
from pathlib import Path

from tests.cluster import Cluster, is_alive, wait_until
from tests.e2e.tasks import Gate

# Not UTF-8, spaces, quotes, newlines, what shells and options would take for theirs.
ODD = [
    b"\xff\xfe",
    b"a b",
    b"'\"`$HOME\\",
    b"two\nlines\n",
    b"",
    b"--json",
    b"-",
    b"*",
    "ü".encode(),
]
WRITE_ARGUMENTS = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


def environment_of(output: bytes) -> dict[bytes, bytes]:
    """What `env -0` printed."""
    return dict(pair.split(b"=", 1) for pair in output.split(b"\0") if pair)


def test_arguments_arrive_byte_for_byte_and_output_comes_back_so(shared: Cluster) -> None:
    result = shared.titan("run", sys.executable, "-c", WRITE_ARGUMENTS, *ODD)
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"\0".join(ODD)
    assert shared.ok("logs", "last") == result.stdout
    view = shared.json("show", "last")
    assert view["command"][3] == "\ufffd\ufffd"
    assert view["command"][6] == "two\nlines\n"
    # On a terminal's side nothing acts: a newline in a name is no new line.
    assert b"two\\nlines" in shared.ok("show", "last")


def test_a_directory_whose_name_is_not_utf8_is_where_the_task_runs(
    shared: Cluster, tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff \n'"
    os.mkdir(odd)
    result = shared.titan("run", "pwd", cwd=odd)
    assert (result.returncode, result.stdout) == (0, odd + b"\n")
    assert shared.titan("run", "--cwd", odd, "pwd").stdout == odd + b"\n"


def test_the_environment_is_the_accounts_then_the_exported_then_the_chosen_then_titans(
    shared: Cluster,
) -> None:
    mine = {**shared.environment, "PATH": "/mine", "LANG": "xx_XX", "SECRET": "no", "EXTRA": "e"}
    options = ["--name", "n", "--cpus", "0.5", "--memory", "16M", "--env", "A=b=c\n"]
    env_command = ["/usr/bin/env", "-0"]
    result = shared.titan("run", *options, *env_command, env=mine)
    told = environment_of(result.stdout)
    account = pwd.getpwuid(os.geteuid())
    assert told.pop(b"PATH").startswith(b"/mine:"), "the worker's own is appended"
    # Of those two only the first has gpus, and the task asked for none of them.
    assert (
        told.pop(b"CUDA_VISIBLE_DEVICES", None)
        == {b"w1": b"", b"w2": None}[told.pop(b"TITAN_WORKER")]
    )
    assert told.pop(b"TMPDIR")
    assert told.pop(b"VIRTUAL_ENV", b"") == os.environb.get(b"VIRTUAL_ENV", b"")
    assert told.pop(b"TITAN_JOB_ID").isdigit()
    assert told == {
        b"HOME": os.fsencode(account.pw_dir),
        b"USER": os.fsencode(account.pw_name),
        b"SHELL": os.fsencode(account.pw_shell),
        b"LANG": b"xx_XX",
        b"A": b"b=c\n",
        b"TITAN_JOB_NAME": b"n",
        b"TITAN_TASK_INDEX": b"0",
        b"TITAN_ATTEMPT": b"1",
        b"TITAN_CPUS": b"0.5",
        b"TITAN_MEMORY_BYTES": b"16777216",
        b"TITAN_MANAGER": shared.address.encode(),
    }
    for export, names in (("NONE", set()), ("EXTRA,ABSENT", {b"EXTRA"}), ("ALL", {b"SECRET"})):
        output = shared.titan("run", "--export", export, *env_command, env=mine).stdout
        told = environment_of(output)
        assert names <= set(told), export
        assert (b"SECRET" in told) == (export == "ALL")
        assert told[b"HOME"] == os.fsencode(account.pw_dir) or export == "ALL"


def test_an_array_knows_its_index_and_how_many_there_are(shared: Cluster) -> None:
    line = 'echo "$TITAN_TASK_INDEX of $TITAN_ARRAY_COUNT"'
    output = shared.ok("run", "--array", "3-9:3", "--shell", line)
    lines = sorted(line.partition(b"| ")[2] for line in output.splitlines())
    assert lines == [b"3 of 3", b"6 of 3", b"9 of 3"]


def test_logs_gives_stdout_and_stderr_apart_and_lines_from_the_end(shared: Cluster) -> None:
    job = str(shared.submit("--shell", r"printf 'a\nb\n\377\000c'; printf 'e1\ne2\n' >&2"))
    shared.ok("wait", job)
    both = shared.titan("logs", job)
    assert (both.stdout, both.stderr) == (b"a\nb\n\xff\0c", b"e1\ne2\n")
    only_out, only_err = (
        shared.titan("logs", "--stdout", job),
        shared.titan("logs", "--stderr", job),
    )
    assert (only_out.stdout, only_out.stderr) == (both.stdout, b"")
    assert (only_err.stdout, only_err.stderr) == (b"", both.stderr)
    tail = shared.titan("logs", "--tail", "1", job)
    assert (tail.stdout, tail.stderr) == (b"\xff\0c", b"e2\n")
    assert shared.titan("logs", "--attempt", "1", job).stdout == both.stdout
    assert shared.titan("logs", "--attempt", "2", job).stdout == b""


def test_logs_of_an_array_prefix_every_line_with_its_task(shared: Cluster) -> None:
    job = shared.submit("--array", "0-2", "--shell", r"printf 'x\ny'; echo e >&2")
    shared.ok("wait", str(job))
    for arguments in (["logs", str(job)], ["logs", "-f", str(job)]):
        result = shared.titan(*arguments)
        expected = [f"{job}.{index}| {text}" for index in range(3) for text in "xy"]
        assert sorted(result.stdout.decode().splitlines()) == expected
        assert sorted(result.stderr.decode().splitlines()) == [f"{job}.{i}| e" for i in range(3)]
    assert shared.ok("logs", f"{job}.1") == b"x\ny"


def test_followed_logs_come_while_the_task_writes_and_end_with_it(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    job = shared.submit("--shell", f"echo first; {gate.line('printf last')}")
    gate.wait_runs(1)
    with shared.popen("logs", "-f", str(job)) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"first\n"
        assert following.poll() is None
        gate.open()
        assert following.communicate(timeout=60) == (b"last", b"")
        assert following.returncode == 0


def test_a_cancelled_job_loses_its_whole_group_after_the_grace(
    shared: Cluster, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    # The task and its child ignore SIGTERM; a second child left the group.
    loop = f"trap '' TERM; echo $$ >> {pids}; while :; do sleep 0.05; done"
    line = f'sh -c "{loop.replace("$", chr(92) + "$")}" & {loop}'
    job = str(shared.submit("--shell", line))
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    found = [int(pid) for pid in pids.read_text().split()]
    wait_until(lambda: shared.json("show", job)["state"] == "RUNNING", "that is known")
    # So long that it is not over while the test looks.
    said = shared.ok("cancel", "--grace", "10m", job)
    assert said.startswith(f"Cancelling job {job}".encode())
    with shared.client() as client:
        view = client.show(job)
    assert (view["state"], view["cancel_requested"]) == ("RUNNING", True)
    assert b"RUNNING (cancelling)" in shared.ok("show", job)
    began = time.monotonic()
    shared.ok("cancel", "--grace", "5s", job)
    assert shared.titan("wait", job).returncode == 130
    assert time.monotonic() - began > 4.9, "SIGTERM first, and the grace"
    assert not any(is_alive(pid) for pid in found)
    view = shared.json("show", job)
    assert (view["state"], view["reason"]) == ("CANCELLED", "CANCELLED")
    again = shared.titan("cancel", job)
    assert again.returncode == 0
    assert b"already ended" in again.stdout
    (outcome,) = shared.json("cancel", job)
    assert outcome == {"job_id": int(job), "state": "CANCELLED", "exit_code": None}


def test_a_job_cancelled_while_it_waits_ends_at_once_and_never_runs(
    shared: Cluster, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    jobs = [shared.submit("--name", "never", "--cpus", "50", "touch", str(ran)) for _ in range(2)]
    assert shared.ok("cancel", "--name", "never", "--state", "PENDING").count(b"Cancelled job") == 2
    assert shared.titan("wait", *map(str, jobs)).returncode == 130
    assert shared.json("show", str(jobs[0]))["attempts"] == []
    assert not ran.exists()


def test_ctrl_c_cancels_the_job_of_run_and_a_second_one_leaves(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    running = shared.popen("run", "--name", "stopped", "--shell", f"echo up; {gate.line()}")
    ((pid, _),) = gate.wait_runs(1)
    # It shows the output, so it has heard which job that is, and everything is in place.
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    running.send_signal(signal.SIGINT)
    out, told = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, b"")
    assert b"Traceback" not in told
    assert b"cancelling job" in told
    assert not is_alive(pid)
    assert shared.json("show", "name:stopped")["state"] == "CANCELLED"

    stubborn = Gate(tmp_path, "stubborn")
    running = shared.popen("run", "--shell", f"trap '' TERM INT; echo up; {stubborn.line()}")
    ((pid, name),) = stubborn.wait_runs(1)
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    assert running.stderr is not None
    running.send_signal(signal.SIGINT)
    assert b"Ctrl-C again leaves at once" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in told
    job = name.partition(".")[0]
    shared.ok("cancel", "--grace", "0", job)
    assert shared.titan("wait", job).returncode == 130


def test_a_pipe_that_is_closed_ends_a_command_quietly(shared: Cluster) -> None:
    job = str(shared.submit("--shell", "yes | head -c 3000000"))
    shared.ok("wait", job)
    with shared.popen("logs", job) as command:
        assert command.stdout is not None
        assert command.stdout.read(2) == b"y\n"
        command.stdout.close()
        assert command.stderr is not None
        assert command.stderr.read() == b""
        assert command.wait(60) != 1
