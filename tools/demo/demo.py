"""The demonstration: real work, the manager killed in the middle of it, and nothing lost.

It starts a manager and two workers of 2 cpus in a temporary directory, submits an array
that hashes and compresses 60 files of Python's standard library and a few longer jobs
beside it, kills the manager with SIGKILL half way, starts it again on the same directory,
and then checks everything against what it computes itself. Exits 1 if anything differs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.demo.task import process

FILES = 60
LONG_JOBS = 3
LONG_SECONDS = 14
# How long the manager stays away: long enough for tasks to end meanwhile.
AWAY_SECONDS = 3.0
DEADLINE_SECONDS = 100.0


class DemoFailed(Exception):
    """Something is not as it must be."""


class Demo:
    """One run, in one temporary directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.results.mkdir()
        self.manager_directory = folder / "manager"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self.environment.pop("TITAN_MANAGER", None)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.listen = "127.0.0.1:0"

    def titan(self, *arguments: str) -> str:
        """Runs a command of the CLI and returns what it printed."""
        ran = subprocess.run(
            [sys.executable, "-m", "titan.cli", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=DEADLINE_SECONDS,
        )
        return ran.stdout.decode()

    def show(self, *arguments: str, last_lines: int = 100) -> None:
        """Shows a command and what it prints."""
        print(f"$ titan {shlex.join(arguments)}")
        for line in self.titan(*arguments).splitlines()[-last_lines:]:
            print(f"  {line[:150]}")

    def json(self, *arguments: str) -> Any:
        """What a command answers with --json."""
        return json.loads(self.titan("--json", *arguments))

    def start(self, name: str, *arguments: str) -> None:
        """Starts a server of Titan; what it logs goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "titan.cli", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start_manager(self) -> None:
        """Starts the manager and waits until it answers."""
        access = self.manager_directory / "access.json"
        self.start(
            "manager", "manager",
            "--data-dir", str(self.manager_directory), "--listen", self.listen,
        )  # fmt: skip
        wait_for("the manager's access token", access.exists)
        self.listen = json.loads(access.read_text())["address"]
        self.environment["TITAN_MANAGER"] = self.listen
        wait_for("the manager", self.answers)

    def answers(self) -> bool:
        """Whether there is a manager."""
        ran = subprocess.run(
            [sys.executable, "-m", "titan.cli", "stats"],
            env=self.environment,
            capture_output=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        return ran.returncode == 0

    def start_workers(self) -> None:
        """Starts two workers and waits until they have called in."""
        for name in ("w1", "w2"):
            self.start(
                name, "worker", "--name", name, "--cpus", "2",
                "--data-dir", str(self.folder / name),
            )  # fmt: skip
        wait_for(
            "two healthy workers",
            lambda: [each["state"] for each in self.json("workers")] == ["HEALTHY"] * 2,
        )

    def stop(self) -> None:
        """Stops what it started: workers take their leave, so no task host stays."""
        for name, number in (("w1", signal.SIGINT), ("w2", signal.SIGINT), ("manager", 15)):
            process = self.processes.pop(name, None)
            if process is not None and process.poll() is None:
                process.send_signal(number)
                process.wait(timeout=20)

    def run(self) -> None:
        """The whole story. Raises DemoFailed."""
        files = choose_files()
        listing = self.folder / "files"
        listing.write_text("".join(f"{path}\n" for path in files))
        say("Starting a manager and two workers of 2 cpus")
        self.start_manager()
        self.start_workers()
        self.show("workers")

        say(f"Submitting {LONG_JOBS} longer jobs, and {FILES} tasks as one array")
        task = str(Path(__file__).with_name("task.py"))
        long_jobs = [self.submit_long(number) for number in range(LONG_JOBS)]
        array = self.json(
            "submit", "--name", "compress", "--array", f"0-{FILES - 1}",
            sys.executable, task, str(listing), str(self.results),
        )["job_id"]  # fmt: skip
        wait_for("a third of the tasks", lambda: self.count_completed(array) >= FILES // 3)
        self.show("queue")

        killed = time.time()
        say(f"kill -9 of the manager (process {self.processes['manager'].pid})")
        self.processes["manager"].kill()
        self.processes.pop("manager").wait()
        time.sleep(AWAY_SECONDS)
        say("Starting it again on the same directory")
        self.start_manager()
        back = time.time()
        self.show("queue")
        self.titan("wait", str(array), *map(str, long_jobs))

        say("Everything has ended; checking it")
        self.check(array, long_jobs, files)
        self.check_ran_on(killed, back)
        self.show("queue", "--all")
        self.show("workers")
        self.show("wal", "dump", str(self.manager_directory), last_lines=6)
        stats = self.json("stats")
        say(
            f"The manager was back with all its jobs after {stats['recovery_seconds'] * 1000:.1f} "
            f"ms of replay ({stats['recovered_records']} records)"
        )

    def submit_long(self, number: int) -> int:
        """A job that writes down every second that it is alive."""
        script = f"for i in $(seq {LONG_SECONDS}); do date +%s.%N; sleep 1; done"
        job: int = self.json(
            "submit", "--name", f"long-{number}", "--cpus", "0.5", "--shell", script
        )["job_id"]  # fmt: skip
        return job

    def count_completed(self, job_id: int) -> int:
        """How many tasks of the job are COMPLETED."""
        count: int = self.json("show", str(job_id))["tasks"]["completed"]
        return count

    def check(self, array: int, long_jobs: list[int], files: list[Path]) -> None:
        """Every task COMPLETED once, by the log, by the files and by their content."""
        for job_id in (array, *long_jobs):
            job = self.json("show", str(job_id))
            require(job["state"] == "COMPLETED", f"job {job_id} is {job['state']}")
        ends = Counter(
            (event["job_id"], event["index"])
            for event in self.events()
            if event["event"] == "AttemptEnded" and event["task_state"] == "COMPLETED"
        )
        expected = {(array, index) for index in range(FILES)} | {(each, 0) for each in long_jobs}
        require(set(ends) == expected, "the log does not know every task as COMPLETED")
        require(set(ends.values()) == {1}, "the log has a task that ended twice")
        runs = Counter((self.results / "runs").read_text().split())
        require(set(runs.values()) == {1} and len(runs) == FILES, f"tasks ran twice: {runs}")
        print(f"  {len(ends)} tasks COMPLETED, each exactly once")
        for index, path in enumerate(files):
            result = json.loads((self.results / f"{index}.json").read_text())
            require(result == process(path), f"the result for {path} differs: {result}")
        print(f"  {FILES} results equal to those computed here without Titan")

    def check_ran_on(self, killed: float, back: float) -> None:
        """Names the tasks that ended, or wrote, while there was no manager."""
        ended = [
            event
            for event in self.events()
            if event["event"] == "AttemptEnded" and killed < event["end_us"] / 1e6 < back
        ]
        require(bool(ended), "no task ended while the manager was away")
        names = ", ".join(f"{event['job_id']}.{event['index']}" for event in ended)
        print(
            f"  {len(ended)} tasks ended while the manager was away, and were told later: {names}"
        )
        beats = [float(line) for line in self.titan("logs", "name:long-0").split()]
        alive = sum(killed < beat < back for beat in beats)
        require(alive > 0 and len(beats) == LONG_SECONDS, "a long job did not run on")
        print(f"  long-0 wrote {alive} of its {LONG_SECONDS} lines meanwhile")

    def events(self) -> list[dict[str, Any]]:
        """The whole log."""
        dump = self.titan("wal", "dump", str(self.manager_directory))
        return [json.loads(line) for line in dump.splitlines()]


def choose_files() -> list[Path]:
    """The first of the standard library's larger modules, by name."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in library.glob("*.py") if path.stat().st_size > 10_000)
    require(len(files) >= FILES, f"there are too few files in {library}")
    return files[:FILES]


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Waits until it holds. Raises DemoFailed at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        require(time.monotonic() < deadline, f"waited in vain for {what}")
        time.sleep(0.1)


def require(holds: bool, otherwise: str) -> None:
    """Raises DemoFailed unless it holds."""
    if not holds:
        raise DemoFailed(otherwise)


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


def main() -> int:
    """Runs the demonstration and returns the exit code."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="titan-demo-") as folder:
        demo = Demo(Path(folder))
        try:
            demo.run()
        except (DemoFailed, subprocess.SubprocessError) as error:
            print(f"\nThe demonstration FAILED: {error}", file=sys.stderr)
            for log in sorted(Path(folder).glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            return 1
        finally:
            demo.stop()
    print(f"\nAll is well. This took {time.monotonic() - start:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
