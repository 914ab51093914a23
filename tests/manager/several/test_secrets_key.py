"""The key for secrets: who may read it, what it opens, and what it says of itself."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from titan.manager.secret_store import SecretsUnreadable
from titan.manager.several.secrets_key import HOW_TO_MAKE, KeyRefused, SecretsKey, read_key

KEY = b"K" * 32
OLD = b"O" * 32
VALUE = b"hunter2-and-more"


def line(key: bytes) -> str:
    return base64.b64encode(key).decode() + "\n"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_was_sealed_opens_with_the_same_key_and_context_alone() -> None:
    key = SecretsKey(KEY)
    sealed = key.seal(VALUE, b"here")
    assert key.open(sealed, b"here") == VALUE
    assert VALUE not in sealed
    assert KEY not in sealed
    assert key.seal(VALUE, b"here") != sealed
    with pytest.raises(SecretsUnreadable, match="moved here from elsewhere"):
        key.open(sealed, b"there")
    for place in range(len(sealed)):
        spoilt = bytearray(sealed)
        spoilt[place] ^= 1
        with pytest.raises(SecretsUnreadable):
            key.open(bytes(spoilt), b"here")
    for length in range(len(sealed)):
        with pytest.raises(SecretsUnreadable):
            key.open(sealed[:length], b"here")


def test_a_key_that_was_replaced_opens_what_it_sealed_and_another_one_is_told() -> None:
    sealed = SecretsKey(OLD).seal(VALUE, b"")
    both = SecretsKey(KEY, OLD)
    assert both.open(sealed, b"") == VALUE
    assert SecretsKey(KEY).open(both.seal(VALUE, b""), b"") == VALUE
    with pytest.raises(SecretsUnreadable, match=f"another key, {SecretsKey(OLD).ids[0].hex()}"):
        SecretsKey(KEY).open(sealed, b"")


def test_the_file_has_the_keys_and_what_people_note_of_them(tmp_path: Path) -> None:
    path = write(tmp_path / "key", f"# Titan's secrets key\n\n{line(KEY)} {line(OLD)}")
    assert read_key(path).ids == SecretsKey(KEY, OLD).ids
    (tmp_path / "link").symlink_to(path)
    assert read_key(tmp_path / "link").ids == read_key(path).ids


def test_the_command_that_is_told_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["sh", "-c", HOW_TO_MAKE.replace("FILE", str(path))], check=True)
    assert len(read_key(path).ids) == 1
    with pytest.raises(KeyRefused) as caught:
        read_key(tmp_path / "none")
    assert HOW_TO_MAKE in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644])
def test_one_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key", line(KEY), mode)
    with pytest.raises(KeyRefused, match=f"chmod 600 {path}"):
        read_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "key", line(KEY))
    os.chown(path, 65534, 65534)
    with pytest.raises(KeyRefused, match="belongs to another user"):
        read_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o440, True), (0o640, True), (0o460, False)])
def test_one_of_roots_may_be_read_by_the_managers_own_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, is_taken: bool
) -> None:
    """As containers are given theirs."""
    path = write(tmp_path / "key", line(KEY), mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if is_taken:
        assert read_key(path).ids
    else:
        with pytest.raises(KeyRefused, match="others may read"):
            read_key(path)


@pytest.mark.parametrize(
    "text", ["", "# a note\n", "hunter2\n", line(b"short"), line(KEY + b"x"), line(KEY) + "x\n"]
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        read_key(write(tmp_path / "key", text))
    assert "hunter2" not in str(caught.value)
    assert HOW_TO_MAKE in str(caught.value)


def test_a_folder_or_a_pipe_in_its_place_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyRefused):
            read_key(path)


def test_where_cryptography_is_missing_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(KeyRefused, match=r"titan-scheduler\[tls\]"):
        SecretsKey(KEY)
