"""User tokens: who shows one is that user, until it ends; nothing is lost between writers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from titan import paths
from titan.tls.user_tokens import Entry, TokenFile, draw

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tls" / "tokens.json"


def added(path: Path, user: str = "ada", *, seconds: float = 60, is_admin: bool = False) -> str:
    text, entry = draw(user, is_admin=is_admin, expires_at=NOW + seconds, now=NOW)
    TokenFile(path).add(entry)
    return text


def test_a_token_is_its_users_until_it_ends(path: Path) -> None:
    text = added(path, "ada.lovelace")
    file = TokenFile(path)
    entry = file.verify(text, NOW + 59.9)
    assert entry is not None
    assert (entry.user, entry.is_admin, entry.expires) == ("ada.lovelace", False, NOW + 60)
    assert file.verify(text, NOW + 60) is None
    assert text.startswith("ada.lovelace.")


def test_only_a_hash_of_it_is_kept_and_for_its_user_alone(path: Path) -> None:
    text = added(path, is_admin=True)
    user, token_id, secret = text.rsplit(".", 2)
    kept = path.read_text()
    assert secret not in kept
    assert json.loads(kept) == {
        "format": 1,
        "tokens": [
            {
                "id": token_id,
                "user": user,
                "is_admin": True,
                "sha256": hashlib.sha256(secret.encode()).hexdigest(),
                "created": NOW,
                "expires": NOW + 60,
            }
        ],
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # 256 bits, six in each character.
    assert len(secret) == 43


def test_no_other_text_is_a_token(path: Path) -> None:
    text = added(path)
    user, token_id, secret = text.rsplit(".", 2)
    other = added(path, "bob")
    wrong = [
        "",
        ".",
        "..",
        user,
        f"{user}.{token_id}",
        f"{user}.{token_id}.",
        f"{user}.{token_id}.{secret[:-1]}",
        f"{user}.{token_id}.{secret}x",
        f"{user}.{token_id}.{other.rsplit('.', 1)[1]}",
        f"bob.{token_id}.{secret}",
        f"x.{text}",
        f"{user}.{token_id[::-1]}x.{secret}",
        text.upper(),
        f"{text}\n",
        f" {text}",
        f"{text[:-1]}é",
        f"{text[:-1]}\udcff",
    ]
    file = TokenFile(path)
    assert [each for each in wrong if file.verify(each, NOW)] == []
    assert file.verify(text, NOW) is not None
    assert [
        each for each in ("", "ada", "ada.x", "a/b.x.y", ".x.y") if file.verify(each, NOW)
    ] == []


@pytest.mark.parametrize("user", ["", "a b", "../x", "a\n", "é"])
def test_no_token_is_drawn_for_what_is_no_name(user: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        draw(user, is_admin=False, expires_at=NOW + 1, now=NOW)


def test_changes_count_at_once(path: Path) -> None:
    file = TokenFile(path)
    assert file.entries() == []
    text = added(path)
    assert file.verify(text, NOW) is not None
    more = added(path, "bob")
    assert file.verify(more, NOW) is not None
    assert [each.user for each in file.remove(["ada"])] == ["ada"]
    assert file.verify(text, NOW) is None
    assert file.verify(more, NOW) is not None
    path.unlink()
    assert file.verify(more, NOW) is None


def test_ids_and_users_are_removed_all_or_none(path: Path) -> None:
    first, _, third = added(path), added(path), added(path, "bob")
    added(path, "eve")
    file = TokenFile(path)
    with pytest.raises(KeyError, match="nobody"):
        file.remove(["ada", "nobody"])
    assert len(file.entries()) == 4
    assert len(file.remove([first.split(".")[1]])) == 1
    assert len(file.remove(["ada", third.split(".")[1]])) == 2
    assert [each.user for each in file.entries()] == ["eve"]
    with pytest.raises(KeyError):
        TokenFile(path.with_name("none.json")).remove(["ada"])
    assert {each.name for each in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def _damaged(entry: Entry, **changes: object) -> str:
    value = dataclasses.asdict(entry) | changes
    return json.dumps({"format": 1, "tokens": [value]})


def test_a_broken_file_lets_nobody_in_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = added(path)
    whole = path.read_text()
    [entry] = TokenFile(path).entries()
    file = TokenFile(path)
    for number, broken in enumerate(
        [
            "",
            whole[:-5],
            "[]",
            '{"format": 2, "tokens": []}',
            '{"format": 1, "tokens": [1]}',
            '{"format": 1}',
            _damaged(entry, expires="never"),
            _damaged(entry, expires=float("inf")),
            _damaged(entry, expires=float("nan")),
            _damaged(entry, is_admin="no"),
            _damaged(entry, user="a/b"),
            _damaged(entry, user=1),
            _damaged(entry, sha256=None),
            _damaged(entry, sha256="é"),
        ]
    ):
        paths.write_file(path, whole.encode())
        assert file.verify(text, NOW) is not None
        paths.write_file(path, broken.encode())
        for _ in range(3):
            assert file.verify(text, NOW) is None, broken
        assert len(caplog.records) == number + 1, broken
        # Who would add to it does not write over what somebody may still mend.
        with pytest.raises(ValueError, match="is broken"):
            file.add(entry)
        assert path.read_text() == broken


def test_a_file_that_cannot_be_read_lets_nobody_in(path: Path) -> None:
    text = added(path)
    file = TokenFile(path)
    assert file.verify(text, NOW) is not None
    path.unlink()
    path.mkdir()
    assert file.verify(text, NOW) is None


def test_of_many_who_write_at_once_nobody_loses_anything(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from titan.tls.user_tokens import TokenFile, draw\n"
        "file = TokenFile(Path(sys.argv[1]))\n"
        "for number in range(10):\n"
        "    name = f'{sys.argv[2]}.{number}'\n"
        "    text, entry = draw(name, is_admin=False, expires_at=2e9, now=1e9)\n"
        "    file.add(entry)\n"
        "    assert file.verify(text, 1e9)\n"
        "    if number % 2:\n"
        "        file.remove([entry.id])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"u{number}"])
        for number in range(4)
    ]
    assert [each.wait(60) for each in writers] == [0] * 4
    users = sorted(each.user for each in TokenFile(path).entries())
    assert users == [f"u{one}.{two}" for one in range(4) for two in (0, 2, 4, 6, 8)]
