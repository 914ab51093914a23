"""Hosts for tests: real processes, ended after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.host_driver import HostDriver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[HostDriver]:
    """A host's directory; nothing is started yet."""
    made = HostDriver(tmp_path)
    yield made
    made.close()


@pytest.fixture
def host(driver: HostDriver) -> HostDriver:
    """A running host with its agent connected."""
    driver.start()
    driver.connect()
    return driver
