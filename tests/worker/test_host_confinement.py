"""Limits of real processes, kept by a real task host with whatever this machine has for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.strays import find_groups
from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import Execution, Reason, State
from titan.worker import processes
from titan.worker.host import memory_watch
from titan.worker.host.cgroup_mounts import find_hierarchies
from titan.worker.messages import Launch
from titan.worker.processes import Entry

MIB = 1 << 20
# Allocates and touches so many MiB, then says so and stays.
HOG = "import sys, time; b = bytearray(int(sys.argv[1]) << 20); print('full', flush=True); "


def python(code: str, *arguments: str, **options: object) -> Launch:
    return launch(sys.executable, "-c", code, *arguments, **options)  # type: ignore[arg-type]


def sh(line: str, **options: object) -> Launch:
    return launch("sh", "-c", line, **options)  # type: ignore[arg-type]


def has_controller(name: str) -> bool:
    return any(name in each.controllers for each in find_hierarchies()[0])


def groups_of(driver: HostDriver) -> list[str]:
    """The directories of the host's groups that are there now."""
    return find_groups(driver.path)


def test_what_uses_more_memory_than_it_asked_for_is_ended_as_out_of_memory(
    host: HostDriver,
) -> None:
    small = python(HOG, "10", memory_bytes=64 * MIB)
    large = python(HOG + "time.sleep(300)", "200", memory_bytes=64 * MIB, job_id=2)
    assert host.wait_end(host.run_launch(small)).state is State.COMPLETED
    report = host.wait_end(host.run_launch(large))
    assert (report.state, report.reason, report.signal) == (State.FAILED, Reason.OOM, 9)
    assert report.detail.startswith("out of its 64M of memory")


def test_all_of_a_task_goes_when_a_child_runs_out_of_memory(host: HostDriver) -> None:
    code = (
        "import os, sys, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "hog = 'import time; b = bytearray(200 << 20); time.sleep(300)'\n"
        "subprocess.call([sys.executable, '-c', hog])\n"
        "time.sleep(300)\n"
    )
    attempt = host.run_launch(python(code, memory_bytes=64 * MIB))
    other = int(host.wait_output(attempt))
    report = host.wait_end(attempt)
    assert (report.state, report.reason) == (State.FAILED, Reason.OOM)
    wait_for(lambda: not is_running(other), "the rest of the task to end")


WITHOUT_CGROUPS = ("sh", "-c", 'umount -a -t cgroup,cgroup2; exec "$@"', "sh")


@pytest.fixture
def watched(driver: HostDriver) -> HostDriver:
    """A host that finds no control groups."""
    under: tuple[str, ...] = ()
    if find_hierarchies()[0]:
        under = ("unshare", "--mount", *WITHOUT_CGROUPS)
    driver.start(under=under)
    assert driver.connect().limits == "memory: watched, pids: none, cpu: none"
    return driver


def test_memory_is_watched_where_there_are_no_control_groups(watched: HostDriver) -> None:
    small = python(HOG, "10", memory_bytes=128 * MIB)
    large = python(HOG + "time.sleep(300)", "300", memory_bytes=128 * MIB, job_id=2)
    assert watched.wait_end(watched.run_launch(small)).state is State.COMPLETED
    report = watched.wait_end(watched.run_launch(large))
    assert (report.state, report.reason, report.signal) == (State.FAILED, Reason.OOM, 9)
    assert report.detail.startswith("out of its 128M of memory (it used ")


def test_what_left_session_and_parent_counts_and_goes_with_the_rest(watched: HostDriver) -> None:
    code = (
        "import os, sys, subprocess, time\n"
        "hog = [sys.executable, '-c', sys.argv[1] + 'time.sleep(300)', '300']\n"
        "line = 'setsid \"$@\" & echo $!'\n"
        "pid = subprocess.run(['sh', '-c', line, 'sh', *hog], stdout=subprocess.PIPE).stdout\n"
    )
    # A pipe that stays open would keep the parent waiting.
    code = code.replace("setsid", "exec >&2; setsid").replace("echo $!", "true")
    code += "time.sleep(300)\n"
    report = watched.wait_end(watched.run_launch(python(code, HOG, memory_bytes=128 * MIB)))
    assert (report.state, report.reason) == (State.FAILED, Reason.OOM)


def test_pages_that_processes_share_are_not_counted_for_each_of_them(watched: HostDriver) -> None:
    code = (
        "import os, time\n"
        "data = bytearray(80 << 20)\n"
        "children = [os.fork() for _ in range(1)]\n"
        "for _ in range(3):\n"
        "    if 0 not in children: children.append(os.fork())\n"
        "if 0 in children:\n"
        "    sum(data[::4096]); time.sleep(1.5); os._exit(0)\n"
        "for child in children: os.waitpid(child, 0)\n"
    )
    report = watched.wait_end(watched.run_launch(python(code, memory_bytes=200 * MIB)))
    assert (report.state, report.detail) == (State.COMPLETED, "")


def test_what_has_died_since_it_was_looked_at_uses_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Children that end together would else count in full, pages that they shared as well."""
    watch = memory_watch.MemoryWatch()
    with subprocess.Popen(["sleep", "300"]) as process:
        watch.add(key(), process.pid, 4096)

        def read_entries() -> dict[int, Entry]:
            found = processes.read_entries()
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return found

        ((attempt, _),) = wait_for(watch.look, "it to use something")
        assert attempt == key()
        monkeypatch.setattr(memory_watch, "read_entries", read_entries)
        assert watch.look() == []


@pytest.mark.parametrize(
    ("execution", "option"),
    [(Execution(pids_max=5), "--pids-limit"), (Execution(cpu_limit=True), "--cpu-limit")],
)
def test_a_limit_that_nobody_can_keep_is_refused_at_the_start(
    watched: HostDriver, execution: Execution, option: str
) -> None:
    report = watched.wait_end(watched.run_launch(launch("true", execution=execution)))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert report.detail.startswith(f"{option} cannot be kept here")


needs_pids = pytest.mark.skipif(
    not has_controller("pids"), reason="control groups for pids cannot be made here"
)
needs_cpu = pytest.mark.skipif(
    not has_controller("cpu"), reason="control groups for cpu cannot be made here"
)


@needs_pids
def test_a_fork_bomb_is_kept_to_its_processes_and_gone_with_its_end(host: HostDriver) -> None:
    # It ends once one of them has said that it was refused another, or is refused one itself.
    bomb = "bomb() { bomb | bomb & }; bomb; until grep -qi fork /proc/$$/fd/2; do sleep 0.1; done"
    # Other tests' processes on this machine are of jobs with small numbers.
    task = sh(
        f"{bomb}; exit 7",
        job_id=os.getpid(),
        execution=Execution(pids_max=40),
        time_limit_ms=40_000,
        grace_ms=100,
    )
    attempt = host.run_launch(task)
    report = host.wait_end(attempt)
    assert report.state is State.FAILED
    assert "refused more than 40 processes" in report.detail
    wait_for(lambda: not tagged(attempt.job_id), "what is left of the bomb to end")


def tagged(job_id: int) -> list[int]:
    """The processes that say they belong to the job."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"TITAN_JOB_ID=%d" % job_id in environment and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


@needs_cpu
def test_a_cpu_limit_is_kept_on_a_machine_that_has_more(host: HostDriver) -> None:
    code = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    limited = python(code, cpus_milli=100, execution=Execution(cpu_limit=True))
    report = host.wait_end(host.run_launch(limited))
    assert report.state is State.COMPLETED
    used_us = report.cpu_user_us + report.cpu_system_us
    assert used_us < 0.5 * (report.end_us - report.start_us)


def test_pinned_tasks_run_on_cpus_of_their_own_and_others_anywhere(host: HostDriver) -> None:
    mine = sorted(os.sched_getaffinity(0))
    code = "import os, time; print(sorted(os.sched_getaffinity(0)), flush=True); time.sleep(300)"
    cpus = []
    for number in range(len(mine)):
        pinned = python(code, job_id=number + 1, execution=Execution(pin=True))
        cpus.append(host.wait_output(host.run_launch(pinned)).strip())
    assert sorted(cpus) == [b"[%d]" % cpu for cpu in mine]
    free = host.wait_output(host.run_launch(python(code, job_id=90)))
    assert free.strip() == str(mine).encode()
    # An end gives its cpu to the next.
    host.stop(key(1))
    host.wait_end(key(1))
    again = python(code, job_id=91, execution=Execution(pin=True))
    assert host.wait_output(host.run_launch(again)).strip() == cpus[0]


def test_resource_limits_hold_soft_and_hard_and_the_host_keeps_its_own(host: HostDriver) -> None:
    limits = (("as", 1 << 40, 1 << 41), ("core", 0, 0), ("nofile", 33, 44), ("stack", 1 << 20, -1))
    line = "ulimit -Sv; ulimit -Hv; ulimit -c; ulimit -Sn; ulimit -Hn; ulimit -Ss; ulimit -Hs"
    report = host.wait_end(
        attempt := host.run_launch(sh(line, execution=Execution(ulimits=limits)))
    )
    assert report.state is State.COMPLETED, report
    expected = [1 << 30, 1 << 31, 0, 33, 44, 1 << 10]
    assert host.output(attempt).split()[:6] == [b"%d" % each for each in expected]
    after = host.run("sh", "-c", "ulimit -Sn; ulimit -Ss; ulimit -c", job_id=2)
    host.wait_end(after)
    line = "ulimit -Sn; ulimit -Ss; ulimit -c"
    plain = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert host.output(after) == plain


def test_what_cannot_be_run_under_its_limits_is_told_as_without_them(host: HostDriver) -> None:
    limits = Execution(ulimits=(("nofile", 64, 64),))
    report = host.wait_end(host.run_launch(launch("/no/such/program", execution=limits)))
    assert (report.reason, report.detail) == (
        Reason.LAUNCH_ERROR,
        "cannot run /no/such/program on w1: No such file or directory",
    )
    beyond = Execution(ulimits=(("core", 0, 0), ("nofile", 1 << 40, 1 << 40)))
    report = host.wait_end(host.run_launch(launch("true", job_id=3, execution=beyond)))
    assert (report.reason, report.detail.split(":")[0]) == (
        Reason.LAUNCH_ERROR,
        "the limit nofile cannot be set" if os.geteuid() == 0 else report.detail.split(":")[0],
    )
    narrow = Execution(ulimits=(("as", 1 << 20, 1 << 20),))
    report = host.wait_end(host.run_launch(launch("true", job_id=2, execution=narrow)))
    assert (report.state, report.reason in {Reason.LAUNCH_ERROR, Reason.SIGNAL, Reason.EXIT}) == (
        State.FAILED,
        True,
    )


def test_a_task_that_raises_its_own_soft_limit_gets_no_further_than_the_hard_one(
    host: HostDriver,
) -> None:
    code = (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "try:\n"
        "    while True: os.dup(0)\n"
        "except OSError as error:\n"
        "    raise SystemExit(error.errno)\n"
    )
    report = host.wait_end(
        host.run_launch(python(code, execution=Execution(ulimits=(("nofile", 20, 40),))))
    )
    assert (report.state, report.exit_code) == (State.FAILED, 24)


def test_a_failed_start_gives_back_what_was_made_ready_for_it(host: HostDriver) -> None:
    many = [
        launch(
            "/no/such/program", job_id=number, memory_bytes=64 * MIB, execution=Execution(pin=True)
        )
        for number in range(1, 6)
    ]
    host.send_batch(batch(*many))
    for number in range(1, 6):
        assert host.wait_end(key(number)).reason is Reason.LAUNCH_ERROR
    assert len(groups_of(host)) <= len(find_hierarchies()[0])


def test_groups_are_used_again_and_none_is_left_when_the_host_ends(host: HostDriver) -> None:
    before = set(groups_of(host))
    for _ in range(3):
        host.send_batch(
            batch(launch("true", memory_bytes=64 * MIB), indexes=range(20), attempt=_ + 1)
        )
        for index in range(20):
            host.wait_end(key(index=index, attempt=_ + 1))
    if has_controller("memory"):
        assert 1 <= len(set(groups_of(host)) - before) <= 20
    host.close()
    assert set(groups_of(host)) <= before


def test_the_groups_of_a_host_that_was_killed_are_emptied_and_removed_by_the_next(
    driver: HostDriver,
) -> None:
    before = set(groups_of(driver))
    driver.start()
    driver.connect()
    # It hides whose it is from all but its group.
    line = "exec env -i sleep 300"
    attempt = driver.run_launch(sh("echo $$; " + line, memory_bytes=64 * MIB))
    pid = int(driver.wait_output(attempt))
    driver.kill()
    driver.start()
    driver.connect()
    assert not is_running(pid)
    assert set(groups_of(driver)) <= before


def test_a_task_that_makes_groups_in_its_own_leaves_none(host: HostDriver) -> None:
    memory = [each for each in find_hierarchies()[0] if "memory" in each.controllers]
    if not memory or os.geteuid() != 0:
        pytest.skip("groups in groups cannot be made here")
    line = (
        "own=$(grep -F ':memory:' /proc/self/cgroup | cut -d: -f3);"
        " mkdir -p BASE/$(basename $own)/inner && echo made; setsid sleep 300 &"
    ).replace("BASE", memory[0].base)
    before = set(groups_of(host))
    attempt = host.run_launch(sh(line, memory_bytes=64 * MIB))
    host.wait_end(attempt)
    assert host.output(attempt) == b"made\n"
    wait_for(lambda: set(groups_of(host)) <= before, "the groups to go")
