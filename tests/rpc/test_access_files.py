"""The access token that a manager without certificates leaves, and takes away once it has some."""

from __future__ import annotations

from pathlib import Path

import pytest

from titan.rpc import access


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("address", ["127.0.0.1:6000", "0.0.0.0:6000", "localhost:6001"])
def test_a_manager_that_has_certificates_now_takes_its_token_away_wherever_it_listened(
    tmp_path: Path, address: str
) -> None:
    before = "127.0.0.1:6000"
    access.write_token(tmp_path / "manager", before, "its token")
    assert access.find_token(before) == "its token"
    access.forget_token(tmp_path / "manager", address)
    assert access.find_token(before) is None
    assert access.stored_token(tmp_path / "manager") == ""


def test_what_another_left_at_that_address_stays(tmp_path: Path) -> None:
    access.write_token(tmp_path / "one", "127.0.0.1:6000", "of one")
    access.write_token(tmp_path / "two", "127.0.0.1:6000", "of two")
    access.forget_token(tmp_path / "one", "127.0.0.1:6000")
    assert access.find_token("127.0.0.1:6000") == "of two"
    assert access.stored_token(tmp_path / "two") == "of two"


def test_a_manager_that_left_nothing_takes_nothing_away(tmp_path: Path) -> None:
    access.write_token(tmp_path / "two", "127.0.0.1:6000", "of two")
    access.forget_token(tmp_path / "one", "127.0.0.1:6000")
    assert access.find_token("127.0.0.1:6000") == "of two"
