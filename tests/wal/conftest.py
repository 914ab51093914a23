"""The disks that the shared suite runs on."""

from pathlib import Path

import pytest

from tests.wal.builders import Disk, fake_disk
from wal import OsFileSystem


@pytest.fixture(params=["fake", "real"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A disk in memory and a real one: whatever holds on one must hold on the other."""
    if request.param == "fake":
        return fake_disk()[0]
    return Disk(OsFileSystem(), str(tmp_path / "wal"))
