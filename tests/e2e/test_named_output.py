"""Files that users name for output, from the command line to those who read it."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import Cluster
from titan import Client

BOTH = "echo out; echo err >&2"


def test_output_goes_to_the_named_files_and_is_shown_from_there(
    shared: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    where = ["--cwd", str(tmp_path), "--stdout", "log/%j.%i.%a", "--stderr", "log/%n"]
    result = shared.titan("run", *where, "--name", "a/b", "--shell", f"{BOTH}; exit 3")
    assert (result.returncode, result.stdout) == (3, b"out\n")
    assert b"err\n" in result.stderr
    view = shared.json("show", "last")
    stdout, stderr = tmp_path / "log" / f"{view['job_id']}.0.1", tmp_path / "log" / "a_b"
    assert (stdout.read_text(), stderr.read_text()) == ("out\n", "err\n")
    (attempt,) = view["attempts"]
    assert (attempt["stdout_path"], attempt["stderr_path"]) == (str(stdout), str(stderr))
    assert (view["stdout"], view["stderr"]) == ("log/%j.%i.%a", "log/%n")
    shown = shared.ok("show", "last").decode()
    assert shown.endswith(f"Last lines of its stderr ({stderr}):\n  err\n")
    assert "runs with    stdout to log/%j.%i.%a, stderr to log/%n\n" in shown
    logs = shared.titan("logs", "last")
    assert (logs.stdout, logs.stderr) == (b"out\n", b"err\n")


def test_one_file_for_both_is_shown_once_and_only_what_is_new_in_it(
    shared: Cluster, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("from before\n")
    with Client(shared.address, access_file=shared.manager_directory / "access.json") as client:
        job = client.submit(BOTH, shell=True, cwd=tmp_path, stdout="log", stderr=log)
        assert job.wait(timeout=60)["state"] == "COMPLETED"
        assert job.output() == b"out\nerr\n"
        assert job.output(stream="stderr") == b"out\nerr\n"
        chunks = list(job.stream_output())
        assert {chunk.stream for chunk in chunks} == {"stdout"}
    assert log.read_text() == "from before\nout\nerr\n"
    log.unlink()
    told = shared.titan("logs", str(job.id)).stderr.decode()
    assert told.endswith(
        f"has no output of {job.id}: it went to {log}, which is not there any more\n"
    )


def test_a_missing_directory_fails_the_task_with_a_sentence(
    shared: Cluster, tmp_path: Path
) -> None:
    result = shared.titan("run", "--cwd", str(tmp_path), "--stdout", "no/log", "true")
    assert result.returncode == 127
    assert b"cannot write stdout to no/log on w" in result.stderr
    assert b": there is no directory no" in result.stderr


def test_an_unknown_sign_is_a_usage_error(shared: Cluster) -> None:
    result = shared.titan("submit", "--stderr", "log.%x", "true")
    assert result.returncode == 2
    assert b"the name of stderr holds %x, which stands for nothing" in result.stderr
