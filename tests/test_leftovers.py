"""The search for leftovers finds what it is there to find."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import leftovers
from tests.cluster import wait_until

# Not the marker of the run these tests are part of.
RUN_ID = str(uuid.uuid4())

# A process that starts another, tells its pid and dies, so that the other is an orphan.
ORPHAN_MAKER = (
    "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid)"
)


@pytest.fixture
def orphan(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[psutil.Process]:
    """An orphan started with the environment, and in the directory, that the test asks for."""
    environment, directory = request.param
    made = subprocess.run(
        [sys.executable, "-c", ORPHAN_MAKER],
        env={"PATH": os.environ["PATH"]} | environment,
        cwd=tmp_path if directory else "/",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    process = psutil.Process(int(made.stdout))
    # Before that it is on the way to be `sleep`, without arguments or environment for a moment.
    wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, "the orphan sleeps")
    yield process
    process.kill()


@pytest.mark.parametrize(
    "orphan",
    [({leftovers.RUN_MARKER: RUN_ID}, False), ({}, True)],
    ids=["by its environment", "by its directory"],
    indirect=True,
)
def test_a_process_whose_parent_has_died_is_found(orphan: psutil.Process, tmp_path: Path) -> None:
    assert orphan in leftovers.find_processes(RUN_ID, [tmp_path])
    assert f"process {orphan.pid} (sleeping): sleep 600" == leftovers.describe_process(orphan)


@pytest.mark.parametrize("orphan", [({}, False)], indirect=True)
def test_a_process_of_somebody_else_is_not_found(orphan: psutil.Process, tmp_path: Path) -> None:
    assert orphan not in leftovers.find_processes(RUN_ID, [tmp_path])


def test_a_child_is_found_until_it_is_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen(["true"], env={}) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid in [found.pid for found in leftovers.find_processes(RUN_ID, [tmp_path])]
    # Nor is anything else, once what an earlier test has killed is gone.
    assert leftovers.wait_until_none(lambda: leftovers.find_processes(RUN_ID, [tmp_path])) == []


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_listening_socket_is_found_until_it_is_closed(
    family: socket.AddressFamily, tmp_path: Path
) -> None:
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
        # A server of an earlier test may be on its way out.
        assert leftovers.wait_until_none(leftovers.find_listeners) == []
        listener.listen()
        [found] = leftovers.find_listeners()
        assert str(listener.getsockname()) in found
    assert leftovers.find_listeners() == []


def test_looking_for_listening_sockets_leaves_no_descriptor_open() -> None:
    with open(os.devnull) as opened:
        # A server of an earlier test may be on its way out.
        assert leftovers.wait_until_none(leftovers.find_listeners) == []
        before = set(os.listdir("/proc/self/fd"))
        assert leftovers.find_listeners() == []
        # What was left by other tests may be closed meanwhile, by a thread of its own.
        assert set(os.listdir("/proc/self/fd")) <= before, opened


def test_a_temporary_file_is_found(tmp_path: Path) -> None:
    assert leftovers.find_files(tmp_path) == []
    (tmp_path / "left").touch()
    assert leftovers.find_files(tmp_path) == [f"temporary file {tmp_path / 'left'}"]


LEAKS = {
    "process": ("subprocess.Popen(['sleep', '600'])", "sleep 600"),
    "listener": ("kept.append(socket.create_server(('127.0.0.1', 0)))", "listening socket"),
    "file": ("os.close(tempfile.mkstemp()[0])", "temporary file"),
}


@pytest.mark.parametrize(("leak", "expected"), LEAKS.values(), ids=LEAKS.keys())
def test_a_run_that_leaves_something_fails_and_names_it(
    leak: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "test_leak.py").write_text(
        "import os, socket, subprocess, tempfile\n"
        "from tests import leftovers\n"
        "from tests.conftest import nothing_is_left_behind\n"
        "leftovers.SETTLE_SECONDS = 0.1\n"
        "kept = []\n"
        f"def test_leak():\n    {leak}\n"
    )
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore",
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
    assert "the run left behind:" in run.stdout
    assert expected in run.stdout
