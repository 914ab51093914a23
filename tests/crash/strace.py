"""strace as the source of faults: it counts the calls of a process on some files, or bends one.

Each thread's calls are counted for themselves: the third fsync is the third one of a thread, and
may be met by more than one of them. See strace(1), `-e inject` and `-P`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

# Which of them there is depends on the machine; strace leaves out those with a question mark.
CALLS: Final = {
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "pwrite": "pwrite64",
    "write": "write",
    "rename": "?rename,?renameat,?renameat2",
    "unlink": "?unlink,?unlinkat",
    "ftruncate": "ftruncate",
    "fallocate": "fallocate",
}
# A killed process makes the call no more.
EFFECTS: Final = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "KILL": "signal=KILL"}
SYNCS: Final = ("fsync", "fdatasync")
# Those that need room on the disk.
WRITES: Final = ("pwrite", "write", "fallocate")

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_LINE = re.compile(r"(\d+) +([a-z0-9]+)\((.*)")
_CALL_OF = {name.lstrip("?"): call for call, names in CALLS.items() for name in names.split(",")}


class Fault(NamedTuple):
    """What is done to which call of a thread, counted from 1."""

    call: str
    number: int
    effect: str


class Call(NamedTuple):
    """A call as strace wrote it down."""

    thread: int
    call: str
    text: str


def require_strace() -> None:
    """Without a strace that can be used the test is skipped; it fails where nothing may be."""
    why = ""
    if shutil.which("strace") is None:
        why = "strace is not installed (Debian: apt-get install strace)"
    elif os.geteuid() != 0 and _YAMA.exists() and _YAMA.read_text().strip() != "0":
        why = f"this user's processes may not be traced (ptrace(2)): see {_YAMA}"
    elif subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode:
        why = "strace may not trace here"
    if why:
        assert not os.environ.get("TITAN_CI"), why
        pytest.skip(why)


def make_options(output: Path, files: Collection[Path], fault: Fault | None) -> list[str]:
    """What strace is given: calls on those files are written down, and one of them is bent."""
    watched = ",".join(CALLS.values() if fault is None else [CALLS[fault.call]])
    chosen = ["-f", "-y", "-o", os.fspath(output), "-e", f"trace={watched}"]
    for path in files:
        chosen += ["-P", os.fspath(path)]
    if fault is not None:
        chosen += ["-e", f"inject={watched}:{EFFECTS[fault.effect]}:when={fault.number}"]
    return chosen


def find_numbers(output: Path) -> dict[str, int]:
    """For each call, how often the thread made it that made it most."""
    counts = Counter((each.call, each.thread) for each in _read(output))
    most: dict[str, int] = {}
    for (call, _), count in counts.items():
        most[call] = max(most.get(call, 0), count)
    return most


def list_faults(numbers: dict[str, int]) -> Iterator[Fault]:
    """Everything that can befall those calls."""
    for call, most in numbers.items():
        for number in range(1, most + 1):
            yield Fault(call, number, "EIO")
            yield Fault(call, number, "KILL")
            if call in WRITES:
                yield Fault(call, number, "ENOSPC")


def find_hits(output: Path, fault: Fault) -> list[Call]:
    """The calls that were bent."""
    counts: Counter[int] = Counter()
    found = []
    for each in _read(output):
        counts[each.thread] += 1
        if counts[each.thread] == fault.number:
            found.append(each)
    return found


def has_ended(output: Path, process: int) -> bool:
    """Whether that process's end stands there: the last that strace has to say of it."""
    return re.search(rf"^{process} +\+\+\+ ", output.read_text(errors="replace"), re.M) is not None


def _read(output: Path) -> Iterator[Call]:
    for line in output.read_text(errors="replace").splitlines():
        if match := _LINE.match(line):
            thread, name, rest = match.groups()
            yield Call(int(thread), _CALL_OF[name], f"{name}({rest}")
