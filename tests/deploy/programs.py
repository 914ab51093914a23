"""Programs of the machine that these tests want; without them they are skipped, loudly."""

from __future__ import annotations

import os
import shutil

import pytest


def find_program(name: str, package: str) -> str:
    """Its path. In CI there has to be one."""
    found = shutil.which(name)
    if found is None:
        why = f"NOT TESTED: there is no {name}; apt-get install {package}"
        assert not os.environ.get("TITAN_CI"), why
        pytest.skip(why)
    return found
