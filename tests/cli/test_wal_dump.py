"""`titan wal dump` on the command line."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import DEADLINE_SECONDS
from tests.waltools.builders import history, make_directory
from titan.cli.wal_dump import event_line


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("dump") / "manager")


def test_every_event_is_a_json_object_a_line(titan: Titan, directory: Path) -> None:
    result = titan("wal", "dump", str(directory))
    assert (result.code, result.err) == (0, "")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert lines[0]["event"] == "ClusterCreated"
    assert {line["lsn"] for line in lines} == set(range(1, len(history()) + 1))
    assert titan("wal", "dump", str(directory / "wal")).out == result.out


def test_what_is_selected_must_match_all(titan: Titan, directory: Path) -> None:
    everything = map(json.loads, titan("wal", "dump", str(directory)).out.splitlines())
    wanted = next(each for each in everything if each.get("job_id") == 42 and "worker" in each)
    result = titan(
        "wal", "dump", str(directory), "--job", "9999", "--job", "42.0", "--event", "taskASSIGNED",
        "--worker", str(wanted["worker"]), "--since", "1700000000", "--until", "1h ago",
        "--from", "2", "--to", str(wanted["lsn"]), "--limit", "1",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    (line,) = result.out.splitlines()
    assert json.loads(line) == wanted
    assert titan("wal", "dump", str(directory), "--since", "1h ago").out == ""
    assert titan("wal", "dump", str(directory), "--until", "1700000000").out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--event", "JobSubmited"], r"no event 'JobSubmited'; did you mean JobSubmitted\?"),
        (["--event", "qqq"], "AttemptEnded"),
        (["--job", "last"], "write it as 42"),
        (["--job", "42.0-9"], "write it as 42"),
        (["--from", "0"], "count from 1"),
        (["--to", "x"], "count from 1"),
        (["--since", "soon"], "is no time"),
        (["--until", "5"], "is no time"),
        (["--limit", "-1"], "--limit"),
        (["--manager", "127.0.0.1:1"], "--manager"),
    ],
)
def test_what_is_no_selection_is_a_usage_error(
    titan: Titan, directory: Path, arguments: list[str], why: str
) -> None:
    result = titan("wal", "dump", str(directory), *arguments)
    assert (result.code, result.out) == (2, "")
    assert re.search(why, result.err)


def test_a_directory_without_a_log_is_told(titan: Titan, tmp_path: Path) -> None:
    assert titan("wal", "dump").code == 2
    for place in (tmp_path, tmp_path / "nowhere"):
        result = titan("wal", "dump", str(place))
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(r"titan: .*not a log.*\n", result.err)


def test_following_ends_with_ctrl_c_and_quietly(
    spawn: Callable[..., Process], directory: Path
) -> None:
    process = spawn("wal", "dump", "-f", str(directory), "--event", "clustercreated")
    assert json.loads(process.read_line())["event"] == "ClusterCreated"
    process.interrupt(signal.SIGINT)
    result = process.end()
    assert (result.code, result.out, result.err) == (130, "", "")


def test_following_ends_quietly_when_nobody_reads_any_more(
    spawn: Callable[..., Process], directory: Path
) -> None:
    process = spawn("wal", "dump", "-f", str(directory), "--event", "clustercreated")
    process.read_line()
    assert process.process.stdout is not None
    assert process.process.stderr is not None
    process.process.stdout.close()
    assert process.process.stderr.read() == b""
    assert process.process.wait(DEADLINE_SECONDS) == 141


def test_a_line_for_people_can_not_speak_to_the_terminal() -> None:
    event = {"lsn": 12, "time": 0.0, "event": "JobSubmitted", "job_id": 42, "name": "a\x1b[2J"}
    line = event_line(event)
    assert re.fullmatch(r" {6}12  \S+ \S+  JobSubmitted  job_id=42 name=\S+", line)
    assert "\x1b" not in line
