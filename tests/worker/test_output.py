"""Reading output files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker.builders import key
from titan.worker.output import CHUNK_BYTES_MAX, OutputFile
from titan.worker.spawn import output_path


def written(path: Path, content: bytes) -> OutputFile:
    place = Path(os.fsdecode(output_path(os.fsencode(path), key(), b"out")))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return OutputFile(os.fsencode(path), key(), b"out", 0)


def rest(file: OutputFile) -> bytes:
    data = b""
    while file.has_more():
        data += file.read()
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
    assert file.read() == b"first"
    assert not file.has_more()
    with open(output_path(os.fsencode(tmp_path), key(), b"out"), "ab") as more:
        more.write(b" second")
    assert rest(file) == b" second"
