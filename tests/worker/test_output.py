"""Reading output files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker.builders import key
from titan.worker.output import hole as output_hole
from titan.worker.output.paths import output_path
from titan.worker.output.reading import CHUNK_BYTES_MAX, OutputFile, Piece

BLOCK = 4096


def written(path: Path, content: bytes) -> OutputFile:
    place = Path(os.fsdecode(output_path(os.fsencode(path), key(), b"out")))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return OutputFile(os.fsencode(path), key(), b"out", 0)


def rest(file: OutputFile) -> bytes:
    data = b""
    while file.has_more():
        data += file.read().data
    file.close()
    return data


@pytest.mark.parametrize(
    ("content", "lines", "tail"),
    [
        (b"a\nb\nc\n", 1, b"c\n"),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"a\nb\nc", 1, b"c"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"", 3, b""),
        (b"\n", 1, b"\n"),
        (b"\n\n", 1, b"\n"),
        (b"a\n\n", 2, b"a\n\n"),
        (b"no newline", 2, b"no newline"),
        (b"x" * CHUNK_BYTES_MAX + b"\n" + b"y" * CHUNK_BYTES_MAX, 1, b"y" * CHUNK_BYTES_MAX),
        (b"z\n" + b"y" * (CHUNK_BYTES_MAX - 1) + b"\n", 1, b"y" * (CHUNK_BYTES_MAX - 1) + b"\n"),
    ],
)
def test_the_last_lines_begin_where_lines_begin(
    tmp_path: Path, content: bytes, lines: int, tail: bytes
) -> None:
    file = written(tmp_path, content)
    file.seek_tail(lines)
    assert rest(file) == tail


def test_a_file_that_is_not_there_yet_is_read_when_it_is(tmp_path: Path) -> None:
    file = OutputFile(os.fsencode(tmp_path), key(), b"out", 0)
    assert not file.has_more()
    file.seek_tail(3)
    written(tmp_path, b"here").close()
    assert rest(file) == b"here"


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = written(tmp_path, b"first")
    assert file.has_more()
    assert file.read() == Piece(0, b"first")
    assert not file.has_more()
    with open(output_path(os.fsencode(tmp_path), key(), b"out"), "ab") as more:
        more.write(b" second")
    assert rest(file) == b" second"


def cut(path: Path, begin: int, end: int) -> None:
    output_hole.leave_out(output_path(os.fsencode(path), key(), b"out"), begin, end)


def pieces(file: OutputFile) -> list[Piece]:
    found = []
    while file.has_more():
        found.append(file.read())
    file.close()
    return found


def test_what_was_left_out_is_told_and_not_read(tmp_path: Path) -> None:
    head, middle, tail = b"h" * BLOCK, b"m" * 3 * BLOCK, b"t" * 10
    file = written(tmp_path, head + middle + tail)
    cut(tmp_path, BLOCK, 4 * BLOCK)
    told = [Piece(0, head), Piece(BLOCK, b"", 3 * BLOCK), Piece(4 * BLOCK, tail)]
    assert pieces(file) == told
    # From within it only the rest of it is told.
    within = OutputFile(os.fsencode(tmp_path), key(), b"out", 2 * BLOCK + 5)
    assert pieces(within) == [Piece(2 * BLOCK + 5, b"", 2 * BLOCK - 5), told[2]]


def test_a_second_cut_adds_to_the_first(tmp_path: Path) -> None:
    file = written(tmp_path, b"x" * 10 * BLOCK)
    cut(tmp_path, BLOCK, 4 * BLOCK)
    cut(tmp_path, BLOCK, 8 * BLOCK)
    sizes = [(piece.offset, piece.hole_bytes) for piece in pieces(file)]
    assert sizes == [(0, 0), (BLOCK, 7 * BLOCK), (8 * BLOCK, 0)]


def test_a_hole_that_the_task_made_reads_as_zeros_also_beside_what_was_left_out(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, b"x" * 4 * BLOCK)
    path = output_path(os.fsencode(tmp_path), key(), b"out")
    os.truncate(path, 8 * BLOCK)
    cut(tmp_path, BLOCK, 2 * BLOCK)
    data = [piece.data for piece in pieces(file)]
    assert data == [b"x" * BLOCK, b"", b"x" * 2 * BLOCK + b"\0" * 4 * BLOCK]


def test_what_is_there_is_read_although_it_was_about_to_be_left_out(tmp_path: Path) -> None:
    """The note is written before the hole is made, and a host may be killed in between."""
    file = written(tmp_path, b"x" * 4 * BLOCK)
    path = output_path(os.fsencode(tmp_path), key(), b"out")
    Path(os.fsdecode(path + output_hole.NOTE_SUFFIX)).write_bytes(b"%d %d\n" % (BLOCK, 3 * BLOCK))
    assert pieces(file) == [Piece(0, b"x" * 4 * BLOCK)]


def test_what_is_left_out_while_it_is_read_is_not_taken_for_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, b"x" * 10 * BLOCK)
    read = os.pread

    def cut_before_reading(descriptor: int, size: int, offset: int) -> bytes:
        monkeypatch.setattr(os, "pread", read)
        cut(tmp_path, 2 * BLOCK, 9 * BLOCK)
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", cut_before_reading)
    head, hole, tail = pieces(file)
    assert head == Piece(0, b"x" * 2 * BLOCK)
    assert hole == Piece(2 * BLOCK, b"", 7 * BLOCK)
    assert tail == Piece(9 * BLOCK, b"x" * BLOCK)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (1, [Piece(4 * 4096 + 4, b"d\n")]),
        (2, [Piece(4 * 4096 + 2, b"c\nd\n")]),
        # Those before it are not counted: it is told, and all that comes after it.
        (3, [Piece(4096, b"", 3 * 4096), Piece(4 * 4096, b"\xff\nc\nd\n")]),
        (9, [Piece(4096, b"", 3 * 4096), Piece(4 * 4096, b"\xff\nc\nd\n")]),
    ],
)
def test_the_last_lines_are_never_looked_for_before_what_was_left_out(
    tmp_path: Path, lines: int, told: list[Piece]
) -> None:
    content = b"a\n" * (BLOCK // 2) + b"\n" * 3 * BLOCK + b"\xff\nc\nd\n"
    file = written(tmp_path, content)
    cut(tmp_path, BLOCK, 4 * BLOCK)
    file.seek_tail(lines)
    assert pieces(file) == told


def test_nothing_is_left_out_and_nothing_noted_where_that_cannot_be_done(tmp_path: Path) -> None:
    file = written(tmp_path, b"")
    file.close()
    path = output_path(os.fsencode(tmp_path), key(), b"out")
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(OSError, match="seek"):
        output_hole.leave_out(path, BLOCK, 2 * BLOCK)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
