"""`titan submit --file`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager
from titan.rpc.v1 import manager_pb2

FLOW = """
[defaults]
cpus = 2
[job.report]
shell = "cat out/* > report.txt"
after = ["score:any", 42]
[job.fetch]
command = ["python", "fetch.py", "a b"]
[job.train]
command = ["python", "train.py"]
array = "0-9"
after = ["fetch"]
[job.score]
command = ["python", "score.py"]
array = "0-9"
after = ["train.%i", "last:failed"]
"""

Write = Callable[[str], str]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a flow in a directory below this one and returns its path from here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()

    def write(text: str) -> str:
        (tmp_path / "sub" / "flow.toml").write_text(text)
        return "sub/flow.toml"

    return write


def test_all_jobs_of_a_file_are_submitted_in_one_request(
    manager: FakeManager, titan: Titan, flow: Write, tmp_path: Path
) -> None:
    result = titan("submit", "--file", flow(FLOW))
    assert result == (
        0,
        "Submitted job 1 (report)\nSubmitted job 2 (fetch)\n"
        "Submitted job 3 (train)\nSubmitted job 4 (score)\n",
        "",
    )
    (request,) = manager.called("SubmitJob")
    assert [job.name for job in request.jobs] == ["report", "fetch", "train", "score"]
    assert {job.cwd.decode() for job in request.jobs} == {str(tmp_path / "sub")}
    after = request.jobs[3].scheduling.after
    assert (after[0].job.position, after[0].same_index) == (2, True)
    assert after[1].condition == manager_pb2.DEPENDENCY_FAILED
    view = json.loads(titan("show", "--json", "4").out)
    assert view["after"][0] == {
        "job_id": 3, "condition": "ok", "index": None, "same_index": True,
    }  # fmt: skip


def test_as_json_the_names_lead_to_the_numbers(
    manager: FakeManager, titan: Titan, flow: Write
) -> None:
    result = titan("submit", "--json", "--file", flow(FLOW))
    assert json.loads(result.out) == {"jobs": {"report": 1, "fetch": 2, "train": 3, "score": 4}}


def test_quiet_prints_the_numbers_alone(manager: FakeManager, titan: Titan, flow: Write) -> None:
    assert titan("submit", "-q", "--file", flow(FLOW)).out == "1\n2\n3\n4\n"


def test_the_same_request_id_answers_with_the_same_jobs(
    manager: FakeManager, titan: Titan, flow: Write
) -> None:
    path = flow(FLOW)
    for _ in range(2):
        assert titan("submit", "-q", "--request-id", "x", "--file", path).out == "1\n2\n3\n4\n"
    assert len(manager.jobs) == 4


def test_with_wait_the_first_in_the_file_that_failed_decides(
    manager: FakeManager, titan: Titan, flow: Write
) -> None:
    codes = {"a": 0, "b": 7, "c": 3}

    def finish(job: manager_pb2.Job) -> None:
        manager.run(job)
        manager.end(job, exit_code=codes[job.name])

    manager.on_submit = finish
    text = "".join(f"[job.{name}]\ncommand = ['x']\n" for name in codes)
    result = titan("submit", "--wait", "-q", "--file", flow(text))
    assert (result.code, result.out) == (7, "1\n2\n3\n")
    assert sorted(line.split()[1] for line in result.err.splitlines()) == ["1", "2", "3"]


def test_a_dry_run_prints_the_jobs_behind_those_that_they_wait_for_and_needs_no_manager(
    titan: Titan, flow: Write
) -> None:
    result = titan("--manager", "127.0.0.1:1", "submit", "--dry-run", "--file", flow(FLOW))
    assert result.code == 0
    assert result.out.splitlines() == [
        "JOB     TASKS  COMMAND                 AFTER",
        "fetch       1  python fetch.py 'a b'",
        "train      10  python train.py         fetch",
        "score      10  python score.py         train.%i, last:failed",
        "report      1  cat out/* > report.txt  score:any, 42",
    ]
    assert result.err == "titan: 4 jobs of sub/flow.toml would be submitted; nothing was\n"


def test_a_dry_run_as_json_has_the_same(titan: Titan, flow: Write) -> None:
    jobs = json.loads(titan("submit", "--json", "--dry-run", "--file", flow(FLOW)).out)["jobs"]
    assert list(jobs) == ["fetch", "train", "score", "report"]
    assert jobs["score"] == {
        "name": "score",
        "command": ["python", "score.py"],
        "array": "0-9",
        "after": ["train.%i", "last:failed"],
    }


def test_a_workflow_in_wfformat_is_submitted_by_its_tasks_ids(
    manager: FakeManager, titan: Titan, tmp_path: Path
) -> None:
    document = {
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {"name": "work", "id": "ID1", "parents": [], "children": ["ID2"]},
                    {"name": "work", "id": "ID2", "parents": ["ID1"], "children": []},
                ]
            },
            "execution": {
                "tasks": [
                    {"id": key, "runtimeInSeconds": 1, "command": {"program": "true"}}
                    for key in ("ID1", "ID2")
                ]
            },
        },
    }
    path = tmp_path / "w.json"
    path.write_text(json.dumps(document))
    assert titan("submit", "--file", str(path)).out == (
        "Submitted job 1 (ID1)\nSubmitted job 2 (ID2)\n"
    )
    assert titan("submit", "--dry-run", "--file", str(path)).out.splitlines() == [
        "JOB  NAME  TASKS  COMMAND  AFTER",
        "ID1  work      1  true",
        "ID2  work      1  true     ID1",
    ]
    assert [job.name for job in manager.jobs.values()] == ["work", "work"]
    assert manager.jobs[2].scheduling.after[0].job.job.job_id == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--cpus", "2"], "put --cpus into the file, as cpus below [defaults] or a [job.NAME]"),
        (["--anti-affinity", "self"], "put --anti-affinity into the file, as anti_affinity"),
        (["true"], "leave out COMMAND"),
        (["--dry-run", "--wait"], "leave out --wait and --quiet"),
        (["--dry-run", "-q"], "leave out --wait and --quiet"),
        (["--request-id", "x" * 65], "1 to 64 characters"),
    ],
)
def test_what_does_not_go_with_a_file_is_refused_and_nothing_is_sent(
    manager: FakeManager, titan: Titan, flow: Write, arguments: list[str], why: str
) -> None:
    result = titan("submit", "--file", flow(FLOW), *arguments)
    assert (result.code, result.out) == (2, "")
    assert why in result.err
    assert manager.calls == []


def test_a_dry_run_needs_a_file(manager: FakeManager, titan: Titan) -> None:
    result = titan("submit", "--dry-run", "true")
    assert result.code == 2
    assert "--file" in result.err
    assert manager.calls == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[job.a]\ncommand = ['x']\nmemory = 5\n", "sub/flow.toml: job a: memory: '5' has no unit"),
        ("[job.a]\ncommand = ['x']\nafter = 'b'\n", "sub/flow.toml: job a: after: there is no job"),
        (
            "[job.a]\ncommand = ['x']\n[job.b]\ncommand = ['x']\nafter = 'a.5'\n",
            "sub/flow.toml: b waits for task 5 of a",
        ),
        ("[job.a]\ncommand = ['x']\n[job.b]\ncommand = ['\x1b']", "sub/flow.toml: this is no TOML"),
    ],
)
def test_a_wrong_file_is_a_mistake_of_the_user_and_nothing_is_sent(
    manager: FakeManager, titan: Titan, flow: Write, text: str, why: str
) -> None:
    for more in ([], ["--dry-run"], ["--json"]):
        result = titan("submit", "--file", flow(text), *more)
        assert (result.code, result.out) == (2, "")
        assert why in result.err
    assert manager.calls == []


def test_variables_that_say_what_to_submit_are_told_to_be_ignored(
    manager: FakeManager, titan: Titan, flow: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_SUBMIT_CPUS", "7")
    monkeypatch.setenv("TITAN_SUBMIT_QUIET", "1")
    result = titan("submit", "--file", flow("[job.a]\ncommand = ['x']"))
    assert result == (
        0, "1\n", "titan: ignored TITAN_SUBMIT_CPUS: --file says what to submit\n"
    )  # fmt: skip
    assert manager.jobs[1].resources.cpus_milli == 1000


def test_options_in_a_script_of_a_file_are_told_to_be_ignored(
    manager: FakeManager, titan: Titan, flow: Write, tmp_path: Path
) -> None:
    path = flow("[job.a]\nscript = 'job.sh'")
    (tmp_path / "sub" / "job.sh").write_text("#!/bin/sh\n#TITAN --cpus 7\n")
    result = titan("submit", "-q", "--file", path)
    assert result == (
        0, "1\n", "titan: job a: ignored #TITAN lines of job.sh; the file has its options\n"
    )  # fmt: skip


def test_names_in_a_file_cannot_speak_to_the_terminal(
    manager: FakeManager, titan: Titan, flow: Write
) -> None:
    path = flow('[job."a\\u001b[31m"]\ncommand = ["x\\u009b"]')
    assert titan("submit", "--file", path).out == "Submitted job 1 (a\\x1b[31m)\n"
    assert "x\\x9b" in titan("submit", "--dry-run", "--file", path).out


def test_the_managers_refusal_decides_the_exit_code(
    manager: FakeManager, titan: Titan, flow: Write
) -> None:
    manager.fail("SubmitJob", grpc.StatusCode.NOT_FOUND, "there is no job 42")
    assert titan("submit", "--file", flow(FLOW))[:2] == (4, "")
    manager.fail("SubmitJob", grpc.StatusCode.NOT_FOUND, "there is no job 42")
    assert titan("submit", "--wait", "--file", flow(FLOW))[:2] == (125, "")


def test_every_option_that_says_what_to_submit_is_a_key_of_the_file() -> None:
    from titan.cli.flow import _BESIDE_A_FILE
    from titan.cli.submit import submit
    from titan.client.flow_keys import KEYS

    options: list[Any] = [option.name for option in submit.params]
    says_what = set(options) - _BESIDE_A_FILE
    # A table is as good as its option.
    assert says_what == set(KEYS) - {"resources"}
