"""`titan wal backup` and `titan wal restore` on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import wal
from tests.cli.conftest import Titan
from tests.waltools.builders import SEGMENT_BYTES
from tests.waltools.corruptions import flip_in, make_rich_directory


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES", SEGMENT_BYTES)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_rich_directory(tmp_path / "manager")


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_every_command_has_help_with_an_example(titan: Titan, command: str) -> None:
    result = titan("wal", command, "--help")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"Examples?:\n", result.out)
    assert f"  titan wal {command} " in result.out


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"], ["a", "b", "--prune"]])
def test_wrong_usage_is_told(titan: Titan, command: str, arguments: list[str]) -> None:
    result = titan("wal", command, *arguments)
    assert (result.code, result.out) == (2, "")


def test_a_backup_tells_what_it_holds_and_what_is_new(
    titan: Titan, directory: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup"
    first = titan("wal", "backup", str(directory), str(target))
    assert (first.code, first.err) == (0, "")
    holds = re.escape(f"{target} holds records 1 to 150: 10 files")
    assert re.fullmatch(rf"{holds}, 10 of them new \(\S+K\)\.\n", first.out)
    again = titan("wal", "backup", str(directory / "wal"), str(target))
    assert re.fullmatch(rf"{holds}, 0 of them new \(0\)\.\n", again.out)
    told = json.loads(titan("wal", "backup", "--json", str(directory), str(target)).out)
    assert (told["last_lsn"], told["files_copied"], told["bytes_copied"]) == (150, 0, 0)


def test_a_restore_tells_what_it_holds_and_how_to_start(
    titan: Titan, directory: Path, tmp_path: Path
) -> None:
    target, new = tmp_path / "backup", tmp_path / "new"
    titan("wal", "backup", str(directory), str(target))
    result = titan("wal", "restore", str(target), str(new))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert re.fullmatch(
        re.escape(f"{new} holds records 1 to 150, as of ")
        + r"\S+ \S+: \d+ jobs, \d+ of them live\.",
        lines[0],
    )
    assert lines[1] == f"Start it:  titan manager --data-dir {new}"
    assert titan("wal", "verify", str(new)).code == 0
    told = json.loads(titan("wal", "restore", "--json", str(target), str(tmp_path / "other")).out)
    assert (told["first_lsn"], told["last_lsn"]) == (1, 150)


def test_what_cannot_be_done_is_told_in_a_sentence(
    titan: Titan, directory: Path, tmp_path: Path
) -> None:
    for arguments, why in (
        (("backup", str(directory), str(directory)), "lie in each other"),
        (("backup", str(tmp_path / "nowhere"), str(tmp_path / "to")), "not a log"),
        (("restore", str(directory), str(tmp_path / "to")), "holds no backup"),
        (("restore", str(tmp_path / "nowhere"), str(tmp_path / "to")), "holds no backup"),
    ):
        result = titan("wal", *arguments)
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(rf"titan: .*{why}.*\n", result.err)
    flip_in(directory, 60, 50)
    damaged = titan("wal", "backup", str(directory), str(tmp_path / "to"))
    assert damaged.code == 1
    assert "damaged at byte" in damaged.err
