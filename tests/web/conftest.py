"""A web server of a fake manager."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import manager
from tests.client.fake_manager import FakeManager
from tests.web.running import Running

__all__ = ["manager"]


@pytest.fixture
def server(manager: FakeManager, tmp_path: Path) -> Iterator[Running]:
    """It allows changes; nothing was built that it could show."""
    static = tmp_path / "static"
    with Running(manager.address, allows_changes=True, static=static) as running:
        yield running
