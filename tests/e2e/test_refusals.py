"""Servers that can't start and commands that can't be done: what is said, and with which code."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.cluster import Cluster, free_port, wait_until
from tests.e2e.tasks import Gate
from titan import JobSpec

T = TypeVar("T")


def prepared(directory: Path, description: dict[str, object] | None) -> str:
    """A directory with something in it."""
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    if description is not None:
        (directory / "titan.json").write_text(json.dumps(description))
    return str(directory)


def file_in_place(root: Path) -> str:
    """Where a directory would have to be."""
    (root / "file").write_text("")
    return str(root / "file" / "below")


LATER = {"role": "manager", "format": 99, "cluster_id": "00" * 16}
OF_WORKER = {"role": "worker", "format": 1, "worker_id": None}
OF_MANAGER = {"role": "manager", "format": 1, "cluster_id": "00" * 16}

# What is wrong, the server, its data directory, words of the answer.
DIRECTORIES: list[tuple[str, str, Callable[[Path], str], str]] = [
    ("of something else", "manager", lambda root: prepared(root / "x", None), "is not empty"),
    ("of something else", "worker", lambda root: prepared(root / "x", None), "is not empty"),
    ("of a worker", "manager", lambda root: prepared(root / "x", OF_WORKER), "of a worker"),
    ("of a manager", "worker", lambda root: prepared(root / "x", OF_MANAGER), "a manager's"),
    ("of a later version", "manager", lambda root: prepared(root / "x", LATER), "format 99"),
    ("below a file", "manager", file_in_place, "Not a directory"),
    ("below a file", "worker", file_in_place, "Not a directory"),
    ("where nobody writes", "manager", lambda _: "/proc/titan-data", "/proc/titan-data"),
]


@pytest.mark.parametrize(("server", "make", "words"), [case[1:] for case in DIRECTORIES],
                         ids=[f"{case[1]}, {case[0]}" for case in DIRECTORIES])  # fmt: skip
def test_a_data_directory_that_is_not_its_own_is_refused_and_left_as_it_is(
    shared: Cluster, tmp_path: Path, server: str, make: Callable[[Path], str], words: str
) -> None:
    directory = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = shared.titan(server, "--data-dir", directory, "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    told = result.stderr.decode()
    assert words in told
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_in_use_names_the_process_that_has_it(shared: Cluster) -> None:
    assert shared.manager is not None
    directory = str(shared.manager_directory)
    result = shared.titan("manager", "--data-dir", directory, "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert f"in use by process {shared.manager.pid}".encode() in result.stderr
    worker = shared.workers["w1"]
    result = shared.titan("worker", "--data-dir", str(worker.directory))
    assert result.returncode == 1
    assert f"pid {worker.pid}".encode() in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_port_in_use_is_refused_and_the_directory_is_not_begun(
    shared: Cluster, tmp_path: Path
) -> None:
    for address in (shared.address, "127.0.0.1:1x"):
        directory = tmp_path / "new"
        result = shared.titan("manager", "--data-dir", str(directory), "--listen", address)
        assert result.returncode in (1, 2)
        assert address.encode() in result.stderr
        assert b"Traceback" not in result.stderr
        assert b"add_port" not in result.stderr, "gRPC's own words are not for users"
        assert not directory.exists()
    assert shared.titan("queue").returncode == 0, "the one that was there first still serves"


@pytest.mark.parametrize("server", ["manager", "worker"])
def test_an_address_of_the_network_needs_certificates(
    shared: Cluster, tmp_path: Path, server: str
) -> None:
    result = shared.titan(server, "--data-dir", str(tmp_path / "new"), "--listen", "0.0.0.0:0")
    assert result.returncode in (1, 2)
    assert b"certificates" in result.stderr
    assert b"Traceback" not in result.stderr


# The command, its code, words on stderr.
COMMANDS: list[tuple[list[str], int, str]] = [
    (["submit"], 2, "say what to run"),
    (["submit", ""], 2, "command"),
    (["submit", "--shell", " "], 2, "command"),
    (["submit", "--cpus", "0", "true"], 2, "0 cpus would run nothing"),
    (["submit", "--cpus", "-1", "true"], 2, "-1"),
    (["submit", "--cpus", "1.0001", "true"], 2, "too many decimals"),
    (["submit", "--cpus", "9999999", "true"], 2, "a million cpus"),
    (["submit", "--memory", "512", "true"], 2, "add a unit"),
    (["submit", "--memory", "-1G", "true"], 2, "-1G"),
    (["submit", "--memory", "9999P", "true"], 2, "1024P"),
    (["submit", "--resource", "gpu", "true"], 2, "NAME=COUNT"),
    (["submit", "--resource", "gpu=-1", "true"], 2, "NAME=COUNT"),
    (["submit", "--array", "5-1", "true"], 2, "comes before"),
    (["submit", "--array", "0-99999999", "true"], 2, "10,000,000"),
    (["submit", "--array", "1,1", "true"], 2, "twice"),
    (["submit", "--env", "A", "true"], 2, "NAME=VALUE"),
    (["submit", "--priority", "x", "true"], 2, "x"),
    (["submit", "--request-id", "x" * 65, "true"], 2, "64"),
    (["submit", "--wait-a-bit", "true"], 2, "--wait-a-bit"),
    (["wait", "--timeout", "10", "1"], 2, "add a unit"),
    (["cancel", "--grace", "5", "1"], 2, "add a unit"),
    (["cancel"], 2, "name jobs"),
    (["show", "0"], 2, "is no job"),
    (["show", "x"], 2, "name:NAME"),
    (["show", "99999"], 4, "99999"),
    (["logs", "99999"], 4, "99999"),
    (["cancel", "99999"], 4, "99999"),
    (["show", "name:nobody"], 4, "nobody"),
    (["queue", "--state", "LOST"], 2, "LOST"),
    (["manager", "--heartbeat-timeout", "0"], 2, "more than 0"),
    (["manager", "--heartbeat-timeout", "30"], 2, "add a unit"),
    (["manager", "--policy", "best"], 2, "best"),
    (["worker", "--cpus", "0"], 2, "0 cpus"),
    (["worker", "--memory", "8"], 2, "add a unit"),
    (["--manager", "nowhere", "queue"], 2, "HOST:PORT"),
    (["submitt", "true"], 2, "did you mean `titan submit`?"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "code", "words"), COMMANDS,
                         ids=[" ".join(case[0])[:40] for case in COMMANDS])  # fmt: skip
def test_a_command_that_cannot_be_done_says_why_and_changes_nothing(
    shared: Cluster, command: list[str], code: int, words: str
) -> None:
    result = shared.titan(*command)
    assert (result.returncode, result.stdout) == (code, b""), result.stderr
    assert words in result.stderr.decode()
    assert b"Traceback" not in result.stderr


def test_of_refused_commands_no_job_was_made(shared: Cluster) -> None:
    last = shared.submit("true")
    shared.titan("submit", "--cpus", "0", "true")
    assert shared.submit("true") == last + 1
    assert shared.titan("wait", str(last), "99999").returncode == 125, "its own failure"
    shared.ok("wait", str(last), str(last + 1))


def within(seconds: float, act: Callable[[], T]) -> T:
    """What comes of it, which takes no longer; one try may meet a machine that stands still."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        result = act()
        took.append(time.monotonic() - began)
        if took[-1] < seconds:
            return result
    raise AssertionError(f"it took {took} s, and should take less than {seconds} s")


def test_a_manager_that_is_not_there_is_told_within_a_second(shared: Cluster) -> None:
    address = f"127.0.0.1:{free_port()}"
    for command, code in (
        (["queue"], 3), (["submit", "true"], 3), (["show", "1"], 3), (["cancel", "1"], 3),
        (["logs", "1"], 3), (["workers"], 3), (["stats"], 3), (["run", "true"], 125),
        (["wait", "1"], 125), (["submit", "--wait", "true"], 125),
    ):  # fmt: skip
        result = within(3, partial(shared.titan, "--manager", address, *command))
        assert result.returncode == code, command
        assert address.encode() in result.stderr
        assert b"Traceback" not in result.stderr


def test_a_manager_that_does_not_answer_is_given_up_within_seconds(shared: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = within(6, lambda: shared.titan("--manager", address, "queue", "--retry-for", "1s"))
        assert result.returncode == 3


@pytest.mark.parametrize("command", ["wait", "logs -f", "queue -w", "submit --wait", "run"])
def test_ctrl_c_ends_a_command_with_130_and_no_traceback(
    shared: Cluster, tmp_path: Path, command: str
) -> None:
    gate = Gate(tmp_path)
    words = command.split()
    if words[0] in ("submit", "run"):
        arguments = [*words, "--shell", gate.line()]
        job = 0
    else:
        job = shared.submit("--shell", gate.line())
        arguments = [*words, *([str(job)] if words[0] != "queue" else [])]
    running = shared.popen(*arguments)
    ((_, name),) = gate.wait_runs(1)
    shared.wait_connected(running)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in told
    gate.open()
    shared.titan("wait", name.partition(".")[0])


def test_ctrl_c_at_any_moment_of_a_short_command_leaves_no_traceback(shared: Cluster) -> None:
    for step in range(8):
        running = shared.popen("queue", "--all")
        deadline = time.monotonic() + step * 0.025
        wait_until(lambda deadline=deadline: time.monotonic() > deadline)  # type: ignore[misc]
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
        # Before Python has its handler the signal itself ends it; then, for a moment, Python
        # is starting itself, and what it says is its own.
        is_starting = running.returncode == 1 and (
            b"<frozen site>" in told
            or told.startswith((b"Could not import runpy module", b"Fatal Python error: init_"))
        )
        assert is_starting or running.returncode in (0, 130, -signal.SIGINT), told
        if running.returncode == 130:
            assert b"Traceback" not in told, told


def test_more_than_any_worker_has_is_accepted_and_waits_and_says_for_what(
    shared: Cluster,
) -> None:
    for options, word in ((["--cpus", "7"], "7"), (["--resource", "fpga=1"], "fpga"),
                          (["--memory", "100G"], "100 GiB")):  # fmt: skip
        job = str(shared.submit(*options, "true"))
        view = shared.json("show", job)
        assert view["state"] == "PENDING"
        assert word in view["waiting_for"], view["waiting_for"]
        assert f"Cancelled job {job}" in shared.ok("cancel", job).decode()


def test_a_bulk_submit_is_cut_into_requests_that_the_manager_takes(shared: Cluster) -> None:
    with shared.client() as client:
        specs = [JobSpec(command=["true"], cpus=100, name="bulk")] * 10_001
        jobs = client.submit_many(specs, request_id="bulk")
        assert len({job.id for job in jobs}) == 10_001
        again = client.submit_many(specs, request_id="bulk")
        assert [job.id for job in again] == [job.id for job in jobs]
        assert len(client.cancel(name="bulk")) > 0
        assert client.show(jobs[-1].id)["state"] == "CANCELLED"
