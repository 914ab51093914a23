"""What is told of output that is gone."""

from __future__ import annotations

from pathlib import Path

from titan.worker.output.removals import LINES_MAX, Removals

HOUR = 3_600


def test_what_had_ended_by_then_went_by_the_first_removal_that_came_so_far(tmp_path: Path) -> None:
    removals = Removals(tmp_path / "removals")
    assert removals.find(5) is None
    removals.note(100, 10 * HOUR, "--output-retain")
    removals.note(200, 20 * HOUR, "--output-retain-files")
    assert removals.find(0) == removals.find(100) == (100, 10 * HOUR, "--output-retain")
    assert removals.find(101) == (200, 20 * HOUR, "--output-retain-files")
    assert removals.find(201) is None


def test_within_a_minute_there_is_one_line(tmp_path: Path) -> None:
    removals = Removals(tmp_path / "removals")
    for second in range(10):
        removals.note(second, 60 + second, "--output-retain")
    removals.store()
    assert (tmp_path / "removals").read_text() == '[9, 69, "--output-retain"]\n'


def test_what_was_stored_is_known_again_and_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "removals"
    removals = Removals(path)
    removals.note(100, HOUR, "--output-retain")
    removals.store()
    assert Removals(path).find(50) == (100, HOUR, "--output-retain")
    path.write_text("{nonsense")
    assert Removals(path).find(50) is None


def test_nothing_is_written_when_nothing_is_new(tmp_path: Path) -> None:
    Removals(tmp_path / "removals").store()
    assert list(tmp_path.iterdir()) == []


def test_the_lines_are_bounded_and_each_end_keeps_one_that_covers_it(tmp_path: Path) -> None:
    removals = Removals(tmp_path / "removals")
    for step in range(1, 10 * LINES_MAX):
        removals.note(step * 10, step * 60, "--output-retain")
    removals.store()
    assert len((tmp_path / "removals").read_text().splitlines()) <= LINES_MAX
    for step in range(1, 10 * LINES_MAX, 7):
        found = removals.find(step * 10)
        assert found is not None
        assert found.until_s >= step * 10
    last = 10 * LINES_MAX - 1
    assert removals.find(last * 10) == (last * 10, last * 60, "--output-retain")


def test_a_clock_that_was_set_back_does_not_disturb_the_order(tmp_path: Path) -> None:
    removals = Removals(tmp_path / "removals")
    removals.note(500, 10 * HOUR, "--output-retain")
    removals.note(400, 9 * HOUR, "--output-retain-bytes")
    assert removals.find(450) == (500, 10 * HOUR, "--output-retain-bytes")
