"""Output of ended tasks on a real disk: found, measured, removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from titan.worker.output import files as output_files
from titan.worker.output import hole as output_hole
from titan.worker.output.shelf import Entry, Limits, Shelf

NOW = int(time.time())


def write(
    directory: Path,
    job_id: int,
    index: int = 0,
    attempt: int = 1,
    *,
    end_s: int = NOW,
    size: int = 5,
) -> Entry:
    """What an attempt leaves that wrote so much to stdout; as an entry."""
    folder = directory / str(job_id) / str(index // 1000)
    folder.mkdir(parents=True, exist_ok=True)
    blocks = 0
    for suffix, content in (("out", b"x" * size), ("err", b"")):
        path = folder / f"{index}.{attempt}.{suffix}"
        path.write_bytes(content)
        os.utime(path, (end_s, end_s))
        blocks += path.stat().st_blocks
    return Entry(end_s, job_id, index, attempt, blocks * 512, 2)


def found(directory: Path) -> list[Entry]:
    """What is there, oldest first."""
    looked = output_files.look_through(os.fsencode(directory))
    assert looked.is_all
    shelf = Shelf(Limits(1, 0, 0))
    shelf.fill(looked)
    entries = [entry for entry, _ in shelf.take_due(1e12, 1_000)]
    assert looked.files == sum(entry.files for entry in entries)
    assert looked.size_bytes == sum(entry.size_bytes for entry in entries)
    return entries


def remove(directory: Path, *entries: Entry) -> list[Entry]:
    return output_files.remove(os.fsencode(directory), entries)


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_all_output_is_found_in_the_order_of_its_last_writing(tmp_path: Path) -> None:
    young = write(tmp_path, 7, end_s=NOW)
    old = write(tmp_path, 8, 123_456, 3, end_s=NOW - 100, size=10_000)
    direct = write(tmp_path, -2, end_s=NOW - 50)
    assert found(tmp_path) == [old, direct, young]


def test_notes_of_what_was_left_out_belong_to_it_and_other_files_do_not(tmp_path: Path) -> None:
    entry = write(tmp_path, 7, size=100_000)
    output_hole.leave_out(os.fsencode(tmp_path / "7" / "0" / "0.1.out"), 4096, 8192)
    foreign = [tmp_path / "notes", tmp_path / "7" / "mine", tmp_path / "7" / "0" / "0.1.out.bak"]
    for path in foreign:
        path.write_text("not ours")
    (there,) = found(tmp_path)
    assert (there.name, there.files) == (entry.name, 3)
    assert remove(tmp_path, there) == [there]
    assert everything(tmp_path) == ["7", "7/0", "7/0/0.1.out.bak", "7/mine", "notes"]


def test_a_directory_that_is_not_there_has_no_output(tmp_path: Path) -> None:
    assert found(tmp_path / "output") == []


def test_folders_go_with_the_last_output_in_them(tmp_path: Path) -> None:
    first, second = write(tmp_path, 7, 1), write(tmp_path, 7, 2)
    other = write(tmp_path, 7, 1_001)
    remove(tmp_path, first)
    assert everything(tmp_path) == sorted(
        ["7", "7/0", "7/0/2.1.out", "7/0/2.1.err", "7/1", "7/1/1001.1.out", "7/1/1001.1.err"]
    )
    remove(tmp_path, second)
    assert "7/0" not in everything(tmp_path)
    remove(tmp_path, other, other)
    assert everything(tmp_path) == []


def test_folders_that_are_empty_for_long_go_when_they_are_found(tmp_path: Path) -> None:
    for folder in ("7/0", "8", "9/0"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("7/0", "8"):
        os.utime(tmp_path / folder, (NOW - 7_200, NOW - 7_200))
    found(tmp_path)
    # One that was made just now may be for a task that starts.
    assert everything(tmp_path) == ["7", "9", "9/0"]


def test_what_was_written_to_since_stays(tmp_path: Path) -> None:
    entry = write(tmp_path, 7, end_s=NOW - 100)
    write(tmp_path, 7, end_s=NOW)
    assert remove(tmp_path, entry) == []
    assert len(found(tmp_path)) == 1


def test_what_is_still_open_for_writing_stays_and_for_reading_does_not(tmp_path: Path) -> None:
    written, read = write(tmp_path, 7), write(tmp_path, 8)
    with (
        (tmp_path / "7" / "0" / "0.1.err").open("ab"),
        (tmp_path / "8" / "0" / "0.1.out").open("rb") as reader,
    ):
        assert remove(tmp_path, written, read) == [read]
        assert reader.read() == b"xxxxx"
    assert remove(tmp_path, written) == [written]


def test_what_an_attempt_left_is_measured_and_given_the_time_of_its_end(tmp_path: Path) -> None:
    before = write(tmp_path, 7, end_s=NOW - 5_000)
    measured = output_files.measure(os.fsencode(tmp_path), {before.name: NOW, (9, 0, 1): NOW})
    assert measured == [before._replace(end_s=NOW)]
    # So that a later look knows it.
    assert found(tmp_path) == measured


def test_attempts_are_measured_alike_many_at_once_and_one_by_one(tmp_path: Path) -> None:
    before = [write(tmp_path, 7, index, end_s=NOW) for index in range(100)]
    for name in ("3.1.out.cut", "3.1.err.begin", "5.1.out.cut.new", "33.1.out.cut", "x"):
        (tmp_path / "7" / "0" / name).touch()
    ended = {entry.name: NOW for entry in before} | {(7, 200, 1): NOW, (9, 0, 1): NOW}
    directory = os.fsencode(tmp_path)
    together = output_files.measure(directory, ended)
    assert together == [
        entry for each in ended for entry in output_files.measure(directory, {each: NOW})
    ]
    assert {entry.index: entry.files for entry in together if entry.files != 2} == {
        3: 4, 5: 3, 33: 3,
    }  # fmt: skip
