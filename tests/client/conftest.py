"""A fake manager whose token is found as users' is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fake_manager import FakeManager, wait_for_answers


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    """It serves; TITAN_MANAGER and the state directory lead to it."""
    wait_for_answers(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with FakeManager(tmp_path / "manager") as manager:
        monkeypatch.setenv("TITAN_MANAGER", manager.address)
        yield manager
