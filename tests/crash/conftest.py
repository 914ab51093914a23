"""What the tests of this folder share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.small_disk import DISK_BYTES, run_again_as_root, skip_unless_ci
from tests.strays import nothing_left


@pytest.fixture(autouse=True)
def nothing_is_left_by_the_test(tmp_path: Path) -> Iterator[None]:
    """Fails a test that leaves a process or a control group."""
    with nothing_left(tmp_path):
        yield


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small disk of its own, which only root may have, be it of a user namespace only."""
    if os.geteuid() != 0:
        run_again_as_root(request.node.nodeid, tmp_path)
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "titan-test", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        skip_unless_ci(f"this root may not mount: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
