"""`titan wal stat`, `verify` and `repair` on the command line, in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import wal
from tests.cli.conftest import Titan
from tests.waltools.builders import SEGMENT_BYTES
from tests.waltools.corruptions import add_garbage, flip_in, make_rich_directory, segments


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES", SEGMENT_BYTES)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_rich_directory(tmp_path / "manager")


@pytest.mark.parametrize("command", ["dump", "stat", "verify", "repair"])
def test_every_command_has_help_with_an_example(titan: Titan, command: str) -> None:
    result = titan("wal", command, "--help")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"Examples?:\n", result.out)
    assert f"  titan wal {command} " in result.out
    assert f"  {command} " in titan("wal", "--help").out


@pytest.mark.parametrize("command", ["stat", "verify", "repair"])
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "DIR"),
        (["a", "b"], "b"),
        (["a", "--force"], "--force"),
        (["a", "--manager", "x"], "--manager"),
    ],
)
def test_wrong_usage_is_told(titan: Titan, command: str, arguments: list[str], why: str) -> None:
    result = titan("wal", command, *arguments)
    assert (result.code, result.out) == (2, "")
    assert why in result.err


@pytest.mark.parametrize("command", ["stat", "verify", "repair"])
def test_a_directory_without_a_log_is_told(titan: Titan, tmp_path: Path, command: str) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        result = titan("wal", command, str(place))
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(r"titan: .+\n", result.err)


def test_stat_shows_every_part_in_columns(titan: Titan, directory: Path) -> None:
    add_garbage(directory)
    result = titan("wal", "stat", str(directory))
    assert (result.code, result.err) == (0, "")
    headings = [line.split()[0] for line in result.out.splitlines() if line[:2].isupper()]
    assert headings == ["SEGMENT", "EVENT", "SNAPSHOT", "READER", "FILE"]
    assert "records:    1 to 150, durable 150" in result.out
    assert re.search(r"^141 +10 .*current, 200 torn bytes$", result.out, re.M)
    assert re.search(r"^110 .* 40 +valid$", result.out, re.M)
    assert re.search(r"^history +90 +60 +\S+K +valid$", result.out, re.M)
    assert titan("wal", "stat", str(directory / "wal")).out == result.out


def test_stat_adds_up(titan: Titan, directory: Path) -> None:
    found = json.loads(titan("wal", "stat", "--json", str(directory)).out)
    dumped = titan("wal", "dump", str(directory)).out.splitlines()
    total = found["total"]
    assert total["events"] == len(dumped) == sum(each["count"] for each in found["events"])
    assert total["records"] == 150 == sum(each["records"] for each in found["segments"])
    for each in found["segments"]:
        assert each["last_lsn"] - each["first_lsn"] + 1 == each["records"]
        assert each["used_bytes"] <= each["file_bytes"]
        assert each["first_time"] <= each["last_time"]
    assert [each["state"] for each in found["segments"]] == ["ended"] * 8 + ["current"]
    assert (found["cluster_id"], found["epoch"]) == (b"cluster id 0 1 2".hex(), 1)
    reader = found["readers"][0]
    behind = sum(each["used_bytes"] for each in found["segments"] if each["first_lsn"] > 90)
    (stands_in,) = (
        each for each in found["segments"] if each["first_lsn"] <= 90 <= each["last_lsn"]
    )
    share = (stands_in["last_lsn"] - 90) / stands_in["records"]
    expected = behind + share * stands_in["used_bytes"]
    assert (reader["lag_records"], reader["lag_bytes"]) == (60, pytest.approx(expected, rel=0.1))


def test_stat_of_a_log_without_its_beginning_asks_a_snapshot(titan: Titan, directory: Path) -> None:
    segments(directory)[0].unlink()
    found = json.loads(titan("wal", "stat", "--json", str(directory)).out)
    assert (found["cluster_id"], found["epoch"]) == (b"cluster id 0 1 2".hex(), 1)
    assert found["damage"] == []


def test_verify_tells_each_check_and_what_to_do(titan: Titan, directory: Path) -> None:
    sound = titan("wal", "verify", str(directory))
    assert (sound.code, sound.err) == (0, "")
    lines = sound.out.splitlines()
    assert lines[-1] == "Everything is as it was written."
    assert all(line.startswith("OK ") for line in lines[:-1])
    kinds = [line.split()[1] for line in lines[:-1]]
    assert kinds == [
        "description", *["segment"] * 9, "durable", "replay", "state", "snapshot", "snapshot",
        "reader",
    ]  # fmt: skip
    flip_in(directory, 60, 50)
    damaged = titan("wal", "verify", str(directory))
    assert (damaged.code, damaged.err) == (1, "")
    wrong = [line for line in damaged.out.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 1
    assert re.search(r"segment .*0052\.wal: byte \d+: expected chain CRC", wrong[0])
    last = damaged.out.splitlines()[-1]
    assert last.startswith("1 of 17 checks failed: `titan wal repair")


def test_repair_shows_first_and_does_it_then(titan: Titan, directory: Path) -> None:
    assert titan("wal", "repair", str(directory)).out == (
        "Nothing to repair: records 1 to 150 are sound.\n"
    )
    flip_in(directory, 132, 50)
    shown = titan("wal", "repair", str(directory))
    assert shown.code == 1
    assert shown.err == "titan: nothing was changed; repeat with --yes to do it\n"
    assert shown.out.splitlines()[0] == "Plan: keep records 1 to 131, cut what is behind them."
    assert "Done" not in shown.out
    done = titan("wal", "repair", "--yes", str(directory))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(shown.out)
    match = re.search(r"^Done\. What went is in (\S+); record 132 begins", done.out, re.M)
    assert match
    assert Path(match[1]).parent == directory
    names = sorted(path.name for path in Path(match[1]).iterdir())
    assert re.fullmatch(r"0+123\.wal\.from-\d+", names[0])
    assert re.fullmatch(r"0+141\.wal", names[1])


def test_a_repair_beside_a_manager_is_refused(titan: Titan, directory: Path) -> None:
    lock = wal.Lock(directory / "lock")
    for arguments in ([], ["--yes"]):
        result = titan("wal", "repair", *arguments, str(directory))
        assert (result.code, result.out) == (5, "")
        assert "stop the manager" in result.err
    lock.release()


def test_a_repair_that_only_shows_makes_no_file(titan: Titan, directory: Path) -> None:
    (directory / "lock").unlink()
    before = sorted(directory.rglob("*"))
    assert titan("wal", "repair", str(directory)).code == 0
    flip_in(directory, 132, 50)
    assert titan("wal", "repair", str(directory)).code == 1
    assert sorted(directory.rglob("*")) == before
