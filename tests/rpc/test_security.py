"""How a caller proves who he is: what was named, what there is, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.security.people import People
from titan import paths
from titan.rpc import access
from titan.rpc.security import NO_TLS, find_files, own_path, tls_path
from titan.tls.identity import Role

HERE = "127.0.0.1:6000"
THERE = "10.1.2.3:6000"

NAMED = "the named one"
DEFAULT = "the default"
PLAIN = "no certificates"


class Case(NamedTuple):
    """What there is, and what is asked for."""

    outcome: str
    """Whose files, or what the error says."""
    address: str = HERE
    named: str = ""
    """`--tls-dir`: "cert", "ca", "gone" or "none"."""
    default: str = ""
    """What lies in the directory of certificates: "cert", "ca", or nothing."""
    is_known: bool = False
    """Whether this user can read an access file of that address."""
    has_access_file: bool = False
    has_token: bool = False
    is_insecure: bool = False


CASES = {
    # Nothing at all is named.
    "nothing here": Case(PLAIN),
    "nothing there": Case("needs certificates", THERE),
    "nothing there, and he knows": Case(PLAIN, THERE, is_insecure=True),
    "a name is not this machine": Case("needs certificates", "manager.example:6000"),
    "localhost is": Case(PLAIN, "localhost:6000"),
    "ipv6 too": Case(PLAIN, "[::1]:6000"),
    # This user has certificates.
    "certificates here": Case(DEFAULT, default="cert"),
    "certificates there": Case(DEFAULT, THERE, default="cert"),
    "a manager of his own here": Case(PLAIN, default="cert", is_known=True),
    "by another name": Case(PLAIN, "localhost:6000", default="cert", is_known=True),
    "an access file is no reason elsewhere": Case(DEFAULT, THERE, default="cert", is_known=True),
    "he knows, and has them all the same": Case(DEFAULT, THERE, default="cert", is_insecure=True),
    "an access file was named": Case(PLAIN, default="cert", has_access_file=True),
    "an access file for elsewhere": Case(
        "needs certificates", THERE, default="cert", has_access_file=True
    ),
    "the CA alone is nobody": Case("needs certificates", THERE, default="ca"),
    # Something is named.
    "named": Case(NAMED, named="cert"),
    "named wins": Case(NAMED, THERE, named="cert", default="cert"),
    "named wins over the access file": Case(NAMED, named="cert", is_known=True),
    "named and gone": Case("there is no", named="gone"),
    "named and gone, with a default": Case("there is no", named="gone", default="cert"),
    "named and gone, and he knows": Case("there is no", THERE, named="gone", is_insecure=True),
    "named is the CA alone": Case("holds no certificate", named="ca"),
    "none here": Case(PLAIN, named="none", default="cert"),
    "none there": Case("needs certificates", THERE, named="none", default="cert"),
    "none there, and he knows": Case(PLAIN, THERE, named="none", default="cert", is_insecure=True),
    # He has a token.
    "token and CA": Case(NAMED, THERE, named="ca", has_token=True),
    "token and CA by default": Case(DEFAULT, THERE, default="ca", has_token=True),
    "token here": Case(DEFAULT, default="ca", has_token=True),
    "token without a CA": Case("goes over TLS only", has_token=True),
    "token without a CA, and he knows": Case(
        "goes over TLS only", THERE, has_token=True, is_insecure=True
    ),
    "token and none": Case("goes over TLS only", named="none", default="ca", has_token=True),
    "token and an access file": Case(
        "goes over TLS only", default="ca", has_access_file=True, has_token=True
    ),
    "a token never goes to who is not TLS": Case(
        "goes over TLS only", default="ca", is_known=True, has_token=True
    ),
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where certificates of this user are looked for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("TITAN_TLS_DIR", "TITAN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return paths.tls_directory()


def fill(directory: Path, people: People, what: str) -> None:
    """With alice's certificate, or the CA's alone."""
    directory.mkdir(parents=True)
    if what == "cert":
        source = people.issue(Role.USER, "alice", "somewhere")
        for each in source.iterdir():
            (directory / each.name).write_bytes(each.read_bytes())
    else:
        (directory / "ca.pem").write_bytes((people.directory / "ca.pem").read_bytes())


def outcome(case: Case, people: People, config: Path, elsewhere: Path) -> str:
    """What comes of it."""
    if case.default:
        fill(config, people, case.default)
    named = {"": None, "none": NO_TLS, "gone": elsewhere / "gone"}.get(case.named)
    if case.named in ("cert", "ca"):
        named = elsewhere / "named"
        fill(Path(named), people, case.named)
    if case.is_known:
        access.write_token(elsewhere, case.address, "its token")
    try:
        files = find_files(
            case.address,
            Role.USER,
            tls_dir=named,
            access_file=elsewhere / "access.json" if case.has_access_file else None,
            has_token=case.has_token,
            is_insecure=case.is_insecure,
        )
    except ValueError as error:
        return str(error)
    if files is None:
        return PLAIN
    assert files.path in (config, named)
    return DEFAULT if files.path == config else NAMED


@pytest.mark.parametrize("name", CASES)
def test_what_a_caller_proves_himself_with(
    name: str, people: People, config: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    found = outcome(case, people, config, tmp_path / "elsewhere")
    if case.outcome in (NAMED, DEFAULT, PLAIN):
        assert found == case.outcome
    else:
        assert case.outcome in found


def test_the_environment_names_it_where_no_option_does(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tls_path(None) is None
    monkeypatch.setenv("TITAN_TLS_DIR", "/from/environment")
    assert tls_path(None) == Path("/from/environment")
    assert tls_path("") == Path("/from/environment")
    assert tls_path("/named") == Path("/named")
    monkeypatch.setenv("TITAN_TLS_DIR", "")
    assert tls_path(None) is None


def test_a_server_uses_what_is_named_or_what_is_its_own(people: People, config: Path) -> None:
    assert own_path(None, Role.MANAGER) is None
    # What is not there is an error when it is read, and no reason to do without.
    assert own_path("/gone", Role.MANAGER) == Path("/gone")
    assert own_path(NO_TLS, Role.MANAGER) is None
    fill(config / "manager", people, "ca")
    assert own_path(None, Role.MANAGER) is None
    (config / "manager" / "cert.pem").write_bytes(b"x")
    assert own_path(None, Role.MANAGER) == config
    assert own_path(None, Role.WORKER) is None
    assert own_path(NO_TLS, Role.MANAGER) is None
