"""One round of `make fuzz` each way: all kinds of calls and bytes, the same seed each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import REPOSITORY

IDLE = 300
SECONDS_MAX = 240


# Of every run, and of those with certificates alone.
PARTS = ("every-rpc", "rapid-reset", "continuation-flood", "unfinished messages", "honest")
TLS_PARTS = ("broken-hellos", "strangers", "begun-again", "by a worker", "by nobody", "within TLS")


# Besides what it takes to end and to be told of.
@pytest.mark.timeout(SECONDS_MAX + 60)
@pytest.mark.parametrize(
    ("options", "parts"),
    [((), PARTS), (("--tls",), (*PARTS, *TLS_PARTS))],
    ids=["access token", "certificates"],
)
def test_a_manager_and_a_worker_answer_or_drop_whatever_comes_and_serve_the_honest_user(
    tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    words = ["--seed", "8", "--minutes", "0", "--idle", str(IDLE), "--at-once", "3", *options]
    run = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", *words],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=SECONDS_MAX, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 found, seed 8" in run.stdout
    # It was not spared: every part of the round was there.
    for told in parts:
        assert told in run.stdout
    assert not list(tmp_path.iterdir())
