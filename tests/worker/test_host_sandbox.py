"""Tasks in bubblewrap, by a real task host: what they can reach, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import strays
from tests.crash.small_disk import skip_unless_ci
from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, state_of, wait_for
from tests.worker.isolation import find, require_bubblewrap
from titan.model import (
    PLAIN,
    AttemptKey,
    Execution,
    Reason,
    Sandbox,
    ScriptSource,
    State,
    StopMode,
)
from titan.worker.host import sandbox_init
from titan.worker.messages import Environment, Launch

MIB = 1 << 20
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def module_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostDriver]:
    """One for all: what one task breaks shows in those after it."""
    require_bubblewrap()
    base = tmp_path_factory.mktemp("sandbox")
    with strays.nothing_left(base):
        driver = HostDriver(base)
        driver.start()
        welcome = driver.connect(output_max_bytes=MIB)
        assert welcome.sandboxes == (Sandbox.BUBBLEWRAP,)
        yield driver
        driver.close()


class Sandboxed:
    """Runs lines of shell in sandboxes, each in the same directory."""

    _jobs = 0

    def __init__(self, host: HostDriver, directory: Path) -> None:
        self.host = host
        self.directory = directory

    def launch(self, *words: str, execution: Execution = PLAIN, **more: Any) -> Launch:
        Sandboxed._jobs += 1
        more.setdefault("cwd", os.fsencode(self.directory))
        return launch(
            *words,
            job_id=Sandboxed._jobs,
            execution=execution._replace(sandbox=Sandbox.BUBBLEWRAP),
            **more,
        )

    def start(self, line: str, execution: Execution = PLAIN, **more: Any) -> AttemptKey:
        return self.host.run_launch(self.launch("sh", "-c", line, execution=execution, **more))

    def output(self, line: str, execution: Execution = PLAIN, **more: Any) -> str:
        """What it writes; it has to end well."""
        attempt = self.start(f"exec 2>&1; {line}", execution, **more)
        report = self.host.wait_end(attempt)
        said = self.host.output(attempt).decode()
        assert report.state is State.COMPLETED, (report, said)
        return said


@pytest.fixture
def sandbox(module_host: HostDriver, tmp_path: Path) -> Sandboxed:
    return Sandboxed(module_host, tmp_path)


def test_it_can_write_to_its_directory_and_to_a_tmp_of_its_own_alone(
    sandbox: Sandboxed, tmp_path: Path
) -> None:
    line = (
        "for path in here /tmp/mine /etc/theirs /usr/theirs /var/tmp/theirs; do"
        " (echo x > $path) 2>/dev/null && echo wrote $path; done; ls /tmp"
    )
    said = sandbox.output(line).splitlines()
    # Of the machine's /tmp there is only the way to its directory.
    below_tmp = tmp_path.parts[2] if tmp_path.parts[1] == "tmp" else ""
    assert said == ["wrote here", "wrote /tmp/mine", *sorted(filter(None, ["mine", below_tmp]))]
    assert (tmp_path / "here").read_text() == "x\n"
    assert not Path("/tmp/mine").exists()


@pytest.mark.parametrize("where", ["elsewhere", "above", "inside"])
def test_it_does_not_reach_the_workers_own_directory(where: str) -> None:
    """Its socket takes whoever comes last for the agent, and starts what he says."""
    require_bubblewrap()
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        path = place / "worker"
        (path / "inside").mkdir(parents=True)
        cwd = {"elsewhere": Path("/"), "above": place, "inside": path / "inside"}[where]
        with strays.nothing_left(path):
            driver = HostDriver(path)
            driver.start()
            driver.connect(output_max_bytes=MIB)
            assert (path / "host.sock").is_socket()
            sandbox = Sandboxed(driver, cwd)
            there = sandbox.output(f"ls -A {path}; touch written || :")
            assert "host.sock" not in there
            assert (cwd / "written").exists() == (where != "elsewhere")
            driver.close()
    finally:
        shutil.rmtree(place)


def test_it_sees_its_own_processes_devices_and_host_name_alone(sandbox: Sandboxed) -> None:
    said = sandbox.output("ls /proc | grep -c '^[0-9]'; ls /dev; hostname other 2>/dev/null; :")
    processes, *devices = said.split()
    assert int(processes) <= 5
    assert {"null", "zero", "urandom"} <= set(devices)
    assert "mem" not in devices
    assert os.uname().nodename != "other"


@pytest.mark.parametrize(
    ("status", "number"), [(0, (1 << 64) - 1), (0x7E, 0), (0x137F, 0), (-1, 0)]
)
def test_what_can_not_be_is_not_believed(sandbox: Sandboxed, status: int, number: int) -> None:
    """What runs in there can write to what its process 1 tells by."""
    report = sandbox_init.REPORT.pack(True, status, number, number, number)
    program = (
        "import os\nfor each in os.listdir('/proc/1/fd'):\n"
        " path = '/proc/1/fd/' + each\n"
        f" if os.readlink(path)[:4] == 'pipe': open(path, 'wb').write({report!r})"
    )
    attempt = sandbox.host.run_launch(sandbox.launch("python3", "-c", program))
    end = sandbox.host.wait_end(attempt)
    assert (end.state, end.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert end.detail == "what was told of its end from inside its sandbox can't be"
    assert max(end.cpu_user_us, end.cpu_system_us, end.max_rss_bytes) < 1 << 63


def test_it_cannot_undo_that_even_as_root(sandbox: Sandboxed) -> None:
    line = "mount -o remount,rw / && echo remounted; grep -h CapEff /proc/self/status; :"
    said = sandbox.output(line)
    assert "remounted" not in said
    assert said.split()[-1].strip("0") == ""


def test_the_network_is_there_unless_it_is_to_be_without(sandbox: Sandboxed) -> None:
    line = "cat /proc/net/dev | grep -c :"
    without = sandbox.output(line, Execution(no_network=True))
    assert without == "1\n"
    assert sandbox.output("readlink /proc/self/ns/net") == os.readlink("/proc/self/ns/net") + "\n"
    assert sandbox.output("readlink /proc/self/ns/net", Execution(no_network=True)) != (
        os.readlink("/proc/self/ns/net") + "\n"
    )


def test_the_root_directory_is_read_only_even_for_who_runs_there(sandbox: Sandboxed) -> None:
    said = sandbox.output("pwd; touch /etc/theirs 2>/dev/null || echo no", cwd=b"/")
    assert said == "/\nno\n"


def test_its_environment_is_that_of_any_task(sandbox: Sandboxed) -> None:
    said = sandbox.output("env").splitlines()
    names = {line.partition("=")[0] for line in said}
    assert {"TITAN_JOB_ID", "HOME", "PATH"} <= names
    assert "TMPDIR=/tmp" in said
    assert "LC_CTYPE" not in names


@pytest.mark.parametrize("code", [7, 129, 137, 255])
def test_its_exit_code_is_the_commands(sandbox: Sandboxed, code: int) -> None:
    report = sandbox.host.wait_end(sandbox.start(f"exit {code}"))
    assert (report.state, report.reason) == (State.FAILED, Reason.EXIT)
    assert (report.exit_code, report.signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_that_ends_it_is_told(sandbox: Sandboxed, number: int) -> None:
    report = sandbox.host.wait_end(sandbox.start(f"ulimit -c 0; kill -{int(number)} $$"))
    assert (report.state, report.reason) == (State.FAILED, Reason.SIGNAL)
    assert (report.exit_code, report.signal) == (None, number)


def words_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_what_waits_for_it_may_be_killed_before_it(sandbox: Sandboxed) -> None:
    marker = f"86405.{os.getpid()}"
    attempt = sandbox.host.run_launch(sandbox.launch("sleep", marker))
    # bwrap, the process 1 in there and the command, each with the words of the next in its own.
    wait_for(lambda: len(find(marker)) == 3, "it to run")
    # Until the last is a program of its own, it has the words of the process 1.
    wait_for(lambda: [b"sleep"] in [words_of(pid)[:1] for pid in find(marker)], "the command")
    (first,) = [pid for pid in find(marker) if words_of(pid)[1] == b"-I"]
    os.kill(first, signal.SIGKILL)
    report = sandbox.host.wait_end(attempt)
    assert (report.reason, report.exit_code, report.signal) == (Reason.SIGNAL, None, 9)


def test_what_it_used_is_told(sandbox: Sandboxed) -> None:
    python = "import os; x = b'x' * (60 << 20); sum(range(3_000_000)); print(len(x))"
    runs = sandbox.launch("/usr/bin/env", "python3", "-c", python)
    report = sandbox.host.wait_end(sandbox.host.run_launch(runs))
    assert report.state is State.COMPLETED
    assert report.max_rss_bytes > 50 * MIB
    assert report.cpu_user_us > 10_000


def test_too_much_memory_is_told_as_such(sandbox: Sandboxed) -> None:
    python = "x = [bytearray(b'x' * (1 << 20)) for _ in range(400)]"
    runs = sandbox.launch("python3", "-c", python, memory_bytes=64 * MIB)
    report = sandbox.host.wait_end(sandbox.host.run_launch(runs))
    assert (report.state, report.reason) == (State.FAILED, Reason.OOM)


def test_its_processes_are_as_many_as_it_asked_for(sandbox: Sandboxed) -> None:
    if "pids: cgroup" not in sandbox.host.log():
        skip_unless_ci("this worker may not make control groups for pids")
    # A shell, and what it starts.
    execution = Execution(pids_max=2)
    assert sandbox.output("sleep 0; echo fine", execution) == "fine\n"
    attempt = sandbox.start("sleep 9 & sleep 0", execution)
    report = sandbox.host.wait_end(attempt)
    assert report.state is State.FAILED
    assert "refused more than 2 processes" in report.detail


def test_it_is_told_to_end_and_may_say_how(sandbox: Sandboxed) -> None:
    line = "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.01; done"
    attempt = sandbox.start(line)
    sandbox.host.wait_output(attempt)
    sandbox.host.stop(attempt, grace_ms=DAY_MS)
    report = sandbox.host.wait_end(attempt)
    assert (report.state, report.exit_code) == (State.CANCELLED, 3)
    assert sandbox.host.output(attempt) == b"up\nasked\n"


def test_the_end_of_its_time_is_told_like_any_other(sandbox: Sandboxed) -> None:
    line = (
        "trap 'echo soon' USR1; trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    )
    warned = sandbox.launch(
        *("sh", "-c", line),
        time_limit_ms=1500, grace_ms=DAY_MS, end_signal=10, end_signal_before_ms=300,
    )  # fmt: skip
    attempt = sandbox.host.run_listening(warned)
    report = sandbox.host.wait_end(attempt)
    assert (report.state, report.reason) == (State.FAILED, Reason.TIMEOUT)
    assert report.exit_code == 0
    assert sandbox.host.output(attempt) == b"up\nsoon\nend\n"


def test_one_that_does_not_listen_is_killed_with_all_that_came_of_it(sandbox: Sandboxed) -> None:
    marker = f"86400.{os.getpid()}"
    attempt = sandbox.start(f"trap '' TERM; setsid sleep {marker} & echo up; wait")
    sandbox.host.wait_output(attempt)
    wait_for(lambda: len(find(marker)) == 1, "what leaves its group to run")
    sandbox.host.stop(attempt, grace_ms=50)
    report = sandbox.host.wait_end(attempt)
    assert (report.state, report.signal) == (State.CANCELLED, signal.SIGKILL)
    wait_for(lambda: not find(marker), "all in the sandbox to end")


def test_what_it_leaves_ends_with_it(sandbox: Sandboxed) -> None:
    marker = f"86401.{os.getpid()}"
    sandbox.output(f"setsid sleep {marker} >/dev/null 2>&1 & echo up")
    wait_for(lambda: not find(marker), "what it left to end")


def test_its_output_is_kept_below_the_cap(sandbox: Sandboxed) -> None:
    attempt = sandbox.start("head -c 8M /dev/zero; echo end")
    assert sandbox.host.wait_end(attempt).state is State.COMPLETED
    path = os.fsdecode(sandbox.host.output_path(attempt))
    assert os.stat(path).st_size == 8 * MIB + 4
    assert os.stat(path).st_blocks * 512 < 2 * MIB


def test_limits_are_its_own(sandbox: Sandboxed) -> None:
    execution = Execution(ulimits=(("as", 1 << 40, 1 << 40), ("nofile", 20, 30)))
    assert sandbox.output("ulimit -n; ulimit -Hn", execution) == "20\n30\n"


def test_files_that_its_user_names_may_be_anywhere(sandbox: Sandboxed, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    (elsewhere / "in").write_text("given\n")
    execution = Execution(
        stdin=os.fsencode(elsewhere / "in"), stdout=os.fsencode(elsewhere / "out")
    )
    attempt = sandbox.start("cat", execution, cwd=os.fsencode(inside))
    assert sandbox.host.wait_end(attempt).state is State.COMPLETED
    assert (elsewhere / "out").read_text() == "given\n"


def test_a_script_that_comes_with_the_job_runs_in_it(sandbox: Sandboxed) -> None:
    execution = Execution(script_source=ScriptSource.SENT)
    runs = sandbox.launch("a.sh", "1", "2", execution=execution)
    text = b'#!/bin/sh\necho "$@"; [ "$1" = again ] || exec "$0" again\n'
    sent = batch(runs)
    sandbox.host.send_batch(sent._replace(environments=(Environment((), (), text),)))
    attempt = key(runs.job_id)
    assert sandbox.host.wait_end(attempt).state is State.COMPLETED
    assert sandbox.host.output(attempt) == b"1 2\nagain\n"


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/passwd"])
def test_a_program_that_is_not_there_is_no_end_of_it(sandbox: Sandboxed, program: str) -> None:
    report = sandbox.host.wait_end(sandbox.host.run_launch(sandbox.launch(program)))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert report.detail.startswith(f"cannot run {program} in its sandbox: ")
    assert (report.exit_code, report.signal) == (None, None)


def test_it_stands_still_and_goes_on(sandbox: Sandboxed, tmp_path: Path) -> None:
    marker = f"86404.{os.getpid()}"
    attempt = sandbox.start(f"sleep {marker} & while [ ! -e go ]; do sleep 0.01; done; echo went")
    wait_for(lambda: find(marker), "it to run")
    (pid,) = find(marker)
    sandbox.host.stop(attempt, mode=StopMode.SUSPEND)
    wait_for(lambda: state_of(pid) == "T", "it to stand still")
    (tmp_path / "go").touch()
    sandbox.host.stop(attempt, mode=StopMode.RESUME)
    wait_for(lambda: state_of(pid) != "T", "it to go on")
    assert sandbox.host.wait_end(attempt).state is State.COMPLETED


def test_nothing_of_it_outlives_the_host(tmp_path: Path) -> None:
    require_bubblewrap()
    marker = f"86402.{os.getpid()}"
    driver = HostDriver(tmp_path)
    driver.start()
    driver.connect()
    attempt = Sandboxed(driver, tmp_path).start(f"setsid sleep {marker} & echo up; sleep {marker}")
    driver.wait_output(attempt)
    wait_for(lambda: len(find(marker)) == 2, "all of it to run")
    driver.kill()
    wait_for(lambda: not find(marker), "all in the sandbox to end")
    driver.start()
    welcome = driver.connect()
    # It tells of no end, and so the manager takes it for lost.
    assert (welcome.live, welcome.reports) == ((), ())
    driver.close()


def test_without_bwrap_there_is_none(tmp_path: Path) -> None:
    driver = HostDriver(tmp_path)
    driver.start({"PATH": "/no/such/directory"})
    assert driver.connect().sandboxes == ()
    runs = launch("/bin/true", execution=Execution(sandbox=Sandbox.BUBBLEWRAP))
    report = driver.wait_end(driver.run_launch(runs))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert report.detail == "no sandbox on w1: it has no bwrap that works"
    driver.close()
