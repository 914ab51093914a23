"""What of the pages needs no browser."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cluster import REPOSITORY
from tools.bundle import get_node


def test_words_indexes_and_lanes_are_what_they_should_be(bundled: Path) -> None:
    assert bundled.is_dir()
    node = get_node()
    done = subprocess.run(
        [node.directory / "node", "test.mjs"],
        cwd=REPOSITORY / "titan/web/frontend",
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout
