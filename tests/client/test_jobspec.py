"""What users ask for becomes a message, or is refused with a sentence."""

import os
from pathlib import Path
from typing import Any

import pytest

from titan.client.jobspec import JobSpec, environment_of, to_message
from titan.errors import InvalidJob
from titan.rpc.v1 import types_pb2


def test_a_job_of_words_only_has_the_defaults() -> None:
    message = to_message(JobSpec(command=["/usr/bin/sleep", "10"]))
    assert list(message.command) == [b"/usr/bin/sleep", b"10"]
    assert message.name == "sleep"
    assert message.cwd == os.fsencode(Path.cwd())
    assert message.resources.cpus_milli == 1000
    assert message.resources.memory_bytes == 0
    assert not message.resources.named
    assert message.priority == 0
    assert not message.array
    assert (message.time_limit_ms, message.grace_ms, message.end_signal) == (0, 10_000, 0)


def test_everything_that_is_asked_for_is_in_the_message() -> None:
    message = to_message(
        JobSpec(
            command=["t"],
            name="train",
            cpus=2,
            memory="4GiB",
            resources={"gpu": 1, "none": 0},
            priority=-3,
            array="0-9",
            cwd="/tmp/x/..",
            time_limit="2m",
            signal_before_end="12@1.5s",
            umask="027",
            stdin=Path("in/%i"),
            stdout="out/%i",
            stderr=b"out/\xff",
            on="w1",
            ulimits={"nofile": (1024, "4096"), "core": 0, "as": "8G", "cpu": ("1m", "unlimited")},
            pids_limit=50,
            cpu_limit=True,
            pin=True,
            user="batch",
            sandbox="bubblewrap",
            no_network=True,
        )
    )
    assert message.name == "train"
    assert message.resources.cpus_milli == 2000
    assert message.resources.memory_bytes == 4 * 1024**3
    assert dict(message.resources.named) == {"gpu": 1}
    assert message.priority == -3
    assert [(part.start, part.stop, part.step) for part in message.array] == [(0, 10, 1)]
    assert message.cwd == b"/tmp"
    assert (message.time_limit_ms, message.grace_ms) == (120_000, 10_000)
    assert (message.end_signal, message.end_signal_before_ms) == (12, 1_500)
    assert (message.execution.umask, message.execution.stdin) == (0o27, b"in/%i")
    assert (message.execution.stdout, message.execution.stderr) == (b"out/%i", b"out/\xff")
    assert message.on == "w1"
    assert [(each.name, each.soft, each.hard) for each in message.execution.ulimits] == [
        ("as", 8 << 30, 8 << 30),
        ("core", 0, 0),
        ("cpu", 60, -1),
        ("nofile", 1024, 4096),
    ]
    assert message.execution.pids_max == 50
    assert message.execution.cpu_limit
    assert message.execution.pin
    assert message.execution.run_as == "batch"
    assert message.execution.sandbox == types_pb2.SANDBOX_BUBBLEWRAP
    assert message.execution.no_network


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"user": ""}, "user: '' can be no user or account"),
        ({"user": "a b"}, "can be no user or account"),
        ({"sandbox": "docker"}, "'docker' is no sandbox; there are: none, bubblewrap"),
        ({"no_network": True}, "add --sandbox bubblewrap"),
    ],
)
def test_an_isolation_that_cannot_be_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=words):
        to_message(JobSpec(command=["t"], **asked))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cat x | wc", [b"/bin/sh", b"-c", b"cat x | wc"]),
        (["cat", "x", "|", "wc"], [b"/bin/sh", b"-c", b"cat x | wc"]),
    ],
)
def test_a_shell_line_is_run_by_sh(command: Any, words: list[bytes]) -> None:
    message = to_message(JobSpec(command=command, shell=True))
    assert list(message.command) == words
    assert message.name == "cat"


@pytest.mark.parametrize(
    "line", ["TOKEN=hunter2 train", "A1=x; b", "_x+=y", 'TOKEN="hunter 2" train']
)
def test_a_job_is_not_called_by_what_its_line_sets(line: str) -> None:
    """What it is called stands in the queue, in logs and in traces."""
    assert to_message(JobSpec(command=line, shell=True)).name == "sh"


def test_words_that_are_not_text_pass_unchanged() -> None:
    message = to_message(JobSpec(command=[b"\xff\xfe", os.fsdecode(b"a\xff"), Path("/x")]))
    assert list(message.command) == [b"\xff\xfe", b"a\xff", b"/x"]
    message.name.encode()


@pytest.mark.parametrize("command", ["/", "//", [b"/"]])
def test_a_command_without_a_basename_still_has_a_name(command: Any) -> None:
    assert to_message(JobSpec(command=command, shell=isinstance(command, str))).name == "job"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"command": []}, "no command"),
        ({"command": [""]}, "no command"),
        ({"command": "  ", "shell": True}, "no command"),
        ({"command": "sleep 10"}, "list of words"),
        ({"command": ["a\0b"]}, "zero bytes"),
        ({"cpus": 0}, "more than 0"),
        ({"time_limit": 0}, "1ms to 3650d"),
        ({"time_limit": 0.0001}, "1ms to 3650d"),
        ({"time_limit": -1}, "no duration"),
        ({"time_limit": "90"}, "add a unit"),
        ({"time_limit": 5, "grace": -1}, "no duration"),
        ({"grace": "2d"}, "a grace of"),
        ({"cpus": -1}, "more than 0"),
        ({"cpus": 10**9}, "more than 0"),
        ({"cpus": "0"}, "0 cpus"),
        ({"memory": "5"}, "add a unit"),
        ({"memory": -1}, "bytes of memory"),
        ({"memory": 2**61}, "bytes of memory"),
        ({"resources": {"gpu": -1}}, "gpu=2"),
        ({"resources": {"": 1}}, "gpu=2"),
        ({"priority": 2**31}, "priority"),
        ({"array": "x"}, "no array"),
        ({"array": []}, "no tasks"),
        ({"script": b"x", "worker_script": "x"}, "runs one script"),
        ({"script": b"x", "shell": True}, "leave out --shell"),
        ({"script": b"x", "command": "a b"}, "list of words"),
        ({"script": b"x", "command": ["a\0"]}, "zero bytes"),
        ({"script": "/no/such/file"}, "cannot read the script /no/such/file: No such file"),
        ({"script": "/tmp"}, "cannot read the script /tmp: Is a directory"),
        ({"script": "/dev/null"}, "the script /dev/null is empty"),
        ({"script": "/dev/zero"}, "the script /dev/zero is larger than 1M"),
        ({"script": b"x", "interpreter": "'bash"}, "has no end: No closing quotation"),
        ({"script": b"x", "interpreter": " "}, "without a name"),
        ({"script": b"x", "interpreter": []}, "without a name"),
        ({"interpreter": "bash"}, "an interpreter runs a script"),
        ({"stdin": ""}, "stdin has an empty name"),
        ({"stdout": ""}, "stdout has an empty name"),
        ({"stderr": "%x"}, "the name of stderr holds %x, which stands for nothing"),
        ({"stdin": "%x"}, "holds %x, which stands for nothing"),
        ({"worker_script": "/x"}, "without a / at the beginning"),
        ({"worker_script": "a/../../x"}, "without .."),
        ({"worker_script": ""}, "below its folder of scripts"),
    ],
)
def test_what_is_wrong_in_a_job_is_said(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidJob, match=why):
        to_message(JobSpec(**{"command": ["true"], **fields}))


_ENVIRON = {b"PATH": b"/bin", b"HOME": b"/root", b"LANG": b"C", b"X\xff": b"\xff"}


@pytest.mark.parametrize(
    ("export", "names"),
    [
        (JobSpec(command=["x"]).export, [b"LANG", b"PATH"]),
        ("ALL", [b"HOME", b"LANG", b"PATH", b"X\xff"]),
        ("NONE", []),
        ("HOME, MISSING,", [b"HOME"]),
        (["HOME"], [b"HOME"]),
    ],
)
def test_only_what_is_exported_is_taken_along(export: Any, names: list[bytes]) -> None:
    environment = environment_of(JobSpec(command=["x"], export=export), _ENVIRON)
    assert [variable.name for variable in environment.exported] == names
    assert all(variable.value == _ENVIRON[variable.name] for variable in environment.exported)


def test_the_token_that_proves_the_user_is_not_among_all_that_is_exported() -> None:
    """Environments are kept in the log, and given to whatever the job runs."""
    environ = {b"TITAN_TOKEN": b"ada.0123456789ab.secret", b"TITAN_TLS_DIR": b"/tls"}
    environment = environment_of(JobSpec(command=["x"], export="ALL"), environ)
    assert [variable.name for variable in environment.exported] == [b"TITAN_TLS_DIR"]


def test_variables_that_are_set_are_kept_apart_from_exported_ones() -> None:
    environment = environment_of(JobSpec(command=["x"], env={"B": "2", "A": ""}), {})
    assert [(v.name, v.value) for v in environment.set] == [(b"A", b""), (b"B", b"2")]


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0"}])
def test_a_variable_that_no_process_can_have_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(InvalidJob, match="name of a variable"):
        environment_of(JobSpec(command=["x"], env=env), {})


def test_a_script_is_a_file_or_a_text_and_the_words_are_its_arguments(tmp_path: Path) -> None:
    path = tmp_path / "job.sh"
    path.write_bytes(b"#!/bin/sh\n\xff")
    for given, name, text in (
        (path, b"job.sh", b"#!/bin/sh\n\xff"),
        (str(path), b"job.sh", b"#!/bin/sh\n\xff"),
        (os.fsencode("#!/bin/sh"), b"script", b"#!/bin/sh"),
        ("#!/bin/sh\nü\n", b"script", "#!/bin/sh\nü\n".encode()),
    ):
        spec = JobSpec(script=given, command=["a", "b c"], interpreter="bash -e")
        message = to_message(spec)
        assert list(message.command) == [name, b"a", b"b c"]
        assert message.name == name.decode()
        assert message.execution.script_source == types_pb2.SCRIPT_SENT
        assert list(message.execution.interpreter) == [b"bash", b"-e"]
        assert environment_of(spec, {}).script == text


def test_a_script_of_the_worker_is_named_and_not_read() -> None:
    message = to_message(JobSpec(worker_script="deep/x.py", interpreter=["python3", "-c x"]))
    assert list(message.command) == [b"deep/x.py"]
    assert message.name == "x.py"
    assert message.execution.script_source == types_pb2.SCRIPT_ON_WORKER
    assert list(message.execution.interpreter) == [b"python3", b"-c x"]
    assert not environment_of(JobSpec(worker_script="deep/x.py"), {}).script
