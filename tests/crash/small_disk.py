"""A small disk of its own for a test, to be filled and emptied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

DISK_BYTES = 4 << 20
BLOCK_BYTES = 4096
UNSHARE = ("unshare", "--map-root-user", "--mount")


def run_again_as_root(test: str, directory: Path) -> None:
    """Runs that test alone in a user namespace, where this user is root."""
    has_unshare = shutil.which("unshare") is not None
    if not has_unshare or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        skip_unless_ci("only root can mount a small disk, and user namespaces are not allowed")
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(directory / "again")]
    command = [*UNSHARE, sys.executable, "-m", "pytest", *options, test]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    pytest.skip("passed as root of a user namespace")


def skip_unless_ci(why: str) -> None:
    """CI skips nothing."""
    assert not os.environ.get("TITAN_CI"), why
    pytest.skip(why)


def fill(disk: Path) -> None:
    """A file takes all the room that there is, to the last block."""
    with (disk / "filler").open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK_BYTES))
    assert os.statvfs(disk).f_bavail == 0


def fill_up_to(disk: Path, free_bytes: int) -> None:
    """Another file leaves so much, or a block less."""
    left = os.statvfs(disk).f_bavail * BLOCK_BYTES
    with (disk / "filler").open("ab", buffering=0) as file:
        file.write(bytes(max(left - free_bytes, 0)))


def give_back(disk: Path, blocks: int) -> None:
    """The file becomes smaller by so much."""
    path = disk / "filler"
    os.truncate(path, path.stat().st_size - blocks * BLOCK_BYTES)
