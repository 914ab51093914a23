"""promtool and Prometheus themselves, for tests; without them they are skipped, loudly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def find_program(name: str) -> str:
    """Its path. Skips, loudly, where there is none; in CI there has to be one."""
    found = shutil.which(name)
    if found is None:
        why = f"NOT TESTED WITH PROMETHEUS: there is no {name}; apt-get install prometheus"
        assert not os.environ.get("TITAN_CI"), why
        pytest.skip(why)
    return found


def promtool(*arguments: str | Path, stdin: str = "") -> str:
    """What it says, all of it; it must be content, and have nothing to complain of."""
    done = subprocess.run(
        [find_program("promtool"), *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def scrape(url: str) -> str:
    """The text of a scrape."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def values(text: str) -> dict[str, float]:
    """The samples of a scrape by name and labels, as they are written."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """What a Prometheus there says of an expression now."""
    wanted = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{wanted}", timeout=60) as answer:
        said = json.load(answer)
    assert said["status"] == "success", said
    found: list[dict[str, Any]] = said["data"]["result"]
    return found
