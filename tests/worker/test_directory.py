"""The worker's directory: taken when it is new or a worker's, left alone when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from titan.worker.directory import DirectoryError, lock, open_identity, store_identity


def test_a_first_start_that_was_killed_is_no_hindrance(tmp_path: Path) -> None:
    """It left the temporary file of its description and was refused from then on."""
    (tmp_path / "lock").touch()
    (tmp_path / ".titan.json.4711").write_text("{")
    held = lock(tmp_path)
    assert open_identity(tmp_path) == b""
    store_identity(tmp_path, b"w" * 16)
    held.release()
    held = lock(tmp_path)
    assert open_identity(tmp_path) == b"w" * 16
    held.release()


@pytest.mark.parametrize("name", ["thesis.tex", ".titan.json.bak", "titan.jsonl"])
def test_somebody_elses_directory_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DirectoryError, match="is not a worker's directory"):
        lock(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [name]
