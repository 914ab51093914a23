"""`titan submit`: what is sent, what is printed, what is refused."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import FakeManager
from titan.client import retry
from titan.rpc.v1 import manager_pb2, types_pb2


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
        (["--array", "0-9%0", "true"], "no task would ever start"),
        (["--array", "0-9%", "true"], "write it as 0-9%50"),
        (["--after", "42:done", "true"], "write 42:ok, 42:any or 42:failed"),
        (["--after", "42.0-3", "true"], "names several tasks"),
        (["--after", "42.%i", "true"], "this job is no array"),
        (["--after", "prepare", "true"], "after: 'prepare' is no job"),
        (["--affinity", "prepare", "true"], "affinity: 'prepare' is no job"),
        (["--constraint", "zone=a", "true"], "write zone==a, with two ="),
        (["--spread", "", "true"], "names no label"),
        (["--retries", "1001", "true"], "give 0 to 1000"),
        (["--retries", "x", "true"], "'x' is not a valid integer"),
        (["--retry-on", "1", "true"], "say with retries how often"),
        (["--retries", "1", "--retry-on", "1,x", "true"], "write it as 75, several as 1,75"),
        (["--retries", "1", "--retry-on", "256", "true"], "exit codes are 0 to 255"),
        (["--max-fails", "1", "true"], "needs an array"),
        (["--begin", "soon", "true"], "write it as now+1h, 2h, 16:00"),
        (["--begin", "60", "true"], "add a unit"),
        (["--begin", "2h", "--deadline", "1h", "true"], "has to come after the begin"),
        (["--deadline", "2001-01-01", "true"], "has passed already"),
        (["--env", "X", "true"], "NAME=VALUE"),
        (["--request-id", "x" * 65, "true"], "1 to 64 characters"),
        (["--retry-for", "5", "true"], "add a unit"),
        (["--bogus", "true"], "--bogus"),
        (["--time-limit", "90", "true"], "add a unit"),
        (["--time-limit", "0", "true"], "give 1ms to 3650d"),
        (["--time-limit", "3651d", "true"], "give 1ms to 3650d"),
        (["--time-limit", "-1h", "true"], "no duration"),
        (["--grace", "2d", "true"], "give at most a day"),
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


def test_a_submit_to_a_busy_manager_waits_says_so_once_and_is_the_same_one(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUSY_PAUSE_FIRST_SECONDS", 0.001)
    manager.be_busy("SubmitJob", "the manager is busy with 256 calls", count=3)
    result = titan("submit", "-q", "true")
    assert (result.code, result.out) == (0, "1\n")
    assert result.err == (
        "titan: the manager is busy with 256 calls: waiting for it (Ctrl-C stops waiting)\n"
    )
    assert len({each.request_id for each in manager.called("SubmitJob")}) == 1
    assert len(manager.called("SubmitJob")) == 4


def test_a_submit_to_a_manager_that_stays_busy_is_refused(
    manager: FakeManager, titan: Titan
) -> None:
    manager.be_busy("SubmitJob", "the manager is busy with 256 calls", count=99)
    result = titan("submit", "--retry-for", "200ms", "true")
    assert (result.code, result.out) == (5, "")
    assert result.err.endswith("titan: the manager is busy with 256 calls\n")


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


def test_when_and_where_it_may_run_reaches_the_manager(manager: FakeManager, titan: Titan) -> None:
    before = time.time()
    result = titan(
        *("submit", "--array", "0-99%7", "--after", "42", "--after", "43.%i:any"),
        *("--constraint", "zone==a and disk!=hdd", "--constraint", "os in (x,y)"),
        *("--affinity", "44", "--affinity", "self", "--anti-affinity", "name:db"),
        *("--spread", "rack", "--exclusive", "--preemptible", "--hold"),
        *("--retries", "3", "--retry-on", "75,1", "--retry-on", "2", "--max-fails", "0"),
        *("--begin", "now+1h", "--deadline", "2100-01-01T00:00Z", "train"),
    )
    assert (result.code, result.err) == (0, "")
    (request,) = manager.called("SubmitJob")
    asked = request.jobs[0].scheduling
    assert asked.array_limit == 7
    first, second = asked.after
    assert (first.job.job.job_id, first.condition) == (42, manager_pb2.DEPENDENCY_OK)
    assert (second.job.job.job_id, second.condition) == (43, manager_pb2.DEPENDENCY_ANY)
    assert (first.same_index, second.same_index) == (False, True)
    assert [(c.label, list(c.values), c.negated) for c in asked.constraints] == [
        ("zone", ["a"], False),
        ("disk", ["hdd"], True),
        ("os", ["x", "y"], False),
    ]
    near, own, apart = asked.affinities
    assert (near.job.job.job_id, near.anti) == (44, False)
    assert (own.job.WhichOneof("which"), own.job.position) == ("position", 0)
    assert (apart.job.job.name, apart.anti) == ("db", True)
    assert (asked.spread, asked.exclusive, asked.preemptible, asked.held) == ("rack", *[True] * 3)
    assert (asked.retries, list(asked.retry_on), asked.max_fails) == (3, [1, 2, 75], 0)
    assert before + 3600 <= asked.begin_us / 1e6 <= time.time() + 3600
    assert asked.deadline_us == 4_102_444_800_000_000


@pytest.mark.parametrize("directive", [False, True])
def test_a_job_may_be_asked_to_run_at_most_once(
    manager: FakeManager, titan: Titan, tmp_path: Path, directive: bool
) -> None:
    script = tmp_path / "pay.sh"
    script.write_text("#!/bin/sh\n" + "#TITAN --at-most-once\n" * directive)
    options = [] if directive else ["--at-most-once"]
    assert titan("submit", *options, "--script", str(script)).code == 0
    (request,) = manager.called("SubmitJob")
    assert request.jobs[0].scheduling.at_most_once
    refused = titan("submit", "--at-most-once", "--retries", "2", "x")
    assert refused.code == 2
    assert "at most once is not tried again" in refused.err


def test_of_a_job_that_asks_for_none_of_it_nothing_is_sent(
    manager: FakeManager, titan: Titan
) -> None:
    titan("submit", "true")
    (request,) = manager.called("SubmitJob")
    assert not request.jobs[0].HasField("scheduling")


def test_variables_say_when_and_where_too(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_SUBMIT_AFTER", "42 last:any")
    monkeypatch.setenv("TITAN_SUBMIT_CONSTRAINT", "zone in (a, b)\ndisk == ssd")
    monkeypatch.setenv("TITAN_SUBMIT_RETRIES", "2")
    monkeypatch.setenv("TITAN_SUBMIT_HOLD", "1")
    assert titan("submit", "true").code == 0
    (request,) = manager.called("SubmitJob")
    asked = request.jobs[0].scheduling
    assert [each.job.job.job_id for each in asked.after] == [42, 0]
    assert [(c.label, list(c.values)) for c in asked.constraints] == [
        ("zone", ["a", "b"]),
        ("disk", ["ssd"]),
    ]
    assert (asked.retries, asked.held) == (2, True)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (types_pb2.REASON_DEPENDENCY_FAILED, 1),
        (types_pb2.REASON_DEADLINE, 124),
        (types_pb2.REASON_CANCELLED, 130),
    ],
)
def test_with_wait_a_job_that_never_started_exits_by_its_reason(
    manager: FakeManager, titan: Titan, reason: types_pb2.Reason.ValueType, code: int
) -> None:
    def cancel(job: manager_pb2.Job) -> None:
        job.state, job.reason, job.detail = types_pb2.CANCELLED, reason, "so it was"

    manager.on_submit = cancel
    result = titan("submit", "--wait", "-q", "true")
    assert result.code == code
    why = "before it started" if code == 130 else "so it was"
    assert why in result.err


def test_a_secret_goes_with_the_job_from_its_file(
    manager: FakeManager, titan: Titan, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    given = (f"--secret-env=TOKEN=@{tmp_path}/token", f"--secret-env=B=@{tmp_path}/token")
    result = titan("submit", *given, "env")
    assert result.code == 0
    (environment,) = manager.called("SubmitJob")[0].environments
    assert [(each.name, each.value) for each in environment.secrets] == [
        (b"B", b"hunter2"),
        (b"TOKEN", b"hunter2"),
    ]
    assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize("command", ["submit", "run", "plan"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("TOKEN=hunter2", "put it into a file and write TOKEN=@FILE"),
        ("hunter2", "NAME=@FILE"),
        ("TOKEN=@/nowhere/token", "cannot read the secret TOKEN from /nowhere/token: No such file"),
    ],
)
def test_a_secret_that_is_no_file_is_a_usage_error_that_does_not_repeat_it(
    manager: FakeManager, titan: Titan, command: str, given: str, words: str
) -> None:
    result = titan(command, "--secret-env", given, "env")
    assert result.code == 2
    assert words in result.err
    assert "hunter2" not in result.err
    assert not manager.called("SubmitJob")


def test_a_script_may_name_the_files_of_its_secrets_and_a_plan_sends_none(
    manager: FakeManager, titan: Titan, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n#TITAN --secret-env TOKEN=@{tmp_path}/token\nenv\n")
    assert titan("submit", "--script", str(script)).code == 0
    (environment,) = manager.called("SubmitJob")[0].environments
    assert environment.secrets[0].value == b"hunter2"
    titan("plan", "--script", str(script))
    assert b"hunter2" not in manager.called("PlanJobs")[0].SerializeToString()
