"""The benchmarks run, at small sizes, and give what they promise. Their numbers are not judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wal
from tools.bench import __main__ as bench
from tools.bench.history import write_history
from tools.bench.replay import replay_all
from tools.bench.result import Result, alternate, table

ROWS = {
    "a": 1,
    "b": 1,
    "c": 4,
    "d": 1,
    "e": 1,
    "f": 1,
    "g": 1,
    "h": 1,
    "i": 2,
    "j": 4,
    "r": 6,
    "s": 2,
}


@pytest.mark.parametrize("part", ROWS)
def test_a_part_measures_itself_and_its_floor(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    assert bench.main(["--quick", "--only", part, "--json", str(file)]) == 0
    results = json.loads(file.read_text())["results"]
    assert [each["part"] for each in results] == [part] * ROWS[part]
    printed = capsys.readouterr().out
    for each in results:
        assert len(each["values"]) == 1
        assert len(each["floors"]) == (1 if part in {"h", "i", "r", "s"} else 2)
        assert each["ratio"] == each["ratios"][0] > 0
        assert each["what"] in printed


def test_a_ratio_is_to_the_floors_on_both_sides_of_its_round() -> None:
    numbers = iter([10.0, 8.0, 30.0, 20.0, 50.0])
    assert alternate(2, lambda: next(numbers), lambda: next(numbers)) == (
        (8.0, 20.0),
        (10.0, 30.0, 50.0),
        (0.4, 0.5),
    )


def test_the_table_shows_medians_and_what_is_wanted() -> None:
    result = Result(
        part="a", what="things", unit="things/s", values=(900.0, 1000.0, 1100.0), floor="nothing",
        floors=(2000.0, 2000.0), ratios=(0.45, 0.5, 0.55), must="≥ 0.3", goal="≥ 0.7",
        details={"extra": 12.5},
    )  # fmt: skip
    text = table([result])
    for each in ("1,000 things/s", "2,000 things/s", "0.45 – 0.55", "≥ 0.7", "extra 12.5"):
        assert each in text


def test_a_history_is_the_same_each_time_and_replays(tmp_path: Path) -> None:
    counts = [write_history(tmp_path / name, 3_000) for name in ("1", "2")]
    assert counts[0] == counts[1] >= 3_000
    logs = [list(wal.Reader(tmp_path / name)) for name in ("1", "2")]
    assert logs[0] == logs[1]
    with wal.Log.open(tmp_path / "1") as log:
        replay_all(log)


@pytest.mark.parametrize("arguments", [["--only", "z"], ["--rounds", "0"], ["--events", "-1"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(arguments)
