"""The check of what a single test leaves finds it, whatever it hides, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import strays
from tests.cluster import DEADLINE_SECONDS, wait_until
from tests.leftovers import wait_until_none
from titan.worker import directory
from titan.worker.host.cgroup_mounts import find_hierarchies

# It shows nothing of where it comes from: no environment, session, directory, output or parent.
HIDDEN = "(cd / && exec env -i setsid sleep 600 </dev/null >/dev/null 2>&1) &"


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left here does not go by itself."""
    monkeypatch.setattr(strays, "SETTLE_SECONDS", 0.1)


@pytest.fixture
def long_wait(short_wait: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not to be told may be on its way for longer."""
    monkeypatch.setattr(strays, "SETTLE_SECONDS", DEADLINE_SECONDS)


def sh(line: str) -> None:
    subprocess.run(["sh", "-c", line], check=True)


def sleep(seconds: int) -> subprocess.Popen[bytes]:
    """A process that is `sleep`: on the way to that it has no arguments for a moment."""
    process = subprocess.Popen(["sleep", str(seconds)])
    command = b"sleep\0%d\0" % seconds
    wait_until(lambda: Path(f"/proc/{process.pid}/cmdline").read_bytes() == command, "it sleeps")
    return process


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that was there before, with this argument; runs the lines of shell it is told."""
    code = (
        "import subprocess, sys\n"
        "kept = []\n"
        "for line in sys.stdin:\n"
        "    kept.append(subprocess.Popen(['sh', '-c', line])); print('done', flush=True)\n"
    )
    command = [sys.executable, "-c", code, request.param]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        for pid in strays.read_descendants(process.pid):
            os.kill(pid, 9)
        process.kill()


def tell(server: subprocess.Popen[str], line: str) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(line + "\n")
    server.stdin.flush()
    assert server.stdout.readline() == "done\n"


@pytest.mark.parametrize(
    "line", [HIDDEN, "setsid sleep 600 & kill -STOP $!"], ids=["hidden", "stopped"]
)
def test_an_orphan_is_found_and_ended_whatever_it_hides(tmp_path: Path, line: str) -> None:
    with pytest.raises(strays.LeftBehindError, match="sleep 600"), strays.nothing_left(tmp_path):
        sh(line)
    # Nor is anything else, once what an earlier test has killed is gone.
    assert wait_until_none(lambda: list(strays.read_descendants())) == []


def test_a_child_is_found(tmp_path: Path) -> None:
    with pytest.raises(strays.LeftBehindError, match="sleep 599"), strays.nothing_left(tmp_path):
        child = sleep(599)
    # It was waited for already; this says so to its object.
    child.wait()
    assert not psutil.pid_exists(child.pid)


@pytest.mark.usefixtures("long_wait")
def test_what_has_ended_is_not_found_and_no_dead_orphan_stays(tmp_path: Path) -> None:
    before = set(strays.read_children())
    with strays.nothing_left(tmp_path):
        # These do go by themselves, once they have been started.
        sh("setsid true & (setsid sleep 0.05 &)")
    assert set(strays.read_children()) <= before


@pytest.mark.usefixtures("long_wait")
@pytest.mark.parametrize("server", ["titan.manager"], indirect=True)
def test_what_was_there_before_may_start_what_it_needs(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    with strays.nothing_left(tmp_path):
        tell(server, "exec sleep 600")


@pytest.mark.usefixtures("long_wait")
def test_what_takes_the_place_of_one_that_was_there_before_may_stay(tmp_path: Path) -> None:
    with sleep(597) as first, strays.nothing_left(tmp_path):
        first.kill()
        first.wait()
        second = sleep(597)
    with second:
        second.kill()


@pytest.mark.parametrize("server", ["titan.worker.host"], indirect=True)
def test_the_tasks_of_a_host_that_was_there_before_must_end(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    tell(server, "exec sleep 598")
    with pytest.raises(strays.LeftBehindError) as caught, strays.nothing_left(tmp_path):
        tell(server, "exec sleep 599")
    assert "sleep 599" in str(caught.value)
    assert "sleep 598" not in str(caught.value)


def test_a_control_group_of_a_host_of_the_test_is_found_and_of_no_other(tmp_path: Path) -> None:
    hierarchies, faults = find_hierarchies()
    if not hierarchies:
        pytest.skip("; ".join(faults))
    mine, other = tmp_path / "mine", tmp_path / "other"
    for each in (mine, other):
        (each / "worker").mkdir(parents=True)
        (each / "worker" / "host.lock").touch()
    group = f"{hierarchies[0].base}/titan-{directory.group_tag(mine / 'worker')}-1"
    with strays.nothing_left(other):
        os.mkdir(group)
    with pytest.raises(strays.LeftBehindError, match=group), strays.nothing_left(mine):
        sh("true")
    assert not os.path.exists(group)


def test_a_test_that_leaves_something_fails_and_the_next_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_leak.py").write_text(
        "import subprocess\n"
        "from tests import strays\n"
        "from tests.worker.conftest import nothing_is_left_by_the_test\n"
        "strays.SETTLE_SECONDS = 0.1\n"
        f"def test_leak():\n    subprocess.run(['sh', '-c', {HIDDEN!r}], check=True)\n"
        "def test_clean():\n    subprocess.run(['true'], check=True)\n"
    )
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--basetemp=base",
            "test_leak.py",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "ERROR test_leak.py::test_leak" in run.stdout
    assert "the test left behind:" in run.stdout
    assert "sleep 600" in run.stdout
    assert "2 passed, 1 error" in run.stdout
