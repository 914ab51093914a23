"""Each way to be wrong is found by `verify`, shown by `stat` and mended by `repair`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wal
from tests.cli.conftest import Titan
from tests.cli.conftest import titan as titan  # noqa: PLC0414  # a fixture
from tests.waltools.builders import SEGMENT_BYTES, history
from tests.waltools.corruptions import (
    CORRUPTIONS,
    FIRSTS,
    Corruption,
    make_rich_directory,
    segments,
)
from titan import events as ev
from titan.manager.recovery import recover
from titan.state.cluster import ClusterState
from titan.state.digest import digest
from titan.state.replay import replay


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a repair appends does not take two segments of 64 MiB of each test."""
    monkeypatch.setattr(wal, "SEGMENT_BYTES", SEGMENT_BYTES)


def content_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_the_table_knows_how_the_records_fall_into_segments(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    assert tuple(int(path.stem) for path in segments(directory)) == FIRSTS
    assert len(history()) == 150


@pytest.mark.parametrize("case", CORRUPTIONS, ids=lambda case: case.name.replace(" ", "-"))
def test_every_corruption_is_found_shown_and_mended(
    titan: Titan, tmp_path: Path, small_segments: None, case: Corruption
) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    case.corrupt(directory)
    before = content_of(directory)

    verified = titan("wal", "verify", "--json", str(directory))
    checks = json.loads(verified.out)["checks"]
    wrong = {check["check"] for check in checks if not check["ok"]}
    assert verified.code == bool(case.verify)
    assert (case.verify in wrong) if case.verify else not wrong, checks
    advice = json.loads(verified.out)["advice"]
    assert (f"titan wal repair {directory}" in advice) if case.verify else advice is None

    shown = titan("wal", "stat", "--json", str(directory))
    assert shown.code == case.stat
    assert bool(json.loads(shown.out)["damage"]) == bool(case.stat)
    assert json.loads(shown.out)["total"]["records"] > 0

    proposed = titan("wal", "repair", "--json", str(directory))
    assert content_of(directory) == before, "without --yes nothing is changed"
    if case.kept is None:
        assert (proposed.code, proposed.out) == (1, "")
        assert "nothing was changed" in proposed.err
        assert titan("wal", "repair", "--yes", str(directory)).code == 1
        assert content_of(directory) == before
        return
    plan = json.loads(proposed.out)
    assert plan["needed"] == case.is_changed
    assert proposed.code == int(case.is_changed)
    assert (plan["first_lsn"], plan["last_lsn"]) == case.kept
    assert plan["repaired"] is False

    done = titan("wal", "repair", "--yes", "--json", str(directory))
    assert done.code == 0
    outcome = json.loads(done.out)
    assert outcome["repaired"] == case.is_changed
    check_nothing_is_lost(before, directory, outcome)
    assert titan("wal", "verify", str(directory)).code == 0
    assert titan("wal", "stat", str(directory)).code == 0
    assert titan("wal", "repair", str(directory)).code == 0
    check_starts(directory, case)


def check_nothing_is_lost(before: dict[str, bytes], directory: Path, outcome: object) -> None:
    """Each file is where it was, or aside, or a part of it is aside and the rest where it was."""
    after = content_of(directory)
    aside = {Path(name).name: data for name, data in after.items() if name.startswith("repaired-")}
    for name, content in before.items():
        base = Path(name).name
        if base == "next.tmp" or after.get(name, b"").startswith(content.rstrip(b"\0")):
            continue
        if base == "durable" and aside.get(base) is None:
            continue  # Only moved on with the record of the repair.
        pieces = [each for each in aside if each.startswith(f"{base}.from-")]
        if not pieces:
            # The torn tail of a log is put beside it.
            torn = [data for each, data in after.items() if "torn-" in each]
            assert aside.get(base) == content or any(data in content for data in torn), name
            continue
        offset = int(pieces[0].rpartition("-")[2])
        tail = content[offset:].rstrip(b"\0")
        assert aside[pieces[0]].ljust(len(tail), b"\0") == tail
        assert after[name][:offset] == content[:offset]


def check_starts(directory: Path, case: Corruption) -> None:
    """A manager would start, in the state that the kept records lead to, in a new epoch."""
    assert case.kept is not None
    recovered = recover(directory, segment_bytes=SEGMENT_BYTES)
    recovered.log.abandon()
    state = ClusterState()
    replay(enumerate(history()[: case.kept[1]], 1), state)
    if not case.is_changed:
        assert digest(recovered.state) == digest(state)
        return
    with wal.Reader(directory / "wal", from_lsn=case.kept[1] + 1) as reader:
        (record,) = reader
    time_us, (event,) = ev.decode_record(record.payload)
    assert isinstance(event, ev.ManagerStarted)
    assert event.epoch != state.epoch
    assert time_us >= state.time_us
    replay([record], state)
    assert digest(recovered.state) == digest(state)
