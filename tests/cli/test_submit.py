"""`titan submit`: what is sent, what is printed, what is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import FakeManager


def test_a_submit_prints_the_number_of_the_job(manager: FakeManager, titan: Titan) -> None:
    assert titan("submit", "sleep", "10") == (0, "Submitted job 1\n", "")
    assert titan("submit", "-q", "sleep", "10") == (0, "2\n", "")
    assert json.loads(titan("submit", "--json", "sleep", "10").out) == {"job_id": 3}
    assert json.loads(titan("--json", "submit", "sleep", "10").out) == {"job_id": 4}


def test_everything_that_is_asked_for_is_sent(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERE", "yes")
    result = titan(
        *("submit", "--name", "train", "--cpus", "0.5", "--memory", "1.5G"),
        *("--resource", "gpu=2", "--resource", "disk=1", "--priority", "-4"),
        *("--array", "0-9", "--env", "A=1=2", "--env", "B=", "--export", "HERE"),
        *("--time-limit", "1h30m", "--grace", "500ms", "--signal-before-end", "sigusr1@1:00:00"),
        *(
            "--stdin",
            "in.%i",
            *("--stdout", "log/%j", "--stderr", "/log/%n"),
            *("--ulimit", "nofile=64:128", "--ulimit", "core=0", "--pids-limit", "9"),
            "--cpu-limit",
            "--umask",
            "027",
            "--on",
            "w1",
            "--request-id",
            "ff" * 16,
            "python",
            "t.py",
            "--epochs",
            "3",
        ),
    )
    assert result.code == 0
    (request,) = manager.called("SubmitJob")
    (spec,) = request.jobs
    assert request.request_id == b"\xff" * 16
    assert spec.name == "train"
    assert list(spec.command) == [b"python", b"t.py", b"--epochs", b"3"]
    assert spec.cwd == os.fsencode(tmp_path)
    assert spec.resources.cpus_milli == 500
    assert spec.resources.memory_bytes == 3 * 1024**3 // 2
    assert dict(spec.resources.named) == {"gpu": 2, "disk": 1}
    assert spec.priority == -4
    assert (spec.array[0].start, spec.array[0].stop) == (0, 10)
    assert (spec.time_limit_ms, spec.grace_ms) == (5_400_000, 500)
    assert (spec.end_signal, spec.end_signal_before_ms) == (10, 3_600_000)
    assert [(each.name, each.soft, each.hard) for each in spec.execution.ulimits] == [
        ("core", 0, 0),
        ("nofile", 64, 128),
    ]
    assert (spec.execution.pids_max, spec.execution.cpu_limit) == (9, True)
    assert (spec.execution.umask, spec.execution.stdin) == (0o27, b"in.%i")
    assert (spec.execution.stdout, spec.execution.stderr) == (b"log/%j", b"/log/%n")
    assert spec.on == "w1"
    (environment,) = request.environments
    assert [(v.name, v.value) for v in environment.exported] == [(b"HERE", b"yes")]
    assert [(v.name, v.value) for v in environment.set] == [(b"A", b"1=2"), (b"B", b"")]


def test_options_after_the_command_belong_to_it(manager: FakeManager, titan: Titan) -> None:
    titan("submit", "prog", "--cpus", "2", "--help", "-q")
    titan("submit", "--", "-prog", "--", "x")
    words = [list(request.jobs[0].command) for request in manager.called("SubmitJob")]
    assert words == [[b"prog", b"--cpus", b"2", b"--help", b"-q"], [b"-prog", b"--", b"x"]]


@pytest.mark.parametrize("words", [["echo $HOME | wc"], ["echo", "$HOME", "|", "wc"]])
def test_a_shell_line_is_joined_as_it_was_typed(
    manager: FakeManager, titan: Titan, words: list[str]
) -> None:
    titan("submit", "--shell", *words)
    (request,) = manager.called("SubmitJob")
    assert list(request.jobs[0].command) == [b"/bin/sh", b"-c", b"echo $HOME | wc"]
    assert request.jobs[0].name == "echo"


def test_arguments_that_are_not_utf8_pass_unchanged(
    manager: FakeManager, spawn: Callable[..., Process]
) -> None:
    assert spawn("submit", b"pro\xffg", b"\xfe", "ü").end().code == 0
    (request,) = manager.called("SubmitJob")
    assert list(request.jobs[0].command) == [b"pro\xffg", b"\xfe", "ü".encode()]


def test_options_come_from_the_environment_too(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_SUBMIT_CPUS", "3")
    monkeypatch.setenv("TITAN_SUBMIT_QUIET", "1")
    monkeypatch.setenv("TITAN_SUBMIT_RESOURCE", "gpu=1 disk=2")
    assert titan("submit", "true").out == "1\n"
    assert titan("submit", "--cpus", "4", "true").out == "2\n"
    asked = [request.jobs[0].resources for request in manager.called("SubmitJob")]
    assert [each.cpus_milli for each in asked] == [3000, 4000]
    assert dict(asked[0].named) == {"gpu": 1, "disk": 2}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "say what to run, such as: titan submit sleep 10"),
        (["--shell"], "say what to run"),
        (["--cpus", "0", "true"], "0 cpus"),
        (["--cpus", "-1", "true"], "no number of cpus"),
        (["--memory", "512", "true"], "add a unit"),
        (["--memory", "9999P", "true"], "too many"),
        (["--resource", "gpu", "true"], "gpu=2"),
        (["--resource", "gpu=-1", "true"], "gpu=2"),
        (["--priority", "99999999999", "true"], "priority"),
        (["--array", "9-0", "true"], "write 0-9"),
        (["--array", "0-9%5", "true"], "no array"),
        (["--env", "X", "true"], "NAME=VALUE"),
        (["--request-id", "x" * 65, "true"], "1 to 64 characters"),
        (["--retry-for", "5", "true"], "add a unit"),
        (["--bogus", "true"], "--bogus"),
        (["--time-limit", "90", "true"], "add a unit"),
        (["--time-limit", "0", "true"], "give 1ms to 3650d"),
        (["--time-limit", "3651d", "true"], "give 1ms to 3650d"),
        (["--time-limit", "-1h", "true"], "no duration"),
        (["--grace", "5s", "true"], "a grace needs a time limit"),
        (["--time-limit", "1h", "--grace", "5", "true"], "add a unit"),
        (["--time-limit", "1h", "--grace", "25h", "true"], "at most a day"),
        (["--signal-before-end", "USR1@5s", "true"], "needs a time limit"),
        *(
            (["--time-limit", "60s", "--signal-before-end", given, "true"], why)
            for given, why in [
                ("USR1", "write it as USR1@60s"),
                ("@5s", "write it as USR1@60s"),
                ("USR1@", "write it as USR1@60s"),
                ("USR1@5", "add a unit"),
                ("USR1@60s", "has to come between the start and the time limit of 1m"),
                ("USR1@0", "more than 0"),
                ("NOPE@5s", "'NOPE' is no signal"),
                ("0@5s", "'0' is no signal"),
                ("65@5s", "1 to 64"),
                ("KILL@5s", "no task can act on"),
            ]
        ),
    ],
)
def test_what_is_wrong_is_a_usage_error_and_nothing_is_sent(
    manager: FakeManager, titan: Titan, arguments: list[str], why: str
) -> None:
    result = titan("submit", *arguments)
    assert (result.code, result.out) == (2, "")
    assert why in result.err
    assert manager.calls == []


def test_the_same_request_id_answers_with_the_same_job(manager: FakeManager, titan: Titan) -> None:
    assert titan("submit", "-q", "--request-id", "nightly-1", "true").out == "1\n"
    assert titan("submit", "-q", "--request-id", "nightly-1", "true").out == "1\n"
    assert titan("submit", "-q", "--request-id", "nightly-2", "true").out == "2\n"


def test_each_submit_has_an_id_of_its_own(manager: FakeManager, titan: Titan) -> None:
    titan("submit", "true")
    titan("submit", "true")
    one, other = manager.called("SubmitJob")
    assert len(one.request_id) == len(other.request_id) == 16
    assert one.request_id != other.request_id


def test_a_submit_without_an_answer_says_how_to_repeat_it(
    manager: FakeManager, titan: Titan
) -> None:
    manager.fail("SubmitJob", grpc.StatusCode.UNAVAILABLE, "cut off", count=99)
    result = titan("submit", "--retry-for", "200ms", "--request-id", "ab" * 16, "true")
    assert (result.code, result.out) == (3, "")
    assert "may have been accepted" in result.err
    assert f"safe to repeat with --request-id {'ab' * 16}" in result.err


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
        (grpc.StatusCode.NOT_FOUND, 4),
        (grpc.StatusCode.FAILED_PRECONDITION, 5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 5),
        (grpc.StatusCode.PERMISSION_DENIED, 5),
        (grpc.StatusCode.INTERNAL, 1),
    ],
)
def test_the_managers_answer_decides_the_exit_code(
    manager: FakeManager, titan: Titan, status: grpc.StatusCode, code: int
) -> None:
    manager.fail("SubmitJob", status, "because of \x1b[31mthis")
    result = titan("submit", "true")
    assert (result.code, result.out) == (code, "")
    assert result.err.endswith("because of \\x1b[31mthis\n")


@pytest.mark.parametrize(("exit_code", "signal", "code"), [(0, 0, 0), (7, 0, 7), (0, 9, 137)])
def test_with_wait_it_exits_as_the_job_did(
    manager: FakeManager, titan: Titan, exit_code: int, signal: int, code: int
) -> None:
    def finish(job: object) -> None:
        manager.run(manager.jobs[1])
        manager.end(manager.jobs[1], exit_code=exit_code, signal=signal)

    manager.on_submit = finish
    result = titan("submit", "--wait", "-q", "true")
    assert (result.code, result.out) == (code, "1\n")
    assert result.err.startswith("job 1 ")


def test_with_wait_titans_own_failure_is_125(manager: FakeManager, titan: Titan) -> None:
    manager.fail("SubmitJob", grpc.StatusCode.FAILED_PRECONDITION, "no")
    assert titan("submit", "--wait", "true").code == 125
