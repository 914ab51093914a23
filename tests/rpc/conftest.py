"""A CA and whom it knows, without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.people import People


@pytest.fixture
def people(tmp_path: Path) -> People:
    """A CA of the cluster lab in a directory of its own."""
    return People(tmp_path / "tls")
