"""`titan why` and `titan plan`: what they ask, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import PAST_LSN, PAST_US, FakeManager, array_of
from titan.cli.text import local_time
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2


def lay_out(manager: FakeManager, verdict: manager_pb2.Verdict.ValueType) -> None:
    manager.explanation.CopyFrom(
        manager_pb2.Explanation(
            index=7, state=types_pb2.PENDING, verdict=verdict, sentence="no room", workers=2
        )
    )


def test_why_names_the_task_and_says_what_the_manager_says(
    manager: FakeManager, titan: Titan
) -> None:
    manager.add_job(name="train", array=array_of((0, 9)))
    lay_out(manager, manager_pb2.VERDICT_NOW)
    assert titan("why", "1.7") == (0, "1.7 (train) PENDING: no room\n", "")
    (request,) = manager.called("ExplainJob")
    assert (request.job.job_id, request.job.indexes[0].start) == (1, 7)


def test_why_finds_a_job_by_its_name_and_the_last_one(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(name="train", user=os_user())
    lay_out(manager, manager_pb2.VERDICT_NOW)
    assert titan("why", "name:train").out == titan("why", "last").out
    assert titan("why", "last").out.startswith("1 (train) PENDING: ")


def test_why_of_the_past_says_when_that_was_and_counts_to_it(
    manager: FakeManager, titan: Titan
) -> None:
    manager.add_job()
    lay_out(manager, manager_pb2.VERDICT_LATER)
    manager.explanation.start_us = PAST_US + 240_000_000
    result = titan("why", "1", "--at", str(PAST_LSN))
    assert result.err == f"as of {local_time(PAST_US / 1e6)} (LSN {PAST_LSN})\n"
    assert "could start in about 4 min" in result.out
    # The job itself is of that moment, too.
    assert manager.called("ExplainJob")[0].at.lsn == PAST_LSN
    assert manager.called("GetJobStatus")[0].at.lsn == PAST_LSN


def test_why_as_json_is_the_explanation(manager: FakeManager, titan: Titan) -> None:
    manager.add_job()
    lay_out(manager, manager_pb2.VERDICT_LATER)
    view = json.loads(titan("why", "1", "--json").out)
    assert (view["job_id"], view["index"], view["verdict"]) == (1, 7, "LATER")
    assert not manager.called("GetJobStatus")


def test_why_of_a_job_that_is_not_there_exits_with_4(manager: FakeManager, titan: Titan) -> None:
    assert titan("why", "9").code == 4
    assert titan("why", "nonsense").code == 2


@pytest.mark.parametrize(
    ("verdict", "code", "would"),
    [
        (manager_pb2.VERDICT_NOW, 0, "would start now"),
        (manager_pb2.VERDICT_LATER, 1, "would wait"),
        (manager_pb2.VERDICT_NEVER, 2, "could never start"),
        (manager_pb2.VERDICT_UNSPECIFIED, 1, "could not be planned"),
    ],
)
def test_a_plan_exits_as_it_goes_out_and_submits_nothing(
    manager: FakeManager,
    titan: Titan,
    verdict: manager_pb2.Verdict.ValueType,
    code: int,
    would: str,
) -> None:
    lay_out(manager, verdict)
    result = titan("plan", "--name", "train", "--cpus", "3", "python", "train.py", "--fast")
    assert (result.code, result.err) == (code, "")
    assert result.out.startswith(f"train {would}: no room\n")
    (request,) = manager.called("PlanJobs")
    (spec,) = request.jobs
    assert (spec.resources.cpus_milli, list(spec.command)[1:]) == (3000, [b"train.py", b"--fast"])
    assert request.user == os_user()
    assert not manager.jobs
    assert titan("plan", "--json", "true").code == code


def test_a_plan_as_json_is_the_explanation(manager: FakeManager, titan: Titan) -> None:
    lay_out(manager, manager_pb2.VERDICT_LATER)
    view = json.loads(titan("plan", "--json", "true").out)
    assert (view["job_id"], view["verdict"], view["sentence"]) == (None, "LATER", "no room")


def test_a_plan_takes_what_a_submit_would_take(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lay_out(manager, manager_pb2.VERDICT_NOW)
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#TITAN --memory 2G\ntrue\n")
    monkeypatch.setenv("TITAN_SUBMIT_CPUS", "5")
    assert titan("plan", "--script", str(script)).code == 0
    (spec,) = manager.called("PlanJobs")[0].jobs
    assert (spec.resources.cpus_milli, spec.resources.memory_bytes) == (5000, 2 << 30)


@pytest.mark.parametrize("line", ["plan", "plan --cpus 0 true", "plan --array x true"])
def test_what_is_no_job_is_a_usage_error_of_a_plan(
    manager: FakeManager, titan: Titan, line: str
) -> None:
    assert titan(*line.split()).code == 2
    assert not manager.calls
