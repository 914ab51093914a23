"""The files of secrets: whole or not there, for their owner alone, and no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan.checks import SECRET_BYTES_MAX
from titan.manager.secret_files import SecretFiles
from titan.manager.secret_store import SecretsUnreadable

ID = b"I" * 16
OTHER = b"O" * 16
VALUES = {b"TOKEN": b"hunter2\xff", b"EMPTY": b""}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SecretFiles]:
    made = SecretFiles(tmp_path / "secrets")
    yield made
    made.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(files: SecretFiles) -> list[str]:
    return sorted(os.listdir(files.path))


def test_what_was_written_is_read_again_and_gone_once_it_is_removed(files: SecretFiles) -> None:
    files.write({ID: VALUES, OTHER: {b"A": b"1"}})
    assert files.read(ID) == VALUES
    assert files.list() == {ID: 4096, OTHER: 4096}
    files.remove(ID)
    files.remove(ID)
    assert files.read(ID) is None
    assert names(files) == [OTHER.hex()]


def test_the_largest_that_are_allowed_are_read_again(files: SecretFiles) -> None:
    many = {b"%d" % each: b"" for each in range(SECRET_BYTES_MAX // 7)}
    files.write({ID: {b"V": b"x" * SECRET_BYTES_MAX}, OTHER: many})
    assert files.read(ID) == {b"V": b"x" * SECRET_BYTES_MAX}
    assert files.read(OTHER) == many
    assert files.list()[ID] == SECRET_BYTES_MAX + 4096


@pytest.mark.parametrize("umask", [0, 0o777])
def test_they_are_their_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = SecretFiles(tmp_path / "secrets")
        files.write({ID: VALUES})
    finally:
        os.umask(before)
    assert (mode(files.path), mode(files.path / ID.hex())) == (0o700, 0o600)
    files.close()


def test_a_folder_that_others_may_look_into_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    SecretFiles(folder).close()
    assert mode(folder) == 0o700


def test_a_link_in_place_of_the_folder_or_of_a_file_is_not_followed(
    files: SecretFiles, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"\x81\xc4\x01A\xc4\x01B")
    (files.path / ID.hex()).symlink_to(target)
    (files.path / f".{OTHER.hex()}.new").symlink_to(target)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        files.read(ID)
    with pytest.raises(FileExistsError):
        files.write({OTHER: VALUES})
    assert target.read_bytes() == b"\x81\xc4\x01A\xc4\x01B"
    (tmp_path / "linked").symlink_to(files.path)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        SecretFiles(tmp_path / "linked")


def test_what_a_crash_left_half_written_is_removed_and_other_files_are_not(
    files: SecretFiles,
) -> None:
    (files.path / f".{ID.hex()}.new").write_bytes(b"half")
    (files.path / "notes").write_text("somebody's")
    assert files.list() == {}
    assert names(files) == ["notes"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_of_several_all_are_written_or_none(
    files: SecretFiles, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, calls = getattr(os, call), iter((True, False))

    def failing(*args: object, **more: object) -> object:
        if not next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **more)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        files.write({ID: VALUES, OTHER: VALUES})
    assert names(files) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\x81\xc4\x07hunter2", b"\xc4\x07hunter2", b"\x81\x01\xc4\x07hunter2", b"\x90" * 9],
)
def test_what_is_no_file_of_ours_is_unreadable_and_the_error_does_not_show_it(
    files: SecretFiles, content: bytes
) -> None:
    (files.path / ID.hex()).write_bytes(content)
    with pytest.raises(SecretsUnreadable) as caught:
        files.read(ID)
    shown = [str(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    assert not any("hunter2" in each for each in shown)


def test_a_pipe_in_place_of_a_file_holds_nobody_up(files: SecretFiles) -> None:
    os.mkfifo(files.path / ID.hex())
    with pytest.raises(SecretsUnreadable, match="no file"):
        files.read(ID)
