"""The list of revoked serials: read again when it changed, and never forgotten by mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from titan import paths
from titan.tls.revoked import RevokedSerials, format_serial, parse_list, parse_serial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revoked.txt"


@pytest.mark.parametrize(
    ("text", "serial"),
    [
        ("2f1a", 0x2F1A),
        (" 0x2F1A ", 0x2F1A),
        ("2F:1a", 0x2F1A),
        ("0" * 40, 0),
        ("", None),
        ("0x", None),
        ("2f1g", None),
        ("-1", None),
        ("1_0", None),
        ("٣", None),
        ("f" * 41, None),
    ],
)
def test_a_serial_is_hexadecimal(text: str, serial: int | None) -> None:
    assert parse_serial(text) == serial


def test_a_serial_is_printed_in_whole_octets() -> None:
    assert [format_serial(each) for each in (0, 0xF, 0x10, 0xABC)] == ["00", "0f", "10", "0abc"]


def test_comments_blank_lines_and_lines_of_windows_are_no_mistakes() -> None:
    text = "# a\n\n 0f # w1\r\n  \nxyz\n10#\u2028ff\nno 11"
    assert parse_list(text) == (frozenset({0x0F, 0x10}), (5, 7))


def test_an_absent_file_revokes_nothing_and_a_new_one_at_once(path: Path) -> None:
    listed = RevokedSerials([path])
    assert not listed.is_revoked(1)
    paths.write_file(path, b"01\n")
    assert listed.is_revoked(1)
    assert not listed.is_revoked(2)
    paths.write_file(path, b"02\n")
    assert listed.is_revoked(2)
    assert not listed.is_revoked(1)


def test_each_of_several_files_counts(path: Path, tmp_path: Path) -> None:
    path.write_text("01\n")
    (tmp_path / "more.txt").write_text("02\n")
    listed = RevokedSerials([path, tmp_path / "more.txt"])
    assert [listed.is_revoked(each) for each in (1, 2, 3)] == [True, True, False]


def test_a_broken_line_takes_nothing_back(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = RevokedSerials([path])
    paths.write_file(path, b"01\n02\n")
    assert listed.is_revoked(1)
    paths.write_file(path, b"0l\n03\n")
    for _ in range(3):
        assert [listed.is_revoked(each) for each in (1, 2, 3)] == [True, True, True]
    assert [each.getMessage() for each in caplog.records] == [
        f"{path}: line 1 is no serial; what was revoked before stays revoked"
    ]
    paths.write_file(path, b"03\n")
    assert [listed.is_revoked(each) for each in (1, 2, 3)] == [False, False, True]


def test_what_is_right_in_a_file_that_is_broken_from_the_first_counts(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\n01\n")
    listed = RevokedSerials([path])
    assert [listed.is_revoked(each) for each in (1, 2)] == [True, False]


def test_a_file_that_was_never_read_might_name_anybody(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    listed = RevokedSerials([path])
    assert listed.is_revoked(1)
    assert listed.is_revoked(2)
    assert len(caplog.records) == 1
    path.rmdir()
    assert not listed.is_revoked(1)


def test_a_file_that_can_be_read_no_more_counts_as_before(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("01\n")
    listed = RevokedSerials([path])
    assert listed.is_revoked(1)
    path.unlink()
    path.mkdir()
    assert [listed.is_revoked(each) for each in (1, 2)] == [True, False]
    assert len(caplog.records) == 1
    path.rmdir()
    path.write_text("02\n")
    assert [listed.is_revoked(each) for each in (1, 2)] == [False, True]


def test_a_file_that_goes_away_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("01\n")
    listed = RevokedSerials([path])
    assert listed.is_revoked(1)
    path.unlink()
    assert not listed.is_revoked(1)
    assert "is gone" in caplog.text


def test_a_change_of_the_same_size_and_time_is_seen(path: Path) -> None:
    path.write_text("01\n")
    listed = RevokedSerials([path])
    assert listed.is_revoked(1)
    before = path.stat()
    paths.write_file(path, b"02\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert listed.is_revoked(2)
