"""Workflows in WfFormat become jobs."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import titan
from titan.client import submission
from titan.client.dependencies import positions_waited_for
from titan.client.jobspec import JobSpec
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2

Read = Callable[[Any], dict[str, JobSpec]]

DIAMOND: dict[str, Any] = {
    "name": "diamond",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {
                    "name": "merge",
                    "id": "ID4",
                    "parents": ["ID2", "ID3"],
                    "children": [],
                    "inputFiles": ["a", "b"],
                },
                {"name": "split", "id": "ID1", "parents": [], "children": ["ID2", "ID3"]},
                {"name": "work", "id": "ID2", "parents": ["ID1"], "children": ["ID4"]},
                {"name": "work", "id": "ID3", "parents": ["ID1"], "children": ["ID4"]},
            ],
            "files": [{"id": "a", "sizeInBytes": 5}],
        },
        "execution": {
            "makespanInSeconds": 14.2,
            "executedAt": "2026-08-04T15:20:00-08:00",
            "tasks": [
                {
                    "id": "ID1",
                    "runtimeInSeconds": 4.2,
                    "command": {"program": "split", "arguments": ["-n", "2", "in put.txt"]},
                    "coreCount": 1.5,
                    "memoryInBytes": 32 << 20,
                    "machines": ["node01"],
                },
                {
                    "id": "ID2",
                    "runtimeInSeconds": 1,
                    "command": {"program": "work"},
                    "memoryInBytes": 4_194_304,
                },
                {"id": "ID3", "runtimeInSeconds": 1, "command": {"program": "work"}},
                {"id": "ID4", "runtimeInSeconds": 1, "command": {"program": "/bin/cat"}},
            ],
            "machines": [{"nodeName": "node01"}],
        },
    },
}

OLD: dict[str, Any] = {
    "name": "old",
    "schemaVersion": "1.4",
    "workflow": {
        "makespanInSeconds": 3,
        "executedAt": "2020-04-01T15:10:53-08:00",
        "tasks": [
            {
                "name": "a_1",
                "id": "1",
                "type": "compute",
                "runtimeInSeconds": 1,
                "command": {"program": "a", "arguments": ["x"]},
                "cores": 4,
                "memoryInBytes": 1 << 30,
            },
            # Told at one end only, the one way and the other.
            {"name": "b_1", "parents": ["a_1"], "children": ["c_1"], "command": {"program": "b"}},
            {"name": "c_1", "parents": [], "command": {"program": "c"}},
        ],
    },
}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a file with that document."""
    path = tmp_path / "flow.json"

    def read(document: Any) -> dict[str, JobSpec]:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return titan.read_flow(path)

    return read


def request_of(specs: dict[str, JobSpec]) -> manager_pb2.SubmitJobRequest:
    (request,) = submission.submit_requests(
        list(specs.values()), user="alice", request_id=bytes(16), environ={}, at_once=True
    )
    return request


@pytest.mark.parametrize("version", ["1.5", "1.6"])
def test_a_task_becomes_a_job_that_waits_for_its_parents(
    read: Read, tmp_path: Path, version: str
) -> None:
    specs = read({**DIAMOND, "schemaVersion": version})
    assert list(specs) == ["ID4", "ID1", "ID2", "ID3"]
    request = request_of(specs)
    merge, split, work, other = request.jobs
    assert [job.name for job in request.jobs] == ["merge", "split", "work", "work"]
    assert [positions_waited_for(job) for job in request.jobs] == [[2, 3], [], [1], [1]]
    assert list(split.command) == [b"split", b"-n", b"2", b"in put.txt"]
    assert list(merge.command) == [b"/bin/cat"]
    assert [job.resources.cpus_milli for job in request.jobs] == [1000, 1500, 1000, 1000]
    assert split.resources.memory_bytes == 32 << 20
    assert work.resources.memory_bytes == other.resources.memory_bytes == 0
    assert {job.cwd.decode() for job in request.jobs} == {str(tmp_path)}
    assert all(
        each.condition == manager_pb2.DEPENDENCY_OK
        for job in request.jobs
        for each in job.scheduling.after
    )


def test_in_old_files_tasks_name_each_other_by_name_and_at_one_end(read: Read) -> None:
    specs = read(OLD)
    request = request_of(specs)
    assert list(specs) == ["a_1", "b_1", "c_1"]
    assert [positions_waited_for(job) for job in request.jobs] == [[], [0], [1]]
    assert list(request.jobs[0].command) == [b"a", b"x"]
    first = request.jobs[0].resources
    assert (first.cpus_milli, first.memory_bytes) == (4000, 1 << 30)


def test_json_is_known_by_its_first_sign_too(tmp_path: Path) -> None:
    path = tmp_path / "workflow"
    path.write_text("\n " + json.dumps(DIAMOND))
    assert len(titan.read_flow(path)) == 4


def test_an_end_that_a_task_does_not_tell_contradicts_nothing(read: Read) -> None:
    document = copy.deepcopy(DIAMOND)
    for task in document["workflow"]["specification"]["tasks"]:
        del task["children"]
    request = request_of(read(document))
    assert [positions_waited_for(job) for job in request.jobs] == [[2, 3], [], [1], [1]]


def test_ten_thousand_tasks_are_read(read: Read) -> None:
    def name(number: int) -> list[str]:
        return [f"t{number}"] if 0 <= number < 10_000 else []

    document = {
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {"name": "x", "id": f"t{n}", "parents": name(n - 1), "children": name(n + 1)}
                    for n in range(10_000)
                ]
            },
            "execution": {
                "tasks": [{"id": f"t{n}", "command": {"program": "true"}} for n in range(10_000)]
            },
        },
    }
    request = request_of(read(document))
    assert positions_waited_for(request.jobs[9_999]) == [9_998]


Change = Callable[[dict[str, Any]], object]


def told(document: dict[str, Any]) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = document["workflow"]["specification"]["tasks"]
    return tasks


def run(document: dict[str, Any]) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = document["workflow"]["execution"]["tasks"]
    return tasks


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(schemaVersion="1.3"), 'of 1.4 to 1.6: its schemaVersion is "1.3"'),
        (lambda d: d.update(schemaVersion=[]), "its schemaVersion is []"),
        (lambda d: d.pop("schemaVersion"), "its schemaVersion is null"),
        (lambda d: d.pop("workflow"), "it has no workflow"),
        (lambda d: d["workflow"].pop("specification"), "it has no specification"),
        (lambda d: d["workflow"].update(execution=[]), "it has no execution"),
        (lambda d: d["workflow"].pop("execution"), "task ID4 has no command"),
        (lambda d: told(d).clear(), "workflow.specification.tasks is no list of tasks"),
        (lambda d: told(d).append({"id": "x"}), "task x has no name"),
        (lambda d: told(d).append({"name": "x"}), "a task of workflow.specification.tasks has no"),
        (lambda d: told(d).append(told(d)[0]), "two tasks of the id ID4"),
        (lambda d: run(d).append(run(d)[0]), "two tasks of the id ID1"),
        (lambda d: run(d).append({"id": "x"}), "has a task x, which is not in workflow.spec"),
        (lambda d: run(d)[0].pop("command"), "task ID1 has no command: Titan runs"),
        (lambda d: run(d)[0].update(command={"arguments": ["x"]}), "task ID1 has no command"),
        (
            lambda d: run(d)[0].update(command={"program": 5}),
            "task ID1: its command is not all text",
        ),
        (lambda d: run(d)[0]["command"].update(arguments=[1]), "its command is not all text"),
        (lambda d: run(d)[0].update(coreCount=0), "task ID1: 0 is no number of cpus"),
        (lambda d: run(d)[0].update(coreCount="4"), 'task ID1: "4" is no number of cpus'),
        (lambda d: run(d)[0].update(coreCount=1e300), "job ID1: 1e+300 cpus"),
        (lambda d: run(d)[0].update(memoryInBytes=-1), "task ID1: -1 is no number of bytes"),
        (lambda d: told(d)[0].update(parents="ID2"), "task ID4: parents is no list"),
        (lambda d: told(d)[0].update(parents=["x"]), "task ID4: parents names x, and there is no"),
        (lambda d: told(d)[0].update(children=["x"]), "task ID4: children names x"),
        (
            lambda d: told(d)[0]["parents"].append("ID1"),
            "task ID4 has the parent ID1, which does not have it among its children",
        ),
        (
            lambda d: told(d)[1]["children"].append("ID4"),
            "task ID1 has the child ID4, which does not have it among its parents",
        ),
        (
            lambda d: (
                told(d)[0].update(children=["ID1"]),
                told(d)[1].update(parents=["ID4"]),
            ),
            "jobs that wait for each other could never start: ID",
        ),
    ],
)
def test_what_is_wrong_is_told_by_the_tasks_name(read: Read, change: Change, why: str) -> None:
    document = copy.deepcopy(DIAMOND)
    change(document)
    with pytest.raises(InvalidJob) as error:
        read(document)
    assert why in str(error.value).partition("flow.json: ")[2]


def test_old_tasks_of_one_name_are_refused(read: Read) -> None:
    document = copy.deepcopy(OLD)
    document["workflow"]["tasks"].append(document["workflow"]["tasks"][0])
    with pytest.raises(InvalidJob, match="two tasks of the name a_1"):
        read(document)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "5", '"x"', "null", "[" * 100_000, '{"schemaVersion": NaN}', "\x00", ""],
)
def test_what_is_no_workflow_at_all_is_told(read: Read, text: str) -> None:
    with pytest.raises(InvalidJob, match=r"flow\.json: this is no (JSON|workflow in WfFormat)"):
        read(text)


def test_numbers_beyond_all_bounds_are_refused(read: Read) -> None:
    text = json.dumps(DIAMOND).replace("1.5,", "1e999,", 1)
    with pytest.raises(InvalidJob, match="no number of cpus"):
        read(text)
