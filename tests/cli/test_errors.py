"""What every command does when something is wrong, and where common options may stand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.clock import Clock
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from titan.client import reach, retry

Spawn = Callable[..., Process]
ASKING = [
    *(["queue"], ["show", "1"], ["workers"], ["stats"], ["logs", "1"], ["cancel", "1"]),
    *(["hold", "1"], ["suspend", "1"], ["requeue", "1"], ["why", "1"]),
    *(["policy"], ["policy", "set", "--order", "fcfs"]),
]


@pytest.mark.parametrize("words", [*ASKING, ["submit", "true"], ["plan", "true"]], ids=" ".join)
def test_a_refused_connection_ends_it_at_once_and_names_the_address(
    titan: Titan, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def connect(address: str) -> None:
        tries.append(address)
        real_connect(address)

    def pause(*_: object, **__: object) -> float:
        raise AssertionError("nothing is waited for")

    real_connect = reach.connect
    monkeypatch.setattr(reach, "connect", connect)
    monkeypatch.setattr(retry.Repeats, "pause_after", pause)
    result = titan("--manager", "127.0.0.1:1", *words)
    # One refusal takes no time by itself; how long the rest takes is the machine's to say.
    assert tries == ["127.0.0.1:1"]
    assert (result.code, result.out) == (3, "")
    assert "no manager answers at 127.0.0.1:1: connection refused" in result.err


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
@pytest.mark.parametrize("address", ["nonsense", "example.com:1", "10.0.0.1:50051"])
def test_an_address_that_is_none_or_not_on_this_machine_is_a_usage_error(
    titan: Titan, words: list[str], address: str
) -> None:
    result = titan(*words, "--manager", address)
    assert result.code == 2
    assert address in result.err


@pytest.mark.parametrize(
    "words",
    [
        *(["hold", "--name", "\udcff"], ["queue", "--user", "\udcff"], ["why", "name:\udcff"]),
        *(["policy", "set", "--user-cpus", "\udcff=2"], ["drain", "\udcff"]),
        *(
            ["submit", option, value, "true"]
            for option, value in (
                *(("--name", "\udcff"), ("--constraint", "zone==\udcff"), ("--on", "\udcff")),
                *(
                    ("--after", "name:\udcff"),
                    ("--affinity", "name:\udcff"),
                    ("--spread", "\udcff"),
                ),
            )
        ),
    ],
    ids=ascii,
)
def test_bytes_that_are_no_text_are_refused_as_names_with_a_sentence(
    manager: FakeManager, titan: Titan, words: list[str]
) -> None:
    result = titan(*words)
    assert (result.code, result.out) == (2, "")
    assert "is not UTF-8, as names, labels and users have to be" in result.err
    assert "Traceback" not in result.err


def test_the_manager_may_be_named_before_and_after_the_command_and_the_later_wins(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_MANAGER", "127.0.0.1:1")
    assert titan("--manager", manager.address, "stats").code == 0
    assert titan("stats", "--manager", manager.address).code == 0
    assert titan("--manager", "127.0.0.1:2", "stats", "--manager", manager.address).code == 0
    assert titan("stats").code == 3
    # What is typed wins over a variable, wherever it stands.
    monkeypatch.setenv("TITAN_STATS_MANAGER", "127.0.0.1:2")
    assert titan("--manager", manager.address, "stats").code == 0
    assert "127.0.0.1:2" in titan("stats").err


def test_json_may_be_asked_for_before_and_after_the_command(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(titan("--json", "queue").out) == []
    assert json.loads(titan("queue", "--json").out) == []
    monkeypatch.setenv("TITAN_JSON", "1")
    assert json.loads(titan("queue").out) == []


@pytest.mark.parametrize("words", [["run", "true"], ["logs", "1"], ["manager"]], ids=" ".join)
def test_an_option_that_a_command_does_not_have_is_not_ignored(
    titan: Titan, words: list[str]
) -> None:
    result = titan("--json", *words)
    assert result.code == 2
    assert "no option --json" in result.err


def test_without_a_token_the_file_and_the_option_are_named(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    result = titan("queue")
    assert result.code == 5
    assert "no access token was found" in result.err
    assert str(tmp_path / "elsewhere") in result.err
    assert "--access FILE" in result.err
    file = str(manager.data_directory / "access.json")
    assert titan("queue", "--access", file).code == 0
    assert titan("--access", file, "queue").code == 0


def test_a_call_that_was_sent_is_repeated(manager: FakeManager, titan: Titan) -> None:
    manager.fail("ListJobs", grpc.StatusCode.UNAVAILABLE, "cut off", count=2)
    assert titan("queue").code == 0
    assert len(manager.called("ListJobs")) == 3


def test_how_long_it_is_repeated_can_be_told(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    begin = clock.now
    manager.fail("ListJobs", grpc.StatusCode.UNAVAILABLE, "cut off", count=99)
    result = titan("queue", "--retry-for", "300ms")
    assert 0.1 < clock.now - begin <= 0.3
    assert result.code == 3
    assert "did not answer within 0.3 s (cut off)" in result.err


def test_a_closed_pipe_ends_quietly(manager: FakeManager, spawn: Spawn) -> None:
    for _ in range(50):
        manager.add_job(name="x" * 5000)
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("queue", stdout=writing)
    os.close(writing)
    assert process.end() == (141, "", "")


def test_a_full_disk_behind_stdout_is_a_sentence(manager: FakeManager, spawn: Spawn) -> None:
    with open("/dev/full", "wb") as full:
        result = spawn("queue", stdout=full).end()
    assert result.code == 1
    assert result.err == "titan: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_commands_work_without_stdout_or_stderr(manager: FakeManager, closed: str) -> None:
    line = f'"$0" -m titan.cli submit -q true {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, sys.executable],
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert len(manager.jobs) == 1


def test_ctrl_c_ends_a_command_that_waits_for_an_answer(manager: FakeManager, spawn: Spawn) -> None:
    manager.fail("ListJobs", grpc.StatusCode.UNAVAILABLE, "cut off", count=9999)
    process = spawn("queue")
    manager.wait(lambda: manager.called("ListJobs"), "a call")
    process.interrupt(signal.SIGINT)
    assert process.end() == (130, "", "")
