"""What tests of isolated tasks need of the machine."""

from __future__ import annotations

import os
import shutil

from tests.crash.small_disk import skip_unless_ci
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
