"""What the command line says of certificates and tokens, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Titan
from tests.security.people import People
from titan.manager.options import ManagerOptions
from titan.rpc import access
from titan.tls.identity import Role
from titan.worker.main import WorkerOptions


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """A CA in the directory where this user's certificates are looked for."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("TITAN_TLS_DIR", "TITAN_TOKEN", "TITAN_MANAGER"):
        monkeypatch.delenv(name, raising=False)
    return People(tmp_path / "config" / "titan" / "tls")


def test_a_worker_finds_its_certificate_and_is_called_as_that_says(
    titan: Titan, workers: list[WorkerOptions], people: People
) -> None:
    people.issue(Role.WORKER, "w7", "worker")
    assert titan("worker", "--manager", "10.1.2.3:6000").code == 0
    (options,) = workers
    assert options.tls is not None
    assert options.tls.path == people.directory
    assert options.name == ""


@pytest.mark.parametrize(
    "addresses", ["10.1.2.3:6000,127.0.0.1:6000", "127.0.0.1:6000, 10.1.2.3:6000"]
)
def test_of_several_managers_none_is_called_in_clear_text_because_another_is_on_this_machine(
    titan: Titan, workers: list[WorkerOptions], people: People, tmp_path: Path, addresses: str
) -> None:
    people.issue(Role.WORKER, "w7", "worker")
    access.write_token(tmp_path / "manager", "127.0.0.1:6000", "its token")
    assert titan("worker", "--manager", addresses).code == 0
    (options,) = workers
    assert options.tls is not None


def test_one_of_several_managers_that_needs_certificates_is_a_usage_error(
    titan: Titan, workers: list[WorkerOptions], people: People
) -> None:
    del people
    result = titan("worker", "--manager", "127.0.0.1:6000,10.1.2.3:6000")
    assert result.code == 2
    assert "10.1.2.3:6000 can be reached from other machines" in result.err
    assert not workers


@pytest.mark.parametrize("command", ["worker", "queue"])
def test_a_directory_that_is_not_there_is_a_usage_error(
    titan: Titan, people: People, command: str
) -> None:
    del people
    result = titan(command, "--tls-dir", "/gone/away")
    assert result.code == 2
    assert "there is no /gone/away, which --tls-dir names" in result.err


def test_a_manager_takes_its_certificate_and_none_if_it_is_told_so(
    titan: Titan, managers: list[ManagerOptions], people: People
) -> None:
    people.issue(Role.MANAGER, "manager")
    for words in ((), ("--tls-dir", "none"), ("--insecure-i-know",)):
        assert titan("manager", *words).code == 7
    assert [each.tls_path for each in managers] == [people.directory, None, people.directory]
    assert [each.is_insecure for each in managers] == [False, False, True]


def test_a_token_file_is_to_hold_a_token(
    titan: Titan, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_TOKEN", people.token("another"))
    path = tmp_path / "token"
    gone = titan("queue", "--token-file", str(path))
    assert gone.code == 2
    assert "--token-file: " in gone.err
    for content in (b"", b"\n \n"):
        path.write_bytes(content)
        empty = titan("queue", "--token-file", str(path))
        assert empty.code == 2
        assert f"--token-file: {path} is empty" in empty.err
    path.write_bytes(b"\xff\xfe")
    assert titan("queue", "--token-file", str(path)).code == 2


def test_a_token_never_goes_where_nothing_is_encrypted(
    titan: Titan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TITAN_TOKEN", "alice.0123456789ab.secret")
    for words in ((), ("--insecure-i-know", "--manager", "10.1.2.3:6000"), ("--tls-dir", "none")):
        result = titan("queue", *words)
        assert result.code == 2
        assert "a user's token goes over TLS only" in result.err
        assert "secret" not in result.err
