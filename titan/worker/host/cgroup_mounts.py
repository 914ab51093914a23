"""Where the worker may make control groups: found by what the kernel says of this process.

Of each controller there is one hierarchy: that of version 2 if it has the controller, else
the one of version 1. Groups go below the group that this process is in.

Version 2 allows groups with limits only below one that has no processes itself, so there the
host and its agent move into a group beside those of the tasks, `titan-host`; which is possible
where the worker has a group of its own, such as a service or scope with `Delegate=yes`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

CONTROLLERS: Final = ("memory", "pids", "cpu")
LEAF: Final = "titan-host"

_HOW: Final = (
    "give it a group of its own: systemd-run --user --scope -p Delegate=yes titan worker …"
)


class CgroupError(Exception):
    """Groups cannot be made there; the text says why, and what would help."""


class Hierarchy(NamedTuple):
    """A tree of groups, and this process's place in it."""

    version: int
    controllers: frozenset[str]
    """Of `CONTROLLERS`, those that limit groups here."""
    base: str
    """The directory in which groups of tasks are made."""
    home: str
    """That of the group which the host itself is in."""


class _Mount(NamedTuple):
    version: int
    names: frozenset[str]
    """Its options, of which some are its controllers; empty for version 2."""
    root: str
    """Which part of the hierarchy is mounted."""
    point: str


def find_hierarchies(proc: Path = Path("/proc")) -> tuple[list[Hierarchy], list[str]]:
    """Those in which groups can be made, and a sentence for each controller without one."""
    found: dict[str, Hierarchy] = {}
    faults: dict[str, str] = {}
    try:
        places = list(_places(proc))
    except (OSError, ValueError) as error:
        return [], [f"the kernel tells nothing of cgroups: {error}"]
    for mount, directory in places:
        if mount.version == 2:
            wanted = frozenset(_read_words(f"{directory}/cgroup.controllers")) & set(CONTROLLERS)
        else:
            wanted = mount.names & set(CONTROLLERS)
        if not wanted:
            continue
        try:
            hierarchy = _prepare(mount.version, wanted, directory)
        except CgroupError as error:
            faults |= dict.fromkeys(wanted, str(error))
        else:
            found |= dict.fromkeys(hierarchy.controllers, hierarchy)
    sentences = [
        f"{name}: {faults.get(name, 'this machine has no such controller')}"
        for name in CONTROLLERS
        if name not in found
    ]
    return list(dict.fromkeys(found.values())), sentences


def leave_leaf(hierarchy: Hierarchy) -> None:
    """Undo what `find_hierarchies` did in version 2, as far as possible; the last to go does it."""
    if hierarchy.version != 2 or hierarchy.home == hierarchy.base:
        return
    inside = _read_words(f"{hierarchy.home}/cgroup.procs")
    with contextlib.suppress(OSError), os.scandir(hierarchy.base) as entries:
        groups = {entry.name for entry in entries if entry.is_dir()}
        if not inside <= _own_pids() or groups != {LEAF}:
            return
        write(
            f"{hierarchy.base}/cgroup.subtree_control",
            " ".join(f"-{name}" for name in sorted(hierarchy.controllers)),
        )
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                write(f"{hierarchy.base}/cgroup.procs", pid)
        os.rmdir(hierarchy.home)


def write(path: str, value: str) -> None:
    """Write a group's file, which takes it in one call or not at all. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode("ascii"))
    finally:
        os.close(descriptor)


def _prepare(version: int, wanted: frozenset[str], directory: str) -> Hierarchy:
    """Raises CgroupError."""
    if not os.access(directory, os.W_OK):
        raise CgroupError(f"no group can be made in {directory}, which is not the worker's; {_HOW}")
    if version == 1:
        return Hierarchy(1, wanted, directory, directory)
    home = directory
    if os.path.basename(directory) == LEAF:
        # An earlier host, or that of another worker, has moved its agents there.
        directory = os.path.dirname(directory)
    enabled = _read_words(f"{directory}/cgroup.subtree_control")
    if not wanted <= enabled:
        try:
            home = _enable(wanted, directory, home)
        except OSError as error:
            raise CgroupError(
                f"limits cannot be set below {directory} ({error.strerror}); {_HOW}"
            ) from error
    return Hierarchy(2, wanted, directory, home)


def _enable(wanted: frozenset[str], directory: str, home: str) -> str:
    """Turn controllers on for the groups in it; the directory this process is in. Raises."""
    request = " ".join(f"+{name}" for name in sorted(wanted))
    control = f"{directory}/cgroup.subtree_control"
    try:
        write(control, request)
    except OSError as error:
        # EBUSY: it has processes itself, as all but the topmost must not.
        if error.errno != errno.EBUSY:
            raise
    else:
        return home
    pids = _read_words(f"{directory}/cgroup.procs")
    others = pids - _own_pids()
    if others:
        raise CgroupError(
            f"{directory} has other processes, too, {len(others)} of them, which are not the "
            f"worker's to move; {_HOW}"
        )
    leaf = f"{directory}/{LEAF}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(leaf)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            write(f"{leaf}/cgroup.procs", pid)
    write(control, request)
    return leaf


def _own_pids() -> set[str]:
    """The host's and its agent's, which has started it."""
    return {str(os.getpid()), str(os.getppid())}


def _places(proc: Path) -> Iterator[tuple[_Mount, str]]:
    """The mounted hierarchies and this process's directory in each. Raises OSError, ValueError."""
    mounts = list(_mounts(proc / "self/mountinfo"))
    for line in (proc / "self/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, group = line.split(":", 2)
        wanted = frozenset(names.split(",")) if names else frozenset()
        for mount in mounts:
            if (mount.version == 2) != (not names) or not wanted <= mount.names:
                continue
            directory = _directory_of(group, mount)
            # In a container the path may be that of the machine and lead nowhere.
            if directory is not None and str(os.getpid()) in _read_words(
                f"{directory}/cgroup.procs"
            ):
                yield mount, directory
                break


def _mounts(mountinfo: Path) -> Iterator[_Mount]:
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, point, *_ = before.split(" ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            yield _Mount(2, frozenset(), _unescape(root), _unescape(point))
        elif kind == "cgroup":
            yield _Mount(1, frozenset(options.split(",")), _unescape(root), _unescape(point))


def _directory_of(group: str, mount: _Mount) -> str | None:
    if mount.root == "/":
        return (mount.point + group).rstrip("/")
    if group == mount.root or group.startswith(mount.root + "/"):
        return (mount.point + group[len(mount.root) :]).rstrip("/")
    return mount.point


def _unescape(path: str) -> str:
    """As in /proc/self/mountinfo: octal for blanks and the like."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def _read_words(path: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            return set(file.read().split())
    except OSError:
        return set()
