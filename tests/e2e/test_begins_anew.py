"""A manager that begins anew: a new process in the place of the one before, and nothing of that."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster import DEADLINE_SECONDS, wait_until
from tests.postgresql import PostgreSQL, find_or_start
from tests.several import Manager, SeveralManagers
from tools.chaos.processes import descendants


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    server = find_or_start()
    yield server
    server.close()


@pytest.fixture
def several(tmp_path: Path, postgresql: PostgreSQL) -> Iterator[SeveralManagers]:
    # Leaders step down here, and none is to lose its lease because it stood still for a moment.
    with SeveralManagers(
        tmp_path / "cluster", postgresql.make_database(), lease_seconds=30
    ) as cluster:
        yield cluster


def helpers(pid: int) -> Counter[str]:
    """The programs that it runs beside, by module."""
    found: Counter[str] = Counter()
    for each in descendants(pid):
        # One may have ended by now.
        with suppress(FileNotFoundError, ProcessLookupError):
            words = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
            found[words[words.index(b"-m") + 1].decode() if b"-m" in words else str(words)] += 1
    return found


def descriptors(manager: Manager) -> Counter[str]:
    """What it has open: sockets and the like by their kind, files by their names."""
    found: Counter[str] = Counter()
    for each in Path(f"/proc/{manager.server.process.pid}/fd").iterdir():
        # One may be closed by now.
        with suppress(FileNotFoundError):
            target = Path(os.readlink(each))
            name = target.name if target.is_absolute() else str(target).partition(":")[0]
            found["its log" if target == manager.server.log_path else name] += 1
    return found


def blocks(pid: int, number: signal.Signals) -> bool:
    """Whether its first thread does."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
    return bool(mask & 1 << (number - 1))


def tell_to_step_down(several: SeveralManagers) -> None:
    """As soon as it is known that there is another one."""
    wait_until(lambda: several.titan("manager", "step-down").returncode == 0, "it steps down")


def step_down(several: SeveralManagers, leader: Manager) -> Manager:
    """The leader lets another one lead; returns that one once both are what they are."""
    tell_to_step_down(several)
    successor = several.wait_leader(leader)
    wait_stands_by_again(leader)
    return successor


def wait_stands_by_again(manager: Manager) -> None:
    """After each of its terms there is another process, which loads all anew."""
    wait_until(
        lambda: count(manager, "standing by") > count(manager, "takes over"),
        "it stands by",
    )


def count(manager: Manager, text: str) -> int:
    return manager.server.log.count(text)


def test_it_leaves_nothing_of_the_one_before(several: SeveralManagers) -> None:
    def start(name: str) -> Manager:
        return several.start(name, "--history", f"sqlite:///{several.root / name}.sqlite")

    for name in ("a", "b"):
        start(name)
    leader = several.wait_leader()
    pid = leader.server.process.pid
    other = step_down(several, leader)
    assert step_down(several, other) is leader
    assert step_down(several, leader) is other
    assert leader.server.process.pid == pid
    # What one has that stands by, and never was another.
    fresh = start("c")
    wait_until(lambda: count(fresh, "standing by"), "a third one stands by")
    wait_until(
        lambda: helpers(pid) == helpers(fresh.server.process.pid) != Counter(), "its helpers run"
    )
    wait_until(lambda: descriptors(leader) == descriptors(fresh), "it has open what others have")
    # It blocks all of them for the moment in which it starts another process.
    wait_until(lambda: not blocks(pid, signal.SIGTERM), "it can be told to stop")
    leader.server.process.terminate()
    assert leader.server.process.wait(DEADLINE_SECONDS) == 0


def test_it_is_started_as_it_was_by_a_relative_path(several: SeveralManagers) -> None:
    """By the interpreter of the same environment, whatever $PATH leads to."""
    python = Path(sys.executable)
    # The first word is the interpreter, by its whole path.
    relative = f'cd {python.parent.parent} && shift && exec bin/{python.name} "$@"'
    leader = several.start("a", under=("sh", "-c", relative, "sh"))
    assert several.wait_leader() is leader
    several.start("b")
    tell_to_step_down(several)
    wait_stands_by_again(leader)
    assert leader.server.process.poll() is None


def test_one_that_is_stopped_while_it_begins_anew_stops(several: SeveralManagers) -> None:
    for name in ("a", "b"):
        several.start(name)
    leader = several.wait_leader()
    tell_to_step_down(several)
    wait_until(lambda: count(leader, "the manager begins anew"), "it begins anew")
    leader.server.process.terminate()
    assert leader.server.process.wait(DEADLINE_SECONDS) == 0
    assert count(leader, "the manager stopped") == 1
