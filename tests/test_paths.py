"""Files that are written whole."""

from __future__ import annotations

import os
from pathlib import Path

from titan import paths


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / f".titan.json.{os.getpid()}").symlink_to(victim)
    paths.write_json(tmp_path / "titan.json", {"a": 1}, mode=0o600)
    assert victim.read_text() == "untouched"
    assert paths.read_json(tmp_path / "titan.json") == {"a": 1}
    assert sorted(os.listdir(tmp_path)) == ["titan.json", "victim"]


def test_a_link_in_place_of_the_file_itself_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "titan.json").symlink_to(victim)
    paths.write_json(tmp_path / "titan.json", {"a": 1})
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "titan.json").is_symlink()
