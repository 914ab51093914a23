"""Jobs that wait for others: `--after`, FLOW.toml, WfFormat, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import titan
from tests.cluster import Cluster
from tests.e2e.tasks import Gate

FLOW = """
[defaults]
cpus = 0.5

[job.fetch]
shell = "seq 3 > numbers"

[job.square]
array = "1-3"
shell = "n=$(sed -n ${TITAN_TASK_INDEX}p numbers); echo $((n * n)) > square.$TITAN_TASK_INDEX"
after = ["fetch"]

[job.check]
array = "1-3"
shell = "test -s square.$TITAN_TASK_INDEX"
after = ["square.%i"]

[job.sum]
shell = "cat square.1 square.2 square.3 > sum"
after = ["square:ok", "check"]
"""


def test_a_flow_runs_in_its_order(shared: Cluster, tmp_path: Path) -> None:
    flow = tmp_path / "flow.toml"
    flow.write_text(FLOW)
    jobs = json.loads(shared.ok("submit", "--json", "--file", str(flow)))["jobs"]
    assert list(jobs) == ["fetch", "square", "check", "sum"]
    shared.ok("wait", *map(str, jobs.values()))
    squares = [(tmp_path / f"square.{index}").read_text() for index in (1, 2, 3)]
    assert squares == ["1\n", "4\n", "9\n"]
    assert (tmp_path / "sum").read_text() == "1\n4\n9\n"
    shown = {name: shared.json("show", str(number)) for name, number in jobs.items()}
    assert {each["state"] for each in shown.values()} == {"COMPLETED"}
    assert shown["square"]["start_time"] >= shown["fetch"]["end_time"]
    assert shown["sum"]["start_time"] >= shown["check"]["end_time"]


def test_a_flow_with_a_circle_submits_nothing(shared: Cluster, tmp_path: Path) -> None:
    flow = tmp_path / "flow.toml"
    flow.write_text(
        '[job.a]\ncommand = ["true"]\nafter = ["b"]\n[job.b]\ncommand = ["true"]\nafter = ["a"]\n'
    )
    before = last_job(shared)
    result = shared.titan("submit", "--file", str(flow))
    assert result.returncode == 2
    assert b"circle" in result.stderr or b"cycle" in result.stderr
    assert last_job(shared) == before


def last_job(shared: Cluster) -> list[int]:
    """The number of it; what becomes of it is another matter."""
    return [each["job_id"] for each in shared.json("queue", "--all", "--limit", "1")]


def test_what_waits_for_a_failure_is_cancelled_down_the_chain(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    with shared.client() as client:
        first = client.submit(gate.line("exit 3"), shell=True, name="first")
        second = client.submit(["true"], after=[first])
        third = client.submit(["true"], after=[second])
        anyway = client.submit(["true"], after=[f"{first.id}:any"])
        otherwise = client.submit(["true"], after=[f"{first.id}:failed"])
        gate.wait_runs(1)
        assert str(first.id) in second.show()["waiting_for"]
        gate.open()
        assert first.wait(60)["exit_code"] == 3
        for job in (second, third):
            view = job.wait(60)
            assert (view["state"], view["reason"]) == ("CANCELLED", "DEPENDENCY_FAILED")
            assert view["attempts_total"] == 0
        assert str(first.id) in second.show()["detail"]
        for job in (anyway, otherwise):
            assert job.wait(60)["state"] == "COMPLETED"
    assert shared.titan("wait", str(second.id)).returncode == 1
    result = shared.titan("submit", "--after", "1000000", "true")
    assert result.returncode == 2
    assert b"1000000" in result.stderr


def test_a_workflow_in_wfformat_runs(shared: Cluster, tmp_path: Path) -> None:
    def task(name: str, parents: list[str], children: list[str]) -> dict[str, object]:
        return {"name": name, "id": name, "parents": parents, "children": children}

    names = ["split", "left", "right", "merge"]
    flow = tmp_path / "flow.json"
    flow.write_text(json.dumps({
        "name": "diamond", "schemaVersion": "1.5",
        "workflow": {
            "specification": {"tasks": [
                task("split", [], ["left", "right"]), task("left", ["split"], ["merge"]),
                task("right", ["split"], ["merge"]), task("merge", ["left", "right"], []),
            ]},
            "execution": {"makespanInSeconds": 1, "executedAt": "2026-01-01T00:00:00Z", "tasks": [
                {"id": each, "runtimeInSeconds": 1, "coreCount": 1,
                 "command": {"program": "touch", "arguments": [each]}}
                for each in names
            ]},
        },
    }))  # fmt: skip
    jobs = json.loads(shared.ok("submit", "--json", "--file", str(flow)))["jobs"]
    assert sorted(jobs) == sorted(names)
    shared.ok("wait", *map(str, jobs.values()))
    assert all((tmp_path / each).exists() for each in names)
    assert (
        shared.json("show", str(jobs["merge"]))["start_time"]
        >= shared.json("show", str(jobs["right"]))["end_time"]
    )


def test_submit_many_is_all_or_nothing_with_references(shared: Cluster) -> None:
    first = titan.JobSpec(command=["true"])
    second = titan.JobSpec(command=["true"], after=[first])
    with shared.client() as client:
        jobs = client.submit_many([second, first])
        assert [job.wait(60)["state"] for job in jobs] == ["COMPLETED", "COMPLETED"]
        with pytest.raises(titan.InvalidJob):
            client.submit_many([titan.JobSpec(command=["true"]), titan.JobSpec(command=[])])
