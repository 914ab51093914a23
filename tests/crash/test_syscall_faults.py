"""Every call that changes a manager's files fails, or is where it is killed: nothing is lost.

In each scene strace counts the calls, and then bends the Nth one, for every N: with `make
soak-faults`; `make test` takes a few of them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.cluster import Cluster, Server, wait_until
from tests.crash import strace
from tests.crash.recovered import check_every_way_leads_to_the_same_state
from tests.crash.strace import Call, Fault
from titan import Client, NoRoom
from titan.errors import ManagerUnreachable
from titan.rpc import tokens
from titan.snapshots import take_snapshot

IS_SOAK = bool(os.environ.get("TITAN_FAULTS"))
AT_ONCE = 2
EXIT_BROKEN = 70
OLD_JOBS = 6
# The numbers in the names of segments and snapshots stay below this.
LSN_MAX = 100

NO_SNAPSHOT = ("--snapshot-every", "1G")
SMALL = ("--segment-size", "4K")
LARGE = ("--segment-size", "64K")
KEEP_ALL = ("--retain", "1h")
KEEP_LITTLE = ("--retain", "0s")


class Scene(NamedTuple):
    """A part of a manager's life in which calls fail."""

    options: tuple[str, ...]
    files: str
    """Calls on which files, see `find_files`."""
    is_new: bool = False
    """There is no directory yet."""
    is_attached: bool = False
    """Only what happens once the manager is ready."""
    submits: int = 0
    submit_bytes: int = 1000
    until: tuple[str, ...] = ()
    """It is over when one of these stands in the log."""
    victim: str = "manager"


SCENES: Final = {
    "first start": Scene((*SMALL, *NO_SNAPSHOT, *KEEP_ALL), "all", is_new=True, submits=2),
    "next start": Scene((*SMALL, *NO_SNAPSHOT, *KEEP_ALL), "all", submits=2),
    "writing": Scene((*SMALL, *NO_SNAPSHOT, *KEEP_ALL), "log", is_attached=True, submits=8),
    # None is due before the jobs of the scene are there: it would be taken before strace looks.
    "snapshot": Scene(
        (*LARGE, "--snapshot-every", "16K", *KEEP_ALL),
        "snapshots",
        is_attached=True,
        submits=3,
        submit_bytes=10_000,
        until=("a snapshot was taken", "no snapshot came of it"),
        victim="snapshotter",
    ),
    "tidying": Scene(
        (*LARGE, *NO_SNAPSHOT, *KEEP_LITTLE),
        "superfluous",
        until=("tidied up", "could not tidy up"),
    ),
    "tidying the log": Scene(
        (*LARGE, *NO_SNAPSHOT, *KEEP_LITTLE),
        "log directory",
        until=("tidied up", "could not tidy up"),
    ),
}

# Each call once at least; what goes on behind the fault differs.
SAMPLE: Final = (
    ("first start", Fault("write", 1, "ENOSPC")),
    ("first start", Fault("rename", 2, "KILL")),
    ("next start", Fault("fsync", 1, "EIO")),
    ("writing", Fault("fdatasync", 2, "EIO")),
    ("writing", Fault("pwrite", 3, "ENOSPC")),
    ("writing", Fault("fallocate", 1, "ENOSPC")),
    ("writing", Fault("ftruncate", 1, "EIO")),
    ("writing", Fault("rename", 1, "KILL")),
    ("snapshot", Fault("fsync", 1, "EIO")),
    ("snapshot", Fault("rename", 1, "KILL")),
    ("tidying", Fault("unlink", 1, "KILL")),
    ("tidying the log", Fault("fsync", 2, "EIO")),
)
assert {fault.call for _, fault in SAMPLE} == set(strace.CALLS)


@dataclass
class Run:
    """What came of a scene."""

    scene: Scene
    fault: Fault | None
    cluster: Cluster
    output: Path
    exit_code: int = 0
    """Of the manager, by itself or when it was asked to stop."""
    was_ready: bool = False
    was_stopped: bool = False
    log: str = ""
    hits: list[Call] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """What must not be there."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of a killed manager: segments, three snapshots, a frame half written."""
    with Cluster(tmp_path_factory.mktemp("written") / "cluster") as cluster:
        cluster.start_manager(*SMALL, *NO_SNAPSHOT, *KEEP_ALL)
        directory = cluster.manager_directory
        with cluster.client() as client:
            for part in range(4):
                for number in range(OLD_JOBS):
                    submit(client, f"old-{part}-{number}", 1000)
                if part < 3:
                    assert take_snapshot(directory, print, left_free_bytes=0)
        cluster.kill_manager()
        last = max((directory / "wal").glob("*.wal"))
        content = last.read_bytes().rstrip(b"\0")
        last.write_bytes(content + b"\xf5WFR" + b"half a frame")
        return directory


@pytest.mark.timeout(3600 if IS_SOAK else 600)
def test_no_call_that_fails_or_is_the_last_one_loses_a_job(tmp_path: Path, written: Path) -> None:
    strace.require_strace()
    faults = count_faults(tmp_path, written) if IS_SOAK else list(SAMPLE)
    check_all(tmp_path, written, faults, must_hit=not IS_SOAK)


def count_faults(root: Path, written: Path) -> list[tuple[str, Fault]]:
    """Every fault that there can be in any scene."""
    faults = []
    for name in SCENES:
        run = play(root / name.replace(" ", "-"), written, name, None)
        numbers = strace.find_numbers(run.output)
        print(f"{name}: {numbers}", flush=True)
        faults += [(name, fault) for fault in strace.list_faults(numbers)]
    return faults


def check_all(
    root: Path, written: Path, faults: list[tuple[str, Fault]], *, must_hit: bool
) -> None:
    """Plays them all, some at once, and tells of all that went wrong."""
    start = time.monotonic()
    endings: Counter[str] = Counter()

    def check(number: int) -> str:
        name, fault = faults[number]
        try:
            run = play(root / f"run-{number}", written, name, fault)
            ending = check_run(run, must_hit=must_hit)
        except Exception as error:  # noqa: BLE001  (all of them are told at the end)
            return f"{name}, {' '.join(map(str, fault))} ({root}/run-{number}): {error}"
        endings[f"{name}: {ending}"] += 1
        shutil.rmtree(root / f"run-{number}")
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        errors = [error for error in pool.map(check, range(len(faults))) if error]
    print(f"{len(faults)} faults in {time.monotonic() - start:.0f} s")
    for ending, count in sorted(endings.items()):
        print(f"{count:5} {ending}")
    assert not errors, "\n\n".join(errors)


def play(root: Path, written: Path, name: str, fault: Fault | None) -> Run:
    """A scene with a fault, to the end of its manager."""
    scene = SCENES[name]
    with Cluster(root) as cluster:
        if not scene.is_new:
            shutil.copytree(written, cluster.manager_directory)
        run = Run(scene, fault, cluster, root / "strace.out")
        files = find_files(cluster.manager_directory, scene.files)
        options = strace.make_options(run.output, files, fault)
        server = start(run, options)
        run.was_ready = wait_ready(server)
        if run.was_ready and scene.is_attached:
            cluster.spawn_other("strace", *options, "-p", str(server.pid)).wait_log("attached")
        if run.was_ready:
            if "the access token was not written" in server.log:
                server.wait_log("the access token is written now")
            submit_all(run, server)
            wait_until(
                lambda: (
                    server.process.poll() is not None
                    or not scene.until
                    or any(text in server.log for text in scene.until)
                ),
                f"{scene.until} in {server.log_path}",
            )
            run.was_stopped = server.process.poll() is None
            server.process.terminate()
        run.exit_code = server.process.wait(60)
        run.log = server.log
        wait_until(lambda: strace.has_ended(run.output, server.pid), "strace has seen the end")
    if fault is not None:
        run.hits = strace.find_hits(run.output, fault)
    return run


def start(run: Run, options: list[str]) -> Server:
    """The manager; strace, if it is there from the start, is its grandchild and not in its way."""
    if run.scene.is_attached:
        return run.cluster.spawn_manager(*run.scene.options)
    if run.fault is None or run.fault.effect != "KILL":
        options = ["--seccomp-bpf", *options]  # Much faster, but then it sends no signals.
    # The names of temporary files have the process's number in them.
    names = ""
    if run.scene.files == "all":
        directory = run.cluster.manager_directory
        names = " ".join(f"-P '{directory}/.{name}.json.'$$" for name in ("titan", "access"))
    under = ("sh", "-c", f'exec strace -D {names} "$@"', "sh", *options)
    return run.cluster.spawn_manager(*run.scene.options, under=under)


def find_files(directory: Path, which: str) -> list[Path]:
    """Those that are there and those that will be."""
    log, snapshots = directory / "wal", directory / "snapshots"
    segments = [log / f"{lsn:020d}.wal" for lsn in range(1, LSN_MAX)]
    names = [snapshots / f"{lsn:020d}.snapshot" for lsn in range(1, LSN_MAX)]
    files = {
        "log": [log, log / "next.tmp", log / "durable", *segments],
        "snapshots": [snapshots, snapshots / "lock", snapshots / "snapshot.tmp", *names],
        "superfluous": [snapshots, *names, *sorted(log.glob("*.wal"))[:-1]],
        "log directory": [log],
    }
    torn = [log / f"torn-{lsn:020d}-1" for lsn in range(1, LSN_MAX)]
    own = [directory / name for name in ("", "lock", "titan.json", "access.json")]
    files["all"] = [*own, *files["log"], *torn, *files["snapshots"]]
    return files[which]


def wait_ready(server: Server) -> bool:
    """Whether it serves; False: it has ended."""
    return (
        wait_until(
            lambda: "the manager is ready" in server.log or server.process.poll() is not None,
            f"a start, {server.log_path}",
        )
        and "the manager is ready" in server.log
    )


def submit_all(run: Run, server: Server) -> None:
    """One after the other, until the manager has ended; each makes one job at most."""
    with run.cluster.client(retry_for_seconds=0) as client:
        for number in range(run.scene.submits):
            name = f"new-{number}"
            try:
                run.answered[name] = wait_until(partial(submit_once, run, server, client, name))
            except NoRoom:
                run.refused.add(name)
            except ManagerUnreachable:
                return


def submit_once(run: Run, server: Server, client: Client, name: str) -> int:
    """The job's number; 0: a manager that still runs did not answer, and is to be asked again.

    That it has a second for its answer, a busy machine may make too little. Raises NoRoom,
    ManagerUnreachable once it has ended.
    """
    has_ended = server.process.poll() is not None
    try:
        return submit(client, name, run.scene.submit_bytes)
    except ManagerUnreachable:
        if has_ended:
            raise
        return 0


def submit(client: Client, name: str, size_bytes: int) -> int:
    """A job that no worker takes."""
    command = ["true", "x" * size_bytes]
    # The same request makes no second job.
    return client.submit(command, name=name, export=[], request_id=name).id


def check_run(run: Run, *, must_hit: bool) -> str:
    """How the manager ended, and that all that was answered is there at the next start."""
    if not run.hits:
        assert not must_hit, "it was never hit"
        return "never hit"
    ending = check_ending(run)
    check_next_start(run)
    return ending


def check_ending(run: Run) -> str:
    """The manager ended as it should after such a fault; says how that was."""
    fault, texts = run.fault, [hit.text for hit in run.hits]
    assert fault is not None
    what = f"exit code {run.exit_code} after {'; '.join(texts)}\n{run.log}"
    assert "Traceback" not in run.log, what
    if run.scene.victim == "manager" and fault.effect == "KILL":
        assert run.exit_code == -9, what
        return "killed"
    # The data directory is synced for the log's name, and for what lies beside the log.
    is_log = any("/wal" in text or "/snapshots" in text for text in texts)
    is_log = is_log or "CRITICAL the log failed" in run.log
    if run.scene.victim == "manager" and fault.call in strace.SYNCS and is_log:
        assert run.exit_code == EXIT_BROKEN, what
        assert "sync" in run.log.partition("CRITICAL")[2], what
        return f"stopped at a failed {fault.call}"
    if not run.was_ready:
        assert run.exit_code == 1, what
        assert "ERROR the manager does not run: " in run.log, what
        return "did not start"
    assert run.was_stopped, what
    assert run.exit_code == 0, what
    if run.refused:
        return "went on and refused for a while"
    if run.scene.victim == "snapshotter":
        return "took no snapshot" if "no snapshot came of it" in run.log else "took a snapshot"
    return "went on"


def check_next_start(run: Run) -> None:
    """Without strace everything is there again, under the same token, and nothing else is."""
    directory = run.cluster.manager_directory
    with Cluster(run.cluster.root / "again") as again:
        again.manager_directory = directory
        token = tokens.keep_or_draw_token(directory)
        if not run.scene.is_new:
            check_every_way_leads_to_the_same_state(directory)
        manager = again.start_manager(*run.scene.options)
        assert "damaged" not in manager.log
        assert "cannot be used" not in manager.log
        with again.client() as client:
            jobs = client.queue(all=True, limit=1000)
            numbers = [job["job_id"] for job in jobs]
            assert submit(client, "last", 1000) == max(numbers, default=0) + 1
        told = {job["name"]: job["job_id"] for job in jobs}
        assert len(told) == len(jobs)
        assert run.answered.items() <= told.items(), (run.answered, told)
        assert not run.refused & set(told)
        if not run.scene.is_new:
            assert len([name for name in told if name.startswith("old")]) == 4 * OLD_JOBS
            assert tokens.keep_or_draw_token(directory) == token
        assert manager.end() == 0, manager.log
        check_every_way_leads_to_the_same_state(directory)
        leftovers = [path.name for path in directory.iterdir() if path.name.startswith(".")]
        assert run.fault is None or run.fault.effect == "KILL" or not leftovers
