"""A web server of a fake manager."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import manager
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from tests.web.running import Running
from titan.web import history, reading

__all__ = ["manager"]


@pytest.fixture(autouse=True)
def pages_wait_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it takes a busy machine seconds to answer they would do without, or ask once more."""
    monkeypatch.setattr(history, "PATIENCE_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(reading, "STORY_SECONDS", DEADLINE_SECONDS)


@pytest.fixture
def server(manager: FakeManager, tmp_path: Path) -> Iterator[Running]:
    """It allows changes; nothing was built that it could show."""
    static = tmp_path / "static"
    with Running(manager.address, allows_changes=True, static=static) as running:
        yield running
