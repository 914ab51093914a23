"""`--at`, `show --events`, and what is said of answers from the past."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import PAST_LSN, PAST_US, FakeManager
from titan.cli.text import local_time
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2

AS_OF = f"as of {local_time(PAST_US / 1e6)} (LSN {PAST_LSN})\n"
READS = (
    (["queue"], "ListJobs"),
    (["show", "1"], "GetJobStatus"),
    (["workers"], "ListWorkers"),
    (["stats"], "GetStats"),
)


@pytest.mark.parametrize(("words", "method"), READS, ids=str)
def test_a_bare_number_is_an_lsn_before_and_after_the_command(
    manager: FakeManager, titan: Titan, words: list[str], method: str
) -> None:
    manager.add_job()
    after, before = titan(*words, "--at", "12"), titan("--at", "12", *words)
    assert (after.code, after.err) == (before.code, before.err) == (0, AS_OF)
    assert after.out == before.out
    assert [each.at for each in manager.called(method)] == [manager_pb2.Moment(lsn=12)] * 2


@pytest.mark.parametrize(("words", "method"), READS, ids=str)
def test_anything_else_is_a_time(
    manager: FakeManager, titan: Titan, words: list[str], method: str
) -> None:
    manager.add_job()
    assert titan(*words, "--at", "2023-11-14T22:13:20+00:00").err == AS_OF
    assert manager.called(method)[-1].at == manager_pb2.Moment(time_us=PAST_US)


@pytest.mark.parametrize(("words", "method"), READS, ids=str)
def test_json_has_the_same_form_for_the_past(
    manager: FakeManager, titan: Titan, words: list[str], method: str
) -> None:
    del method
    manager.add_job()
    now, then = titan("--json", *words), titan("--json", *words, "--at", "12")
    assert then.err == ""
    shapes = [json.loads(each.out) for each in (now, then)]
    first, second = (each[0] if isinstance(each, list) and each else each for each in shapes)
    assert list(first) == list(second)


def test_ages_count_to_the_moment_that_is_asked_about(manager: FakeManager, titan: Titan) -> None:
    manager.add_job(submit_us=PAST_US - 90_000_000)
    assert " 1m30s\n" in titan("queue", "--at", "12").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["queue", "--at", "soon"], "is no time"),
        (["queue", "--at", "12", "-w"], "leave out --at"),
        (["submit", "--at", "12", "true"], "No such option"),
        (["--at", "12", "cancel", "1"], "no option --at"),
        (["show", "1", "--events", "--attempts", "3"], "--events shows all"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    manager: FakeManager, titan: Titan, words: list[str], told: str
) -> None:
    del manager
    result = titan(*words)
    assert result.code == 2
    assert told in result.err


@pytest.fixture
def story(manager: FakeManager) -> None:
    """Two events of job 1, an answer each."""
    manager.events = [
        manager_pb2.GetEventsResponse(
            lsn=lsn,
            events=[
                manager_pb2.Event(
                    lsn=lsn, time_us=PAST_US + lsn, event=name, fields=json.dumps(fields)
                )
            ],
        )
        for lsn, name, fields in (
            (3, "TaskAssigned", {"job_id": 1, "index": 7, "worker": 2, "ahead": False}),
            (5, "TaskStarted", {"job_id": 1, "index": 7, "start_us": PAST_US}),
        )
    ]


@pytest.mark.usefixtures("story")
def test_events_are_a_line_each(titan: Titan) -> None:
    result = titan("show", "1", "--events")
    assert result.code == 0
    assert result.err == "titan: what happened before LSN 3 is no longer in the log\n"
    moment = local_time(PAST_US / 1e6)
    assert result.out.splitlines() == [
        "     LSN  TIME                 EVENT",
        f"       3  {moment}  TaskAssigned     index=7 worker=2",
        f"       5  {moment}  TaskStarted      index=7 start={moment[11:]}",
    ]


def test_a_time_limit_is_told_in_durations_and_its_grace_only_with_it(
    manager: FakeManager, titan: Titan
) -> None:
    limited = {"time_limit_ms": 90_000, "grace_ms": 10_000, "end_signal_before_ms": 500}
    for fields in ({"time_limit_ms": 0, "grace_ms": 10_000}, limited):
        event = manager_pb2.Event(lsn=2, event="JobSubmitted", fields=json.dumps(fields))
        manager.events.append(manager_pb2.GetEventsResponse(lsn=2, events=[event]))
    _, plain, told = titan("show", "1", "--events").out.splitlines()
    assert plain.endswith("JobSubmitted")
    assert told.endswith("JobSubmitted     time_limit=1m30s grace=10s end_signal_before=0.5s")


@pytest.mark.usefixtures("story")
def test_events_as_json_are_what_the_log_says(manager: FakeManager, titan: Titan) -> None:
    events = json.loads(titan("--json", "show", "1.7", "--events", "--at", "9").out)
    assert [list(each)[:4] for each in events] == [["lsn", "time", "event", "job_id"]] * 2
    assert events[1]["time"] == (PAST_US + 5) / 1e6
    (request, _) = manager.called("GetEvents")
    assert request.at.lsn == 9
    assert request.job.indexes[0].start == 7


def test_the_stderr_that_follows_is_that_of_the_job_that_was_shown(
    manager: FakeManager, titan: Titan
) -> None:
    job = manager.add_job(user=os_user())
    manager.run(job)
    manager.write(job, b"boom\n", err=True)
    manager.end(job, exit_code=1)
    result = titan("show", "last", "--attempts", "0", "--at", "12")
    assert result.out.endswith("  boom\n")
    first, second = manager.called("GetJobStatus")
    assert first.job.last_of_user == os_user()
    assert (second.job.job_id, second.at.lsn) == (job.job_id, 12)


@pytest.mark.parametrize("command", [["queue"], ["show", "1"], ["workers"], ["stats"]], ids=str)
@pytest.mark.parametrize(
    "option", [["--manager", "127.0.0.1:1"], ["--access", "file"], ["--retry-for", "1s"]], ids=str
)
def test_files_are_asked_without_options_that_say_how_to_call_a_manager(
    titan: Titan, tmp_path: Path, command: list[str], option: list[str]
) -> None:
    lines = [[*command, "--data-dir", str(tmp_path), *option]]
    if option[0] != "--retry-for":
        lines.append([*option, *command, "--data-dir", str(tmp_path)])
    for words in lines:
        result = titan(*words)
        assert result.code == 2
        assert f"--data-dir asks no manager: leave out {option[0]}" in result.err


def test_where_the_environment_says_how_to_call_a_manager_files_can_be_asked(
    titan: Titan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TITAN_MANAGER", "TITAN_ACCESS", "TITAN_QUEUE_MANAGER"):
        monkeypatch.setenv(name, "127.0.0.1:1")
    monkeypatch.setenv("TITAN_QUEUE_RETRY_FOR", "1s")
    result = titan("queue", "--data-dir", str(tmp_path))
    assert result.code == 1
    assert "is no data directory of Titan" in result.err


def test_where_nothing_is_told_it_is_said(manager: FakeManager, titan: Titan) -> None:
    manager.events = [manager_pb2.GetEventsResponse(lsn=7), manager_pb2.GetEventsResponse(lsn=9)]
    result = titan("show", "1", "--events")
    assert (result.code, result.out) == (0, "")
    assert result.err == "titan: the log tells nothing of it\n"
    assert json.loads(titan("show", "1", "--events", "--json").out) == []
