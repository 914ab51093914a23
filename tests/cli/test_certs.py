"""`titan certs`: what it makes, prints and refuses."""

from __future__ import annotations

import json
import re
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Titan
from titan.client.connection import os_user
from titan.tls.revoked import RevokedSerials

DAY = 86_400


@pytest.fixture(autouse=True)
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default directory; nothing is there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("TITAN_TLS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "titan" / "tls"


def listed(titan: Titan, *options: str) -> list[dict[str, Any]]:
    result = titan("certs", "list", "--json", *options)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert isinstance(found, list)
    return found


def files(directory: Path) -> set[str]:
    return {
        str(each.relative_to(directory))
        for each in directory.rglob("*")
        if each.is_file() and not each.name.startswith(".") and each.parent.name != "issued"
    }


def test_one_command_makes_all_that_a_manager_and_its_user_need(titan: Titan, tls: Path) -> None:
    result = titan("certs", "init", "--host", "titan.example.com")
    assert (result.code, result.err) == (0, "")
    assert files(tls) == {"ca.pem", "ca-key.pem"} | {
        f"{place}/{name}"
        for place in ("manager", "user")
        for name in ("ca.pem", "cert.pem", "key.pem")
    }
    assert [(each["role"], each["name"]) for each in listed(titan)] == [
        ("manager", "manager"),
        ("admin", os_user()),
    ]
    assert re.search(r"^  titan manager --listen 0.0.0.0:50051$", result.out, re.M)
    assert re.search(r"^  titan certs issue worker w1 --bundle w1.pem$", result.out, re.M)
    called = r"^  titan worker --manager titan.example.com:50051 --tls-dir w1.pem$"
    assert re.search(called, result.out, re.M)


def test_the_commands_to_paste_name_a_directory_that_is_not_the_default(
    titan: Titan, tmp_path: Path, tls: Path
) -> None:
    result = titan("certs", "init", "my tls", "--host", "::1", "--cluster", "lab")
    assert result.code == 0
    assert f"--listen 0.0.0.0:50051 --tls-dir '{tmp_path}/my tls'\n" in result.out
    assert f"--bundle w1.pem --tls-dir '{tmp_path}/my tls'\n" in result.out
    assert "titan worker --manager '[::1]:50051' --tls-dir w1.pem\n" in result.out
    assert "my tls" not in titan("certs", "init", str(tls)).out


def test_init_tells_programs_what_it_made(titan: Titan, tls: Path) -> None:
    result = titan("certs", "init", "--json", "--cluster", "lab", "--days", "30", "--admin", "ada")
    made = json.loads(result.out)
    manager, admin = made.pop("certificates")
    end = made.pop("end_time")
    assert made == {"directory": str(tls), "cluster": "lab"}
    assert end == pytest.approx(time.time() + 3650 * DAY, abs=60)
    assert manager["end_time"] == pytest.approx(time.time() + 30 * DAY, abs=60)
    assert (manager["path"], admin["path"]) == (str(tls / "manager"), str(tls / "user"))
    assert (manager["role"], admin["role"], admin["name"]) == ("manager", "admin", "ada")


@pytest.mark.parametrize("there", ["ca.pem", "ca-key.pem", "cert.pem", "manager/cert.pem"])
def test_init_replaces_nothing(titan: Titan, tls: Path, there: str) -> None:
    (tls / there).parent.mkdir(parents=True)
    (tls / there).write_text("mine")
    result = titan("certs", "init")
    assert (result.code, result.out) == (5, "")
    assert "already" in result.err
    assert files(tls) == {there}
    assert (tls / there).read_text() == "mine"


@pytest.mark.parametrize(
    "options", [("--host", "x.worker"), ("--cluster", "a/b"), ("--admin", "a b"), ("--days", "0")]
)
def test_init_makes_nothing_of_what_is_wrong(
    titan: Titan, tls: Path, options: tuple[str, str]
) -> None:
    result = titan("certs", "init", *options)
    assert (result.code, result.out) == (2, "")
    assert not tls.exists()


@pytest.mark.parametrize(
    ("words", "role", "place"),
    [
        (["manager"], "manager", "manager"),
        (["worker", "w1"], "worker", "workers/w1"),
        (["user", "ada"], "user", "users/ada"),
        (["user", "ada", "--admin"], "admin", "users/ada"),
    ],
)
def test_files_go_to_a_place_of_each_role(
    titan: Titan, tls: Path, words: list[str], role: str, place: str
) -> None:
    assert titan("certs", "init").code == 0
    result = titan("certs", "issue", *words)
    assert (result.code, result.err) == (0, "")
    name = words[1] if len(words) > 1 else "manager"
    found = rf"{role} {name}: serial ([0-9a-f]{{32}}), until [-0-9]{{10}} [:0-9]{{8}}, in (.*)\n"
    match = re.fullmatch(found, result.out)
    assert match
    assert match[2] == str(tls / place)
    assert {each.name for each in (tls / place).iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert listed(titan)[-1]["serial"] == match[1]


def test_a_bundle_is_one_private_file_with_key_certificate_and_ca(
    titan: Titan, tls: Path, tmp_path: Path
) -> None:
    assert titan("certs", "init").code == 0
    view = json.loads(titan("certs", "issue", "worker", "w1", "--bundle", "b.pem", "--json").out)
    assert (view["role"], view["name"], view["path"]) == ("worker", "w1", "b.pem")
    text = (tmp_path / "b.pem").read_text()
    assert re.findall("BEGIN (.*)-----", text) == ["PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"]
    assert text.endswith((tls / "ca.pem").read_text())
    assert stat.S_IMODE((tmp_path / "b.pem").stat().st_mode) == 0o600
    assert not (tls / "workers").exists()
    # Again it is a new one in the same place.
    assert titan("certs", "issue", "worker", "w1", "--bundle", "b.pem").code == 0
    assert (tmp_path / "b.pem").read_text() != text


def test_issuing_again_renews_in_place(titan: Titan, tls: Path) -> None:
    assert titan("certs", "init").code == 0
    before = {name: (tls / "user" / name).read_bytes() for name in ("cert.pem", "key.pem")}
    place = str(tls / "user")
    assert titan("certs", "issue", "user", os_user(), "--admin", "--out", place).code == 0
    for name, content in before.items():
        assert (tls / "user" / name).read_bytes() != content


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["worker", "a/b"], 2),
        (["worker"], 2),
        (["worker", "w1", "--host", "x"], 2),
        (["worker", "w1", "--out", "x", "--bundle", "y"], 2),
        (["manager", "--host", "w1.worker"], 2),
        (["worker", "W0"], 5),
        (["worker", "w1", "--bundle", "missing/w1.pem"], 1),
        (["worker", "w1", "--tls-dir", "missing"], 1),
    ],
)
def test_what_cannot_be_issued_is_said(titan: Titan, words: list[str], code: int) -> None:
    assert titan("certs", "init").code == 0
    assert titan("certs", "issue", "worker", "w0").code == 0
    result = titan("certs", "issue", *words)
    assert (result.code, result.out) == (code, "")
    assert result.err.strip()


def test_the_list_is_a_table_for_people(titan: Titan) -> None:
    assert titan("certs", "init", "--admin", "ada").code == 0
    assert titan("certs", "revoke", "ada").code == 0
    lines = titan("certs", "list").out.splitlines()
    assert lines[0].split() == ["SERIAL", "ROLE", "NAME", "UNTIL", "STATE"]
    assert [(*each.split()[1:3], each.split()[-1]) for each in lines[1:]] == [
        ("manager", "manager", "VALID"),
        ("admin", "ada", "REVOKED"),
    ]


def test_a_copy_that_is_broken_is_told_and_fails_the_list(titan: Titan, tls: Path) -> None:
    assert titan("certs", "init", "--admin", "ada").code == 0
    (tls / "issued" / "\x1b[2J.pem").write_text("x")
    result = titan("certs", "list")
    assert result.code == 1
    assert len(result.out.splitlines()) == 3
    assert "\\x1b[2J.pem" in result.err
    assert "\x1b" not in result.err


def test_revoked_serials_go_to_the_list_that_servers_read(titan: Titan, tls: Path) -> None:
    assert titan("certs", "init").code == 0
    assert titan("certs", "issue", "worker", "w1").code == 0
    serial = listed(titan)[-1]["serial"]
    result = titan("certs", "revoke", "worker/w1")
    assert (result.code, result.out) == (0, f"Revoked worker w1: {serial}\n")
    revoked = RevokedSerials([tls / "revoked.txt"])
    assert [revoked.is_revoked(int(each["serial"], 16)) for each in listed(titan)] == [
        False,
        False,
        True,
    ]
    again = titan("certs", "revoke", serial)
    assert again.code == 0
    assert again.out.startswith("Nothing to revoke")
    assert titan("certs", "revoke", "w1", "--json").out == "[]\n"
    [view] = json.loads(titan("certs", "revoke", "0123456789abcdef", "--json").out)
    assert view == {
        "serial": "0123456789abcdef",
        "role": None,
        "name": None,
        "end_time": None,
        "state": "REVOKED",
    }


def test_what_cannot_be_revoked_is_said(titan: Titan, tls: Path) -> None:
    assert titan("certs", "init").code == 0
    assert titan("certs", "issue", "worker", "ada").code == 0
    assert titan("certs", "issue", "user", "ada").code == 0
    for words, code in ((["w9"], 4), (["ada"], 2), (["user/ada", "w9"], 4), ([], 2)):
        result = titan("certs", "revoke", *words)
        assert (result.code, result.out) == (code, "")
    assert titan("certs", "revoke", str(tls / "ca.pem")).code == 1
    assert not (tls / "revoked.txt").exists()


def test_the_directory_is_found_by_option_variable_and_default(
    titan: Titan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, place in enumerate(("one", "two", str(tmp_path / "config/titan/tls"))):
        assert titan("certs", "init", place, "--admin", f"u{number}").code == 0
    assert listed(titan)[-1]["name"] == "u2"
    monkeypatch.setenv("TITAN_TLS_DIR", "two")
    assert listed(titan)[-1]["name"] == "u1"
    assert listed(titan, "--tls-dir", "one")[-1]["name"] == "u0"
    (tmp_path / "bundle.pem").write_text("x")
    result = titan("certs", "list", "--tls-dir", "bundle.pem")
    assert result.code == 1
    assert "is a file" in result.err
