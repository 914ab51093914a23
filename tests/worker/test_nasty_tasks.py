"""Tasks as nobody wishes them: each ends as it should, with the true reason, and leaves nothing.

Each runs under two real task hosts: one with the control groups that this machine has, one that
finds none. One host runs them all, so that what one of them breaks shows in those after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import strays
from tests.crash.small_disk import skip_unless_ci
from tests.worker.builders import launch
from tests.worker.host_driver import HostDriver, wait_for
from tests.worker.test_host_output import path_of, pieces_of, taken_bytes
from titan.model import AttemptKey, Execution, Reason, State, StopMode
from titan.worker import processes
from titan.worker.host.cgroup_mounts import find_hierarchies
from titan.worker.messages import Launch

MIB = 1 << 20
OUTPUT_CAP = MIB
GROUPS, WATCHED = "groups", "watched"
CONTROLLERS = {name for each in find_hierarchies()[0] for name in each.controllers}


class Host(NamedTuple):
    """A task host, and a place for what its tasks need."""

    driver: HostDriver
    place: Path


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """One with control groups and one without; neither leaves a process or a group."""
    base = tmp_path_factory.mktemp("nasty")
    made = {}
    without = ("unshare", "--mount", "sh", "-c", 'umount -a -t cgroup,cgroup2; exec "$@"', "sh")
    with strays.nothing_left(base):
        for kind in (GROUPS, WATCHED):
            path, place = base / kind, base / f"{kind} place"
            path.mkdir()
            place.mkdir()
            (place / "orphan").write_text("#!/no/such/interpreter\n")
            (place / "orphan").chmod(0o755)
            made[kind] = Host(HostDriver(path), place)
            made[kind].driver.start(under=without if kind == WATCHED and CONTROLLERS else ())
            made[kind].driver.connect(output_max_bytes=OUTPUT_CAP)
        yield made
        for each in made.values():
            each.driver.close()


_last_job = iter(range(1, 1_000_000))


def run(host: Host, task: Launch) -> AttemptKey:
    """Start it, as a job of its own."""
    job = next(_last_job)
    return host.driver.run_launch(task._replace(job_id=job, cwd=os.fsencode(host.place)))


def check_nothing_left(host: Host) -> None:
    """No process of any task is there, nor anything in a control group."""
    driver = host.driver
    # What forks and exits all the time is easily missed by one look.
    wait_for(lambda: not any(running(host) for _ in range(5)), "what the task has left to be gone")
    in_groups = [Path(group, "cgroup.procs") for group in strays.find_groups(driver.path)]
    wait_for(lambda: not any(map(read_if_there, in_groups)), "empty groups")


def running(host: Host) -> list[int]:
    """All that has come of its tasks."""
    assert host.driver.process is not None
    return list(strays.read_descendants(host.driver.process.pid))


def read_if_there(path: Path) -> str:
    """What is in it; the host removes a group at any moment."""
    try:
        return path.read_text()
    except OSError:
        return ""


# The table --------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A task, and how it must end."""

    name: str
    task: Launch
    state: State
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    """What the sentence says among others."""
    cancel_grace_ms: int | None = None
    """It is cancelled when it has written a line; None: it is not."""
    time_limit_ms: int | None = None
    """It is given that limit when it has written a line, however late it began."""
    controller: str = ""
    """Without it, it cannot be run."""


def sh(line: str, **options: Any) -> Launch:
    return launch("sh", "-c", line, **options)


def python(code: str, *arguments: str, **options: Any) -> Launch:
    return launch(sys.executable, "-c", code, *arguments, **options)


# Doubles until it is refused, each process for itself; the first one says then that it was.
BOMB = """
import os, sys, time
while True:
    try:
        if not os.fork():
            while True:
                try: os.fork()
                except BlockingIOError: time.sleep(0.01)
    except BlockingIOError:
        sys.exit(7)
"""
HOG = "b = bytearray(300 << 20); import time; time.sleep(300)"
HOG_MEMORY = 100 * MIB
# The first process stays until the second has forked and gone on as the third, and so on, often;
# which it does for ever, so that nobody who looks for it finds it twice.
FORK_LOOP = """
import os, time
reader, writer = os.pipe()
if not os.fork():
    generation = 0
    while True:
        generation += 1
        if generation == 20: os.write(1, b"up\\n"); os.write(writer, b".")
        if os.fork(): os._exit(0)
        ESCAPE
os.read(reader, 1)
END
"""
FORK_LOOPS = {
    "forks for ever": FORK_LOOP.replace("ESCAPE", "pass"),
    "forks for ever into sessions of its own": FORK_LOOP.replace("ESCAPE", "os.setsid()"),
}
# A daemon: without parent, in a session of its own, and nobody reads what it says.
DAEMON = (
    "(setsid sh -c 'echo > away; exec sleep 300' </dev/null >/dev/null 2>&1 &);"
    " while [ ! -e away ]; do sleep 0.01; done; rm away; "
)
# It hides whose it is in every way.
HIDDEN = DAEMON.replace("setsid", "env -i setsid")

DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"

LIMITS = (
    Case(
        "a fork bomb",
        python(BOMB, execution=Execution(pids_max=40)),
        State.FAILED,
        Reason.EXIT,
        exit_code=7,
        detail="it was refused more than 40 processes (--pids-limit)",
        controller="pids",
    ),
    Case(
        "allocates too much",
        python(HOG, memory_bytes=HOG_MEMORY),
        State.FAILED,
        Reason.OOM,
        signal=signal.SIGKILL,
        detail="out of its 100M of memory",
    ),
    Case(
        "a daemon of it allocates too much",
        sh(f'(setsid {sys.executable} -c "{HOG}" &); sleep 300', memory_bytes=HOG_MEMORY),
        State.FAILED,
        Reason.OOM,
        signal=signal.SIGKILL,
        detail="out of its 100M of memory",
    ),
    Case(
        "a child without environment allocates too much",
        sh(f'env -i setsid {sys.executable} -c "{HOG}" & sleep 300', memory_bytes=HOG_MEMORY),
        State.FAILED,
        Reason.OOM,
        signal=signal.SIGKILL,
        detail="out of its 100M of memory",
    ),
    Case(
        "a daemon without environment allocates too much",
        sh(f'(env -i setsid {sys.executable} -c "{HOG}" &); sleep 300', memory_bytes=HOG_MEMORY),
        State.FAILED,
        Reason.OOM,
        signal=signal.SIGKILL,
        detail="out of its 100M of memory",
        controller="memory",
    ),
    Case(
        "kills itself, with memory to spare",
        sh("kill -KILL $$", memory_bytes=HOG_MEMORY),
        State.FAILED,
        Reason.SIGNAL,
        signal=signal.SIGKILL,
        detail="killed by SIGKILL",
    ),
    Case(
        "raises its own soft limit",
        python(
            "import os, resource\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
            "try:\n"
            "    while True: last = os.dup(0)\n"
            "except OSError:\n"
            "    raise SystemExit(last)\n",
            execution=Execution(ulimits=(("nofile", 20, 40),)),
        ),
        State.FAILED,
        Reason.EXIT,
        exit_code=39,
    ),
)

STOPS = (
    Case(
        "is deaf to SIGTERM and cancelled",
        sh(DEAF),
        State.CANCELLED,
        Reason.CANCELLED,
        signal=signal.SIGKILL,
        cancel_grace_ms=50,
    ),
    Case(
        "is deaf to SIGTERM at its time limit",
        sh(DEAF, grace_ms=50),
        State.FAILED,
        Reason.TIMEOUT,
        signal=signal.SIGKILL,
        time_limit_ms=200,
    ),
    Case(
        "exits with 0 when it is cancelled",
        sh("trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"),
        State.CANCELLED,
        Reason.CANCELLED,
        exit_code=0,
        cancel_grace_ms=60_000,
    ),
    Case(
        "has stopped itself and is cancelled",
        sh("echo up; kill -STOP $$; exit 3"),
        State.CANCELLED,
        Reason.CANCELLED,
        signal=signal.SIGTERM,
        cancel_grace_ms=60_000,
    ),
    Case(
        "has a stopped child in a session of its own and is cancelled",
        sh(
            "setsid sh -c 'kill -STOP $$' & trap '' TERM;"
            " until grep -q '^State:.T' /proc/$!/status; do sleep 0.01; done;"
            " echo up; wait; sleep 300"
        ),
        State.CANCELLED,
        Reason.CANCELLED,
        signal=signal.SIGKILL,
        cancel_grace_ms=50,
    ),
    Case(
        "gives its children process groups and is cancelled",
        launch("bash", "-m", "-c", "sleep 300 & sleep 300 | sleep 300 & echo up; wait"),
        State.CANCELLED,
        Reason.CANCELLED,
        signal=signal.SIGTERM,
        cancel_grace_ms=60_000,
    ),
    Case(
        "gives its children process groups and leaves them",
        launch("bash", "-m", "-c", "sleep 300 & sleep 300 | sleep 300 & exit 3"),
        State.FAILED,
        Reason.EXIT,
        exit_code=3,
    ),
    Case(
        "is called so that its entry in /proc is hard to read, and is cancelled",
        sh("printf 'a) Z 1 (\\n' > /proc/$$/comm; setsid sleep 300 & echo up; wait"),
        State.CANCELLED,
        Reason.CANCELLED,
        signal=signal.SIGTERM,
        cancel_grace_ms=60_000,
    ),
    *(
        Case(
            f"{name} while it is cancelled, {how}",
            python(code.replace("END", "time.sleep(300)"), memory_bytes=memory_bytes),
            State.CANCELLED,
            Reason.CANCELLED,
            signal=number,
            cancel_grace_ms=grace_ms,
        )
        for name, code in FORK_LOOPS.items()
        for how, memory_bytes in (("limited", 512 * MIB), ("not limited", 0))
        for grace_ms, number in ((0, signal.SIGKILL),)
    ),
)

LEAVERS = (
    Case(
        "leaves a daemon",
        sh(DAEMON),
        State.COMPLETED,
        Reason.EXIT,
        exit_code=0,
    ),
    Case("leaves a daemon that hides", sh(HIDDEN), State.COMPLETED, Reason.EXIT, exit_code=0),
    Case(
        "leaves a child that holds its output open",
        sh("sleep 300 & exit 0"),
        State.COMPLETED,
        Reason.EXIT,
        exit_code=0,
    ),
    Case(
        "leaves a child that has stopped",
        sh(DAEMON.replace("exec sleep 300", "kill -STOP $$") + "exit 2"),
        State.FAILED,
        Reason.EXIT,
        exit_code=2,
    ),
    *(
        Case(
            f"{name} after its end",
            python(code.replace("END", "os._exit(6)")),
            State.FAILED,
            Reason.EXIT,
            exit_code=6,
        )
        for name, code in FORK_LOOPS.items()
    ),
)

OTHERS = (
    Case(
        "goes on without stdout and stderr",
        sh("exec >&- 2>&-; sleep 0.05; exit 4"),
        State.FAILED,
        Reason.EXIT,
        exit_code=4,
    ),
    Case(
        "is not executable",
        launch("/etc/passwd"),
        State.FAILED,
        Reason.LAUNCH_ERROR,
        detail="cannot run /etc/passwd on w1: Permission denied; is it executable?",
    ),
    Case(
        "is a directory",
        launch("/etc"),
        State.FAILED,
        Reason.LAUNCH_ERROR,
        detail="cannot run /etc on w1",
    ),
    Case(
        "has no interpreter",
        launch("./orphan"),
        State.FAILED,
        Reason.LAUNCH_ERROR,
        detail="the interpreter in its #! line is missing",
    ),
    Case(
        "writes a core",
        sh("ulimit -c unlimited; kill -ABRT $$"),
        State.FAILED,
        Reason.SIGNAL,
        signal=signal.SIGABRT,
        detail="killed by SIGABRT (signal 6)",
    ),
    Case(
        "reads what is not there",
        python("import ctypes; ctypes.string_at(0)"),
        State.FAILED,
        Reason.SIGNAL,
        signal=signal.SIGSEGV,
        detail="killed by SIGSEGV (signal 11)",
    ),
    Case(
        "becomes another program",
        sh("exec sh -c 'exec sh -c \"exit 9\"'"),
        State.FAILED,
        Reason.EXIT,
        exit_code=9,
    ),
    Case(
        "removes its directory and its output",
        sh(
            "mkdir gone && cd gone && rmdir ../gone && rm $(readlink /proc/$$/fd/1 /proc/$$/fd/2)"
            " && echo lost && exit 5"
        ),
        State.FAILED,
        Reason.EXIT,
        exit_code=5,
    ),
    Case(
        "has ten thousand arguments",
        launch("sh", "-c", "test $# = 10000 && exit 8", "sh", *map(str, range(10_000))),
        State.FAILED,
        Reason.EXIT,
        exit_code=8,
    ),
    Case("exits with 255", sh("exit 255"), State.FAILED, Reason.EXIT, exit_code=255),
    Case(
        "signals all of its group",
        sh("sleep 300 & kill -TERM 0; sleep 300"),
        State.FAILED,
        Reason.SIGNAL,
        signal=signal.SIGTERM,
    ),
)

CASES = (*LIMITS, *STOPS, *LEAVERS, *OTHERS)
RUNS = [(GROUPS, case) for case in CASES] + [(WATCHED, c) for c in CASES if not c.controller]


@pytest.mark.parametrize(("kind", "case"), RUNS, ids=[f"{case.name}-{kind}" for kind, case in RUNS])
def test_a_nasty_task_ends_as_it_should_and_leaves_nothing(
    kind: str, case: Case, hosts: dict[str, Host]
) -> None:
    if case.controller and case.controller not in CONTROLLERS:
        skip_unless_ci(f"control groups for {case.controller} cannot be made here")
    host = hosts[kind]
    attempt = run(host, case.task)
    if case.cancel_grace_ms is not None:
        host.driver.wait_output(attempt)
        host.driver.stop(attempt, grace_ms=case.cancel_grace_ms)
    if case.time_limit_ms is not None:
        host.driver.wait_output(attempt)
        host.driver.stop(attempt, mode=StopMode.LIMIT, time_limit_ms=case.time_limit_ms)
    report = host.driver.wait_end(attempt)
    told = (report.state, report.reason, report.exit_code, report.signal)
    assert told == (case.state, case.reason, case.exit_code, case.signal), report
    assert case.detail in report.detail
    check_nothing_left(host)


# What more than the table says ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [GROUPS, WATCHED])
def test_one_that_fills_its_output_at_full_speed_is_kept_to_its_cap_until_its_time_is_over(
    kind: str, hosts: dict[str, Host]
) -> None:
    host = hosts[kind]
    attempt = run(host, launch("yes", "full", grace_ms=60_000))
    path = path_of(host.driver, attempt)
    wait_for(lambda: path.exists() and path.stat().st_size > 50 * MIB, "much output")
    host.driver.stop(attempt, mode=StopMode.LIMIT, time_limit_ms=800)
    report = host.driver.wait_end(attempt)
    assert (report.reason, report.signal) == (Reason.TIMEOUT, signal.SIGTERM)
    head, hole, tail = pieces_of(host.driver, attempt)
    assert hole.hole_bytes > OUTPUT_CAP
    assert head.data == (b"full\n" * len(head.data))[: len(head.data)]
    lines = b"full\n" * (len(tail.data) // 5 + 2)
    assert tail.data in lines
    assert tail.offset + len(tail.data) == path.stat().st_size
    assert taken_bytes(path) <= OUTPUT_CAP
    check_nothing_left(host)


@pytest.mark.parametrize("kind", [GROUPS, WATCHED])
def test_a_daemon_without_environment_is_known_by_its_output(
    kind: str, hosts: dict[str, Host]
) -> None:
    host = hosts[kind]
    other = run(host, sh("echo up; exec sleep 300"))
    host.driver.wait_output(other)
    talkative = HIDDEN.replace(">/dev/null 2>&1", "")
    cancelled = run(host, sh(talkative + "echo up; exec sleep 300"))
    host.driver.wait_output(cancelled)
    assert len(running(host)) == 3
    host.driver.stop(cancelled, grace_ms=60_000)
    host.driver.wait_end(cancelled)
    wait_for(lambda: len(running(host)) == 1, "the daemon to end with its task")
    assert host.driver.wait_end(run(host, sh(talkative))).state is State.COMPLETED
    wait_for(lambda: len(running(host)) == 1, "the daemon to end with its task")
    host.driver.stop(other)
    host.driver.wait_end(other)
    check_nothing_left(host)


@pytest.mark.parametrize("kind", [GROUPS, WATCHED])
def test_a_daemon_that_hides_ends_with_the_last_task_that_it_could_be_of(
    kind: str, hosts: dict[str, Host]
) -> None:
    host = hosts[kind]
    older = run(host, sh("echo up; exec sleep 300"))
    host.driver.wait_output(older)
    assert host.driver.wait_end(run(host, sh(HIDDEN))).state is State.COMPLETED
    # A start is known to the hundredth of a second: in that of its own it could be of the younger.
    ended = processes.now_ticks()
    wait_for(lambda: processes.now_ticks() > ended, "the clock to go on")
    younger = run(host, sh("echo up; exec sleep 300"))
    host.driver.wait_output(younger)
    assert len(running(host)) == 3
    host.driver.stop(older)
    host.driver.wait_end(older)
    wait_for(lambda: len(running(host)) == 1, "the daemon to end with the older task")
    host.driver.stop(younger)
    host.driver.wait_end(younger)
    check_nothing_left(host)


def test_a_daemon_that_hides_ends_at_once_with_a_task_that_has_a_control_group(
    hosts: dict[str, Host],
) -> None:
    if not CONTROLLERS:
        skip_unless_ci("control groups cannot be made here")
    host = hosts[GROUPS]
    other = run(host, sh("echo up; exec sleep 300"))
    host.driver.wait_output(other)
    limited = run(host, sh(HIDDEN, memory_bytes=HOG_MEMORY))
    assert host.driver.wait_end(limited).state is State.COMPLETED
    wait_for(lambda: len(running(host)) == 1, "the daemon to end")
    host.driver.stop(other)
    host.driver.wait_end(other)
    check_nothing_left(host)
