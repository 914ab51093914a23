"""`submit --script`: the options in the file, and `show --script`."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager
from titan.cli.script_options import Directives, find_directives
from titan.rpc.v1 import types_pb2

Write = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes job.sh in this directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "job.sh").write_text(text)
        return "job.sh"

    return write


def only_job(manager: FakeManager) -> Any:
    (request,) = manager.called("SubmitJob")
    (job,) = request.jobs
    return job


def variables(manager: FakeManager) -> dict[bytes, bytes]:
    (request,) = manager.called("SubmitJob")
    return {each.name: each.value for each in request.environments[0].set}


def test_a_script_goes_with_the_job_and_what_follows_are_its_arguments(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    path = script("#!/bin/sh\necho hi\n")
    assert titan("submit", "--script", path, "a", "--cpus") == (0, "Submitted job 1\n", "")
    (request,) = manager.called("SubmitJob")
    assert request.environments[0].script == b"#!/bin/sh\necho hi\n"
    job = only_job(manager)
    assert (job.name, list(job.command)) == ("job.sh", [b"job.sh", b"a", b"--cpus"])
    assert job.execution.script_source == types_pb2.SCRIPT_SENT


def test_a_script_says_when_and_where_it_may_run_and_the_command_line_adds_to_it(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    path = script(
        "#!/bin/sh\n"
        "#TITAN --array 0-9%2 --after 42 --retries 3 --retry-on 75 --begin now+1h\n"
        "#TITAN --constraint 'zone in (a,b)' --exclusive\n"
    )
    assert titan("submit", "--script", path, "--after", "43:any", "--retries", "1").code == 0
    asked = only_job(manager).scheduling
    assert asked.array_limit == 2
    assert [each.job.job.job_id for each in asked.after] == [42, 43]
    assert (asked.retries, list(asked.retry_on), asked.exclusive) == (1, [75], True)
    assert list(asked.constraints[0].values) == ["a", "b"]
    assert asked.begin_us > 0


def test_a_script_may_come_on_stdin(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"#TITAN --cpus 3\nprint(1)\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert titan("submit", "--script", "-", "--interpreter", "python3 -O", "x").code == 0
    job = only_job(manager)
    assert list(job.command) == [b"script", b"x"]
    assert list(job.execution.interpreter) == [b"python3", b"-O"]
    assert job.resources.cpus_milli == 3000


def test_a_script_of_the_worker_needs_no_file_here(manager: FakeManager, titan: Titan) -> None:
    assert titan("submit", "--worker-script", "deep/x.sh", "--interpreter", "sh", "a").code == 0
    job = only_job(manager)
    assert (job.name, list(job.command)) == ("x.sh", [b"deep/x.sh", b"a"])
    assert job.execution.script_source == types_pb2.SCRIPT_ON_WORKER


ALL = """#!/bin/bash
# A comment, and a blank line, do not end them.

#TITAN --cpus 2 --time-limit=1h
  #TITAN\t--name 'two words' --priority -3
#TITAN --env "A=1 2" --env B=2 --resource gpu=1
#TITAN --env A=3 --array 0-9 --export NONE --interpreter 'bash -e'
#TITAN
#TITANIC --sinks
##TITAN --cpus 7
"""


def test_the_options_in_a_script_are_those_of_the_command_line(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    assert titan("submit", "--script", script(ALL)).code == 0
    job = only_job(manager)
    assert (job.resources.cpus_milli, job.time_limit_ms) == (2000, 3_600_000)
    assert (job.name, job.priority, dict(job.resources.named)) == ("two words", -3, {"gpu": 1})
    assert (job.array[0].start, job.array[0].stop) == (0, 10)
    assert list(job.execution.interpreter) == [b"bash", b"-e"]
    # As on the command line, the last one of a name counts.
    assert variables(manager) == {b"A": b"3", b"B": b"2"}
    (request,) = manager.called("SubmitJob")
    assert not request.environments[0].exported


def test_the_command_line_wins_and_keeps_what_it_does_not_name(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    given = ["--cpus", "1", "--env", "A=mine", "--env", "C=4", "--resource", "gpu=2"]
    assert titan("submit", *given, "--script", script(ALL)).code == 0
    job = only_job(manager)
    assert (job.resources.cpus_milli, job.time_limit_ms) == (1000, 3_600_000)
    assert variables(manager) == {b"A": b"mine", b"B": b"2", b"C": b"4"}
    assert dict(job.resources.named) == {"gpu": 2}


def test_the_environment_wins_too_as_with_sbatch(
    manager: FakeManager, titan: Titan, script: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_SUBMIT_CPUS", "5")
    assert titan("submit", "--script", script(ALL)).code == 0
    assert only_job(manager).resources.cpus_milli == 5000


def test_options_end_with_the_first_line_that_is_no_comment(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    path = script("#!/bin/sh\n#TITAN --cpus 2\necho\n#TITAN --cpus 3\n#SBATCH -n 1\n")
    assert titan("submit", "--script", path).err == ""
    assert only_job(manager).resources.cpus_milli == 2000


def test_lines_for_slurm_are_ignored_with_one_warning(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    path = script("#!/bin/sh\n#SBATCH --mem=4G\n#TITAN --cpus 2\n#SBATCH -n 3\n\n#SBATCHES\n")
    result = titan("submit", "--script", path)
    assert result.code == 0
    assert result.err == (
        "titan: job.sh: ignored #SBATCH (lines: 2 4); options for Titan are in #TITAN lines\n"
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--cpu 2", "job.sh, line 2: No such option"),
        ("--cpu 2", "--cpus"),
        ("--cpus", "job.sh, line 2: Option '--cpus' requires an argument"),
        ("--cpus many", "job.sh, line 2: Invalid value for '--cpus'"),
        ("--name 'x", "job.sh, line 2: no closing quotation"),
        ("--name a b", "job.sh, line 2: 'b' is no option"),
        ("--help", "job.sh, line 2: No such option"),
        ("--array x", "'x' is no array"),
        *(
            (line, f"job.sh, line 2: {line.split()[0]} makes no sense in a script")
            for line in (
                *("--script x", "--worker-script x", "--shell", "--request-id x", "--wait"),
                *("--quiet", "--retry-for 1s", "--manager h:1", "--access f", "--json"),
            )
        ),
        ("-q", "job.sh, line 2: --quiet makes no sense"),
    ],
)
def test_an_option_that_is_wrong_is_a_usage_error_that_says_where(
    manager: FakeManager, titan: Titan, script: Write, line: str, words: str
) -> None:
    path = script(f"#!/bin/sh\n#TITAN {line}\n")
    result = titan("submit", "--script", path)
    assert (result.code, result.out) == (2, "")
    assert words in result.err.replace("\n", " ")
    assert not manager.called("SubmitJob")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--script", "none.sh"], "cannot read the script none.sh: No such file"),
        (["--script", "."], "Is a directory"),
        (["--script", "job.sh", "--shell"], "leave out --shell"),
        (["--worker-script", "x", "--shell"], "leave out --shell"),
        (["--script", "job.sh", "--worker-script", "x"], "runs one script"),
        (["--interpreter", "sh", "true"], "an interpreter runs a script"),
        (["--script", "job.sh", "--interpreter", "'"], "has no end"),
        (["--worker-script", "../x"], "without .."),
    ],
    ids=" ".join,
)
def test_scripts_that_cannot_be_are_a_usage_error(
    manager: FakeManager, titan: Titan, script: Write, arguments: list[str], words: str
) -> None:
    script("#!/bin/sh\n")
    result = titan("submit", *arguments)
    assert result.code == 2
    assert words in result.err.replace("\n", " ")


def test_an_empty_script_on_stdin_is_refused(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    result = titan("submit", "--script", "-")
    assert (result.code, "the script on stdin is empty" in result.err) == (2, True)


def test_only_the_lines_at_the_beginning_are_looked_at() -> None:
    text = b"#TITAN a\r\n\n \t\n#SBATCH\n# \xff\n#TITAN\tb  c \nx\n#TITAN d\n"
    assert find_directives(text) == Directives([(1, "a"), (6, "b  c")], [4])
    assert find_directives(b"") == find_directives(b"x\n#TITAN a") == Directives([], [])


# Shown -------------------------------------------------------------------------------------------


def test_a_job_shows_that_it_runs_a_script_and_which(
    manager: FakeManager, titan: Titan, script: Write
) -> None:
    titan("submit", "--script", script("#!/bin/sh\n"), "--interpreter", "bash -e")
    assert "runs with    a script, the interpreter bash -e\n" in titan("show", "1").out
    view = json.loads(titan("show", "1", "--json").out)
    assert (view["script"], view["interpreter"]) == ("job", ["bash", "-e"])
    shown = titan("show", "1", "--script")
    assert (shown.code, shown.out) == (0, "#!/bin/sh\n")
    assert json.loads(titan("show", "1", "--script", "--json").out) == {
        "job_id": 1,
        "script": "#!/bin/sh\n",
    }


def test_a_job_without_a_script_says_what_it_runs(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(command=[b"sleep", b"1 0"])
    execution = types_pb2.Execution(script_source=types_pb2.SCRIPT_ON_WORKER)
    manager.add_job(command=[b"x.sh"], execution=execution)
    plain, on_worker = (titan("show", number, "--script") for number in "12")
    assert (plain.code, plain.out) == (4, "")
    assert "job 1 was submitted without a script: it runs sleep '1 0'" in plain.err
    assert "which lives on its worker" in on_worker.err
    assert "a script of the worker" in titan("show", "2").out


@pytest.mark.parametrize("other", [["--events"], ["--attempts", "1"], ["--state", "FAILED"]])
def test_a_script_is_shown_alone(manager: FakeManager, titan: Titan, other: list[str]) -> None:
    manager.add_job()
    assert titan("show", "1", "--script", *other).code == 2
    assert not manager.called("GetJobStatus")
