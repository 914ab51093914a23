"""`titan token`: what it prints, keeps and ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Titan
from titan.tls.user_tokens import TokenFile, draw


@pytest.fixture(autouse=True)
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TLS directory, which is the default one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TITAN_TLS_DIR", raising=False)
    directory = tmp_path / "config" / "titan" / "tls"
    directory.mkdir(parents=True)
    return directory


def test_the_token_alone_goes_to_stdout_and_is_right_at_once(titan: Titan, tls: Path) -> None:
    result = titan("token", "issue", "ada")
    assert result.code == 0
    text = result.out.removesuffix("\n")
    now = time.time()
    file = TokenFile(tls / "tokens.json")
    entry = file.verify(text, now)
    assert entry is not None
    assert (entry.user, entry.is_admin) == ("ada", False)
    assert entry.expires == pytest.approx(now + 30 * 86_400, abs=60)
    assert f"titan token revoke {entry.id}" in result.err
    assert text.rsplit(".", 1)[1] not in result.err + titan("token", "list").out


def test_programs_are_told_all_about_it(titan: Titan, tls: Path) -> None:
    issued = json.loads(titan("token", "issue", "ci", "--admin", "--expires", "12h", "--json").out)
    text = issued.pop("token")
    assert text.startswith(f"ci.{issued['id']}.")
    assert (issued["user"], issued["is_admin"], issued["state"]) == ("ci", True, "VALID")
    assert issued["end_time"] == pytest.approx(issued["create_time"] + 12 * 3600)
    assert json.loads(titan("token", "list", "--json").out) == [issued]
    assert TokenFile(tls / "tokens.json").verify(text, issued["end_time"] - 1) is not None


def test_the_list_tells_which_have_expired(titan: Titan, tls: Path) -> None:
    _, old = draw("ada", is_admin=False, expires_at=1e9 + 1, now=1e9)
    TokenFile(tls / "tokens.json").add(old)
    assert titan("token", "issue", "bob", "--admin").code == 0
    lines = titan("token", "list").out.splitlines()
    assert lines[0].split() == ["ID", "USER", "ADMIN", "CREATED", "UNTIL", "STATE"]
    assert [(*each.split()[1:3], each.split()[-1]) for each in lines[1:]] == [
        ("ada", "no", "EXPIRED"),
        ("bob", "yes", "VALID"),
    ]


def test_revoked_tokens_are_gone(titan: Titan, tls: Path) -> None:
    texts = [titan("token", "issue", user).out.strip() for user in ("ada", "ada", "bob")]
    file = TokenFile(tls / "tokens.json")
    assert all(file.verify(each, time.time()) for each in texts)
    token_id = texts[2].split(".")[1]
    result = titan("token", "revoke", token_id)
    assert (result.code, result.out) == (0, f"Revoked token {token_id} of bob\n")
    assert len(json.loads(titan("token", "revoke", "ada", "--json").out)) == 2
    assert not any(file.verify(each, time.time()) for each in texts)
    assert titan("token", "revoke", "ada").code == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["issue", "a b"], 2),
        (["issue", "ada", "--expires", "0"], 2),
        (["issue", "ada", "--expires", "30"], 2),
        (["issue"], 2),
        (["revoke"], 2),
        (["revoke", "nobody"], 4),
        (["issue", "ada", "--tls-dir", "missing"], 1),
    ],
)
def test_what_cannot_be_done_is_said(titan: Titan, tls: Path, words: list[str], code: int) -> None:
    result = titan("token", *words)
    assert (result.code, result.out) == (code, "")
    assert result.err.strip()
    assert list(tls.iterdir()) == []


def test_a_broken_file_is_told_and_left(titan: Titan, tls: Path) -> None:
    (tls / "tokens.json").write_text("{")
    for words in (["list"], ["issue", "ada"], ["revoke", "ada"]):
        result = titan("token", *words)
        assert (result.code, result.out) == (1, "")
        assert "is broken" in result.err
    assert (tls / "tokens.json").read_text() == "{"
