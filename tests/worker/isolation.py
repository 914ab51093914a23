"""What tests of isolated tasks need of the machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.crash.small_disk import skip_unless_ci
from tests.worker.host_driver import is_running
from titan.worker.host.sandbox import Sandboxes


def require_root() -> None:
    """Only root can become others: without it the test is skipped, and fails in CI."""
    if os.geteuid() != 0:
        skip_unless_ci("only root can run tasks as other accounts")


def require_bubblewrap() -> None:
    """The same without a bwrap that works."""
    if shutil.which("bwrap") is None:
        skip_unless_ci("bwrap is not installed (Debian: apt-get install bubblewrap)")
    found = Sandboxes.find()
    if found is None:
        skip_unless_ci("bwrap cannot make a sandbox here: the log says why")
    else:
        found.close()


def find(marker: str) -> list[int]:
    """The processes that run with that word."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_running(int(entry.name)):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in words:
                pids.append(int(entry.name))
    return pids
