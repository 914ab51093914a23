"""`make chaos`: a real cluster under load, faults from a seed, then the judge. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from titan import Client
from titan.errors import TitanError
from tools.chaos.breaker import FILLER, Breaker
from tools.chaos.cluster import Cluster, mount_disk, unmount_disk
from tools.chaos.evidence import END, LOG, EvidenceError, read_evidence
from tools.chaos.faults import draw_faults
from tools.chaos.judge import judge, tell_story, tell_verdict
from tools.chaos.processes import REPOSITORY, ChaosError, find_processes, send
from tools.chaos.users import Users, find_missing

USER_COUNT: Final = 4
# Within this after the last fault everything has ended and is well again.
SETTLE_SECONDS: Final = 120.0
# What is on its way out when its server has ended.
LEAVE_SECONDS: Final = 30.0
STORY_LINES_MAX: Final = 120
_DISK_BYTES: Final = 48 << 20
_DISK_BYTES_A_MINUTE: Final = 12 << 20
# Says that this process has its mounts for itself.
_OWN_MOUNTS: Final = "TITAN_CHAOS_MOUNTS"


class Run:
    """One run, in one directory."""

    def __init__(self, root: Path, given: argparse.Namespace, disk: Path | None) -> None:
        self._root = root
        self._seed: int = given.seed
        self._seconds: float = given.minutes * 60
        self._disk = disk
        self._faults = draw_faults(
            given.seed,
            seconds=self._seconds,
            workers=[f"w{number}" for number in range(1, given.workers + 1)],
            timeout_seconds=given.timeout,
            has_disk=disk is not None,
        )
        self.cluster = Cluster(root, given.workers, given.timeout, given.seed, disk)
        self.breaker = Breaker(self.cluster, disk, root / "faults.jsonl")
        self._users = Users(
            root, self.cluster.environment,
            manager=self.cluster.for_clients, seed=given.seed, count=USER_COUNT,
            options=("--access", str(self.cluster.access)),
        )  # fmt: skip
        self._unsettled: list[str] = []
        self._orphans: list[str] = []

    def perform(self) -> None:
        """Load and faults, then the end of both. Raises ChaosError."""
        self.cluster.start()
        self._users.start()
        self.breaker.run(self._faults, self._seconds)
        say("the faults have stopped: everything has to end and to be well again")
        deadline = time.monotonic() + SETTLE_SECONDS
        unanswered, failed = self._users.stop(self.breaker.watch, deadline)
        self._unsettled += unanswered
        self.breaker.trouble += failed
        self._settle(deadline)
        self._dump()
        self._orphans += [
            f"process {each.pid} of a task is still there: {each.command}"
            for each in find_processes(self._root)
            if each.is_task
        ]
        self._unsettled += self.cluster.stop()
        self._orphans += self._find_left()

    def write_end(self) -> None:
        """What the judge is told besides."""
        boot_time = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        end = {
            "boot_time": boot_time,
            "trouble": self.breaker.trouble,
            "unsettled": self._unsettled,
            "orphans": self._orphans,
        }
        (self._root / END).write_text(json.dumps(end))

    def close(self) -> None:
        """Ends everything, however far it came."""
        self._users.close()
        self.cluster.end_all()
        self.breaker.close()

    def _settle(self, deadline: float) -> None:
        """Until everything has ended and all workers are there; else says what is missing."""
        missing = ["the manager does not answer"]
        with Client(
            self.cluster.direct, access_file=self.cluster.access, retry_for_seconds=1
        ) as client:
            while missing and time.monotonic() < deadline:
                self.breaker.watch()
                time.sleep(0.2)
                with suppress(TitanError):
                    missing = find_missing(client, self.cluster.workers, self._root)
        self._unsettled += missing

    def _dump(self) -> None:
        with (self._root / LOG).open("wb") as file:
            command = [sys.executable, "-m", "titan.cli", "wal", "dump"]
            done = subprocess.run(
                [*command, str(self.cluster.manager_directory)],
                env=self.cluster.environment,
                stdout=file,
                stderr=subprocess.PIPE,
                cwd=REPOSITORY,
                check=False,
            )
        if done.returncode:
            raise ChaosError(f"the log was not read: {done.stderr.decode().strip()}")

    def _find_left(self) -> list[str]:
        """Of all that was started nothing may be there after its servers were ended."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while (left := find_processes(self._root)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for each in left:
            send(each.pid, signal.SIGKILL)
        return [f"process {each.pid} outlived its server: {each.command}" for each in left]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 when something was found, or 2 when nothing was tried."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, help="of the faults and of the load")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument(
        "--timeout", type=float, default=6.0, help="the manager's heartbeat timeout in seconds"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = secrets.randbelow(1_000_000)
    root = Path(tempfile.mkdtemp(prefix="titan-chaos-"))
    # Whoever ends it early leaves nothing either.
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Not for nohup(1), which is there so that it goes on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        code = _run(root, given)
    except KeyboardInterrupt:
        print(f"chaos: ended early; see {root}", file=sys.stderr)
        return 130
    except (ChaosError, EvidenceError, OSError) as error:
        print(f"chaos: {error}; see {root}", file=sys.stderr)
        return 2
    if code or given.keep:
        say(f"everything is in {root}")
    else:
        shutil.rmtree(root)
    return code


def _run(root: Path, given: argparse.Namespace) -> int:
    place = root / "disk"
    why_none = "only root can have a small one, where unshare(1) allows mounts of its own"
    if os.environ.get(_OWN_MOUNTS):
        size_bytes = _DISK_BYTES + int(given.minutes * _DISK_BYTES_A_MINUTE)
        why_none = mount_disk(place, size_bytes)
    disk = None if why_none else place
    say(
        f"seed {given.seed}, {given.minutes:g} minutes, {given.workers} workers, heartbeat timeout "
        f"{given.timeout:g} s, in {root}"
    )
    if why_none:
        say(f"no full disks: {why_none}")
    run = Run(root, given, disk)
    try:
        run.perform()
    finally:
        run.close()
        if disk is not None:
            _keep_log(run.cluster.manager_directory, root / "manager")
            unmount_disk(disk)
    run.write_end()
    return _report(root, given, run.breaker)


def _keep_log(directory: Path, copy: Path) -> None:
    """What the small disk held; `cp` keeps what was only reserved from being written."""
    with suppress(OSError):
        (directory.parent / FILLER).unlink(missing_ok=True)
    if directory.exists():
        subprocess.run(["cp", "-a", "--sparse=always", directory, copy], check=True)


def _report(root: Path, given: argparse.Namespace, breaker: Breaker) -> int:
    evidence = read_evidence(root)
    verdict = judge(evidence)
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(breaker.done.items()))
    print(f"seed {given.seed}, {given.minutes:g} minutes")
    print(f"faults: {breaker.done.total()}: {faults}")
    for line in tell_verdict(verdict):
        print(line)
    if not verdict.violations:
        return 0
    job_id = next((each.job_id for each in verdict.violations if each.job_id), 0)
    if job_id:
        print(f"the story of job {job_id}:")
        for line in [*tell_story(job_id, evidence)][:STORY_LINES_MAX]:
            print(f"  {line}")
    return 1


def say(text: str) -> None:
    """A line of progress."""
    print(f"== {text}", flush=True)


def run_with_own_mounts() -> None:
    """Root starts the tool again where its mounts are nobody else's, and end with it."""
    unshare = shutil.which("unshare")
    if os.environ.get(_OWN_MOUNTS) or os.geteuid() != 0 or unshare is None:
        return
    alone = [unshare, "--mount", "--propagation", "private"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        return
    command = [*alone, sys.executable, "-m", "tools.chaos", *sys.argv[1:]]
    os.execve(unshare, command, {**os.environ, _OWN_MOUNTS: "1"})


if __name__ == "__main__":
    run_with_own_mounts()
    sys.exit(main())
