"""Every call that changes a task host's files fails, or is where it is killed: ends stay true.

As `test_syscall_faults.py` does it to a manager: `make soak-faults` has them all, `make test` some.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.crash import strace
from tests.crash.strace import Fault, list_faults
from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, wait_for
from titan.model import ReportKind, State
from titan.worker import directory, protocol
from titan.worker.messages import Report

IS_SOAK: Final = bool(os.environ.get("TITAN_FAULTS"))
CLUSTER: Final = b"C" * 16
TASKS: Final = 6
ACKNOWLEDGED: Final = 2
# Each call once at least; the first write and the rename are those of a start.
SAMPLE: Final = (
    Fault("write", 1, "ENOSPC"),
    Fault("rename", 1, "EIO"),
    Fault("rename", 1, "KILL"),
    Fault("write", 4, "EIO"),
    Fault("write", 4, "KILL"),
    Fault("write", 6, "KILL"),
    Fault("write", 7, "ENOSPC"),
)


class HostLife:
    """A host from its start to its end, one of whose calls is bent."""

    def __init__(self, path: Path, fault: Fault | None) -> None:
        path.mkdir()
        self.path = path
        self.ledger = path / "ledger"
        self.ledger.touch()
        self.output = path / "strace.out"
        self.host = HostDriver(path)
        self.told: dict[int, Report] = {}
        """How tasks ended, by what the agent was told."""
        self.acknowledged = 0
        files = [path, *(path / name for name in ("host.lock", "host.journal", "host.journal.new"))]
        options = strace.make_options(self.output, files, fault)
        if fault is None or fault.effect != "KILL":
            options = ["--seccomp-bpf", *options]
        self.host.start(under=("strace", "-D", *options))
        try:
            self._live()
        except (AssertionError, OSError):
            wait_for(lambda: self.exit_code is not None, "the end of a host that hung up")
        if self.exit_code is not None:
            pid = self.host.process.pid if self.host.process is not None else 0
            wait_for(lambda: strace.has_ended(self.output, pid), "strace to have seen the end")
        for report in self.host.reports:
            if report.kind is ReportKind.ENDED:
                self.told[report.key.index] = report

    @property
    def exit_code(self) -> int | None:
        assert self.host.process is not None
        return self.host.process.poll()

    def _live(self) -> None:
        """Runs its tasks, two at once; of the first ones the ends are acknowledged."""
        host = self.host
        assert wait_listening(host), "it has ended"
        host.connect()
        host.send(protocol.Cluster(CLUSTER))
        command = f"echo $TITAN_TASK_INDEX >> {self.ledger}; sleep 0.02"
        array = launch("sh", "-c", command, array_count=TASKS)
        host.send_batch(batch(array, indexes=range(TASKS), slots=2))
        for index in range(ACKNOWLEDGED):
            host.wait_end(key(index=index))
        seq = max(host.wait_end(key(index=index)).seq for index in range(ACKNOWLEDGED))
        host.send(protocol.Acknowledge(seq))
        self.acknowledged = seq
        for index in range(TASKS):
            host.wait_end(key(index=index))

    def ran(self) -> Counter[int]:
        """How often each task really ran."""
        return Counter(map(int, self.ledger.read_text().split()))


@pytest.mark.timeout(3600 if IS_SOAK else 600)
def test_no_call_that_fails_or_is_the_last_one_makes_an_end_untrue(tmp_path: Path) -> None:
    strace.require_strace()
    faults = list(SAMPLE)
    if IS_SOAK:
        life = HostLife(tmp_path / "counted", None)
        life.host.close()
        wait_for(lambda: life.exit_code is not None, "its end")
        numbers = strace.find_numbers(life.output)
        faults = list(list_faults(numbers))
        print(f"{numbers}: {len(faults)} faults")
    endings: Counter[str] = Counter()
    for number, fault in enumerate(faults):
        endings[check(tmp_path / str(number), fault, must_hit=not IS_SOAK)] += 1
    print(dict(endings))
    assert len(endings) > 2, "not all came to the same"


def check(path: Path, fault: Fault, *, must_hit: bool) -> str:
    """One life with that fault, and the next one: what became of it."""
    life = HostLife(path, fault)
    try:
        return _check(life, fault, must_hit=must_hit)
    except (AssertionError, OSError) as error:
        raise AssertionError(
            f"{' '.join(map(str, fault))}: {error!r}\n{life.host.log()}"
        ) from error
    finally:
        life.host.close()


def _check(life: HostLife, fault: Fault, *, must_hit: bool) -> str:
    hits = strace.find_hits(life.output, fault)
    if not hits:
        assert not must_hit, "it was never hit"
        return "never hit"
    assert "Traceback" not in life.host.log()
    ran = life.ran()
    assert all(times == 1 for times in ran.values()), ran
    for index, report in life.told.items():
        assert report.state is State.COMPLETED, report
        assert ran[index] == 1, report
    if life.exit_code is None:
        # A disk that fails does not end the tasks.
        assert sorted(life.told) == list(range(TASKS))
        assert "cannot write host.journal" in life.host.log()
        ending = "went on"
    elif fault.effect == "KILL":
        assert life.exit_code == -9
        ending = "killed"
    else:
        assert life.exit_code == 1
        assert not ran
        ending = "did not start"
    if life.exit_code is not None:
        check_next(life)
    return ending


def check_next(life: HostLife) -> None:
    """Another host starts there, tells again what was not acknowledged, and runs tasks."""
    host, told = life.host, life.told
    host.disconnect()
    welcome = wait_for(lambda: _start_again(host), "the next host")
    assert welcome.live == ()
    again = {each.key.index: each for each in welcome.reports if each.kind is ReportKind.ENDED}
    for index, report in told.items():
        if report.seq > life.acknowledged:
            assert index in again, f"the end of task {index} was told, and then forgotten"
    ran = life.ran()
    for index, report in again.items():
        assert report.state is State.COMPLETED, report
        assert ran[index] == 1, report
    if not welcome.cluster_id:
        host.send(protocol.Cluster(CLUSTER))
    host.run("true", job_id=2)
    assert host.wait_end(key(2)).state is State.COMPLETED
    assert life.ran() == ran, "a task of the dead host ran on"


def _start_again(host: HostDriver) -> protocol.Welcome | None:
    """Its welcome; None: as an agent would, try again.

    What was being spawned when the one before was killed has its lock until it executes a program.
    """
    host.start()
    if wait_listening(host):
        return host.connect()
    assert host.process is not None
    assert host.process.returncode == directory.EXIT_IN_USE, host.log()
    return None


def wait_listening(host: HostDriver) -> bool:
    """Whether the host comes up; False: it has ended."""
    process = host.process
    assert process is not None
    wait_for(lambda: process.poll() is not None or is_listening(host.path), "a start or an end")
    return process.poll() is None


def is_listening(path: Path) -> bool:
    with contextlib.suppress(OSError):
        directory.connect(path).close()
        return True
    return False
