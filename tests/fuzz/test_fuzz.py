"""One round of `make fuzz`: each kind of call and of bytes, with the same seed each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster import REPOSITORY

IDLE = 300
SECONDS_MAX = 240


def test_a_manager_and_a_worker_answer_or_drop_whatever_comes_and_serve_the_honest_user(
    tmp_path: Path,
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", "--seed", "8", "--minutes", "0", "--idle", str(IDLE)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 found, seed 8" in run.stdout
    # It was not spared: every part of the round was there.
    for told in ("every-rpc", "rapid-reset", "continuation-flood", "unfinished messages", "honest"):
        assert told in run.stdout
    assert not list(tmp_path.iterdir())
