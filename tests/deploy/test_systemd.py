"""The units: systemd reads them, and they say what keeps tasks alive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, units
from tests.deploy.programs import find_program

# Of systemd-analyze security, in tenths: what is below is called OK.
EXPOSURE_MAX = 20


@pytest.fixture
def here(tmp_path: Path) -> list[Path]:
    """The units with the program of this environment, which systemd looks for."""
    program = Path(sys.executable).parent / "titan"
    paths = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        copy = tmp_path / path.name
        copy.write_text(path.read_text().replace("/opt/titan/bin/titan", str(program)))
        paths.append(copy)
    return paths


def test_systemd_has_nothing_to_say_of_them(here: list[Path]) -> None:
    assert len(here) == 3
    done = subprocess.run(
        [find_program("systemd-analyze", "systemd"), "verify", "--man=no", *here],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # It tells of units of this machine, too.
    said = [line for line in done.stdout.splitlines() if "titan" in line]
    assert not said
    assert done.returncode == 0, done.stdout


def test_systemd_would_say_of_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "titan-wrong.service"
    path.write_text("[Service]\nExecStart=/bin/true\nKilMode=process\n")
    done = subprocess.run(
        [find_program("systemd-analyze", "systemd"), "verify", "--man=no", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "KilMode" in done.stderr


def test_manager_and_pages_are_locked_in(here: list[Path]) -> None:
    for path in here:
        if "worker" not in path.name:
            subprocess.run(
                [
                    *(
                        find_program("systemd-analyze", "systemd"),
                        "security",
                        "--offline=true",
                        "--no-pager",
                    ),
                    *(f"--threshold={EXPOSURE_MAX}", path),
                ],
                stdout=subprocess.DEVNULL,
                check=True,
            )


def test_tasks_outlive_a_restart_of_their_agent() -> None:
    worker = dict(units()["titan-worker.service"])
    assert worker["KillMode"] == "process"
    assert worker["Delegate"] == "yes"
    assert worker["OOMPolicy"] == "continue"
    # Their /tmp would be another one than that of those who started before.
    assert "PrivateTmp" not in worker


def test_all_are_started_again_for_ever() -> None:
    for unit in map(dict, units().values()):
        assert unit["Restart"] == "always"
        assert unit["StartLimitIntervalSec"] == "0"
        assert unit["RestartPreventExitStatus"] == "2", "a usage error"
