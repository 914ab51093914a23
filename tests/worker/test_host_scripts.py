"""Scripts that real hosts run: those that came with jobs, and those that live on the worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker import builders
from tests.worker.builders import key
from tests.worker.host_driver import HostDriver
from titan.model import AttemptKey, Execution, Reason, ScriptSource, State
from titan.worker import protocol
from titan.worker.host.scripts import SentScripts
from titan.worker.messages import Environment, Launch, Report

SHOW = b'#!/bin/sh\necho "$# $1 $TITAN_JOB_ID"\n'


def sent(
    *words: str | bytes, job_id: int = 1, interpreter: tuple[bytes, ...] = (), cwd: bytes = b"/"
) -> Launch:
    """A job that runs the script in its environment; the first word is its name."""
    execution = Execution(script_source=ScriptSource.SENT, interpreter=interpreter)
    return builders.launch(*words, job_id=job_id, execution=execution, cwd=cwd)


def start(host: HostDriver, text: bytes, launch: Launch) -> AttemptKey:
    batch = builders.batch(launch, exported={b"PATH": b"/usr/bin:/bin"})
    (environment,) = batch.environments
    host.send_batch(batch._replace(environments=(environment._replace(script=text),)))
    return key(launch.job_id)


def run(host: HostDriver, text: bytes, launch: Launch) -> Report:
    return host.wait_end(start(host, text, launch))


def files(host: HostDriver) -> list[Path]:
    return sorted((host.path / "scripts").iterdir())


def test_a_script_is_run_by_its_first_line_with_its_arguments(host: HostDriver) -> None:
    report = run(host, SHOW, sent("job.sh", "a b", ""))
    assert (report.state, report.exit_code) == (State.COMPLETED, 0)
    assert host.output(key()) == b"2 a b 1\n"


def test_an_interpreter_runs_what_has_no_first_line(host: HostDriver) -> None:
    program = b"import sys\nprint(sys.flags.optimize, sys.argv[1:])\n"
    report = run(host, program, sent("t.py", "x", "-y", interpreter=(b"python3", b"-O")))
    assert report.state is State.COMPLETED
    assert host.output(key()) == b"1 ['x', '-y']\n"


def test_jobs_with_one_text_share_one_file_that_only_its_owner_can_read(host: HostDriver) -> None:
    for job_id in (1, 2):
        run(host, SHOW, sent("job.sh", job_id=job_id))
    run(host, SHOW + b"#\n", sent("job.sh", job_id=3))
    assert [host.output(key(each)) for each in (1, 2, 3)] == [b"0  1\n", b"0  2\n", b"0  3\n"]
    assert len(files(host)) == 2
    assert {each.stat().st_mode & 0o777 for each in files(host)} == {0o500}
    assert (host.path / "scripts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: _overwrite(path, b"#!/bin/false\n")])
def test_a_script_that_somebody_changed_or_removed_is_written_anew(
    host: HostDriver, spoil: object
) -> None:
    run(host, SHOW, sent("job.sh"))
    (path,) = files(host)
    spoil(path)  # type: ignore[operator]
    assert run(host, SHOW, sent("job.sh", job_id=2)).state is State.COMPLETED
    assert path.read_bytes() == SHOW


def _overwrite(path: Path, text: bytes) -> None:
    path.chmod(0o700)
    path.write_bytes(text)


def test_a_script_may_call_itself_again(host: HostDriver) -> None:
    text = b'#!/bin/sh\n[ -n "$1" ] || exec "$0" again\necho "$1"\n'
    assert run(host, text, sent("job.sh")).state is State.COMPLETED
    assert host.output(key()) == b"again\n"


def test_many_scripts_leave_few_files_and_each_ran_its_own(host: HostDriver) -> None:
    for job_id in range(1, 201):
        start(host, b"#!/bin/sh\necho %d\n" % job_id, sent("s", job_id=job_id))
    for job_id in range(1, 201):
        host.wait_end(key(job_id))
    outputs = [host.output(key(each)) for each in range(1, 201)]
    assert outputs == [b"%d\n" % each for each in range(1, 201)]
    assert len(files(host)) == 64


def test_what_an_earlier_host_left_is_removed(driver: HostDriver) -> None:
    folder = driver.path / "scripts"
    folder.mkdir()
    (folder / "old").write_text("x")
    driver.start()
    driver.connect()
    assert files(driver) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"#!/no/such/shell\n", "cannot run job.sh on w1: the interpreter in its #! line"),
        (b"#!/etc/passwd\n", "is the program in its #! line executable"),
        (b"echo x\n", "cannot run job.sh on w1: no program and no #! line"),
    ],
)
def test_a_script_that_cannot_be_run_is_a_launch_error_that_names_it(
    host: HostDriver, text: bytes, words: str
) -> None:
    report = run(host, text, sent("job.sh"))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert words in report.detail
    assert "scripts/" not in report.detail


def test_an_interpreter_that_is_missing_is_named(host: HostDriver) -> None:
    report = run(host, b"x", sent("job.sh", interpreter=(b"no-such-shell", b"-e")))
    assert report.detail == "no program no-such-shell on the task's PATH on w1"


def test_a_script_that_cannot_be_written_is_a_launch_error(host: HostDriver) -> None:
    (host.path / "scripts").write_text("a file in its place")
    report = run(host, SHOW, sent("job.sh"))
    assert (report.reason, report.detail) == (
        Reason.LAUNCH_ERROR,
        "cannot write the script on w1: File exists",
    )


# Scripts of the worker ---------------------------------------------------------------------------


@pytest.fixture
def folder(host: HostDriver, tmp_path: Path) -> Path:
    """The folder of scripts of the host, which has a neighbour."""
    folder = tmp_path / "allowed"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed-not" / "s.sh").write_text("echo out")
    host.disconnect()
    host.connect(script_directory=os.fsencode(folder))
    return folder


def on_worker(path: str, *words: str, interpreter: tuple[bytes, ...] = (b"sh",)) -> Launch:
    execution = Execution(script_source=ScriptSource.ON_WORKER, interpreter=interpreter)
    return builders.launch(path, *words, execution=execution)


def test_a_script_of_the_worker_is_run_by_an_interpreter_or_its_first_line(
    host: HostDriver, folder: Path
) -> None:
    (folder / "deep" / "s.sh").write_bytes(SHOW)
    (folder / "link").symlink_to("deep/s.sh")
    assert run(host, b"", on_worker("deep/s.sh", "x")).state is State.COMPLETED
    assert host.output(key()) == b"1 x 1\n"
    (folder / "deep" / "s.sh").chmod(0o755)
    linked = on_worker("link", "x", interpreter=())._replace(job_id=2)
    assert run(host, b"", linked).state is State.COMPLETED
    assert host.output(key(2)) == b"1 x 2\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.sh", "no script none.sh in the folder of scripts of w1: No such file"),
        ("deep", "deep in the folder of scripts of w1 is no file"),
        (".", "leads out"),
        ("../allowed-not/s.sh", "it must not begin with / or hold .."),
        ("deep/../../allowed-not/s.sh", "it must not begin with / or hold .."),
        ("/etc/passwd", "it must not begin with / or hold .."),
        ("to-file", "to-file leads out of the folder of scripts of w1"),
        ("to-folder/s.sh", "to-folder/s.sh leads out of the folder of scripts of w1"),
        ("loop", "Too many levels of symbolic links"),
        ("plain.sh/x", "Not a directory"),
    ],
)
def test_a_script_outside_the_folder_or_missing_is_a_launch_error(
    host: HostDriver, folder: Path, path: str, words: str
) -> None:
    (folder / "plain.sh").write_text("echo x")
    (folder / "to-file").symlink_to("/etc/passwd")
    (folder / "to-folder").symlink_to("../allowed-not")
    (folder / "loop").symlink_to("loop")
    report = run(host, b"", on_worker(path))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert words in report.detail


def test_without_a_folder_of_scripts_the_sentence_says_how_to_have_one(host: HostDriver) -> None:
    report = run(host, b"", on_worker("s.sh"))
    assert report.reason is Reason.LAUNCH_ERROR
    assert "start it with `titan worker --scripts-dir DIR`" in report.detail


# The files themselves ----------------------------------------------------------------------------


def test_a_file_that_is_held_stays_however_many_come_and_go(tmp_path: Path) -> None:
    scripts = SentScripts(os.fsencode(tmp_path / "scripts"))
    held = Path(os.fsdecode(scripts.hold(key(1), b"held")))
    scripts.hold(key(2), b"held")
    scripts.release(key(1))
    for number in range(3, 303):
        scripts.hold(key(number), b"%d" % number)
        scripts.release(key(number))
    assert held.read_bytes() == b"held"
    assert len(list(held.parent.iterdir())) == 65
    scripts.release(key(2))
    assert len(list(held.parent.iterdir())) == 64
    assert scripts.release(key(2)) == b""


def test_large_files_that_nobody_runs_are_kept_up_to_16_mib(tmp_path: Path) -> None:
    scripts = SentScripts(os.fsencode(tmp_path))
    for number in range(40):
        scripts.hold(key(number), b"%7d" % number * (1 << 17))
        scripts.release(key(number))
    total = sum(each.stat().st_size for each in tmp_path.iterdir())
    assert 15 << 20 < total <= 16 << 20


def test_an_environment_of_an_older_agent_has_no_script_and_of_a_newer_one_more() -> None:
    batch = builders.batch(builders.launch())
    for fields, script in ((((), ()), b""), (((), (), b"x", (), "", "later"), b"x")):
        old = batch._replace(environments=(fields,))  # type: ignore[arg-type]
        (message,) = protocol.Decoder().feed(protocol.encode(protocol.StartTasks(old)))
        assert isinstance(message, protocol.StartTasks)
        assert message.batch.environments == (Environment((), (), script),)
