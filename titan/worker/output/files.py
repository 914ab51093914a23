"""The output directory of a worker: what of ended tasks is there, and its removal.

Files and folders of other names are neither counted nor touched. Links are removed, and
never followed: what they lead to is the user's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from titan.worker.output.hole import NOTE_SUFFIX
from titan.worker.output.paths import attempt_path
from titan.worker.output.shelf import KNOWN_MAX, Entry, Found, Name, OldestOf
from titan.worker.output.targets import BEGIN_SUFFIX

# What one attempt may have: two streams or links to them, and notes beside these.
_SUFFIXES: Final = (b"out", b"err")
_NOTE_SUFFIXES: Final = tuple(
    suffix + note
    for suffix in _SUFFIXES
    for note in (NOTE_SUFFIX, NOTE_SUFFIX + b".new", BEGIN_SUFFIX)
)
_FILE: Final = re.compile(rb"([0-9]{1,18})\.([0-9]{1,9})\.(?:out|err)(?:\.cut(?:\.new)?|\.begin)?")
_JOB: Final = re.compile(rb"-?[0-9]{1,18}")
_THOUSAND: Final = re.compile(rb"[0-9]{1,18}")
# A task that was quiet before its end is younger than its files; so much is no difference.
_QUIET_SECONDS: Final = 60
# File systems round times, and clocks differ.
_SLACK_SECONDS: Final = 2
# From so many of its attempts on a folder, which has those of a thousand tasks, is listed.
_LISTED_MIN: Final = 50
# An empty folder may have been made for a task that is about to start.
_EMPTY_SECONDS: Final = 3_600


def look_through(directory: bytes, known_max: int = KNOWN_MAX) -> Found:
    """All output that is there; that of running tasks, too. Takes some 5 µs a file.

    An attempt ended when its files were last written, as far as they tell.
    """
    oldest = OldestOf(known_max)
    for folder, job_id in _folders(directory):
        for entry in _look_into(folder, job_id):
            oldest.add(entry)
    return oldest.found()


def measure(directory: bytes, ended: Mapping[Name, int]) -> list[Entry]:
    """What attempts that ended at these times, in seconds, have left; none for one without files.

    Of one that was quiet before its end the files are given its time, so that whoever looks
    through them later knows it.
    """
    folders: dict[bytes, list[tuple[bytes, Name]]] = {}
    for name in ended:
        base = attempt_path(directory, *name)
        folders.setdefault(os.path.dirname(base), []).append((base, name))
    found = []
    for folder, members in folders.items():
        # One walk through the folder costs less than to ask for many names of which hardly one
        # is there.
        names = _names(folder) if len(members) >= _LISTED_MIN else None
        found += [_measure(base, name, ended[name], names) for base, name in members]
    return [entry for entry in found if entry is not None]


def _measure(base: bytes, name: Name, end_s: int, names: AbstractSet[bytes] | None) -> Entry | None:
    """`names`: all that is in its folder, None: not known."""
    size_bytes = files = 0
    for suffix in _SUFFIXES:
        with contextlib.suppress(OSError):
            found = os.stat(base + suffix, follow_symlinks=False)
            size_bytes += found.st_blocks * 512
            files += 1
            if found.st_mtime < end_s - _QUIET_SECONDS:
                os.utime(base + suffix, (found.st_atime, end_s), follow_symlinks=False)
    if not files:
        return None
    if names is None:
        files += sum(os.path.lexists(base + suffix) for suffix in _NOTE_SUFFIXES)
    else:
        stem = os.path.basename(base)
        files += sum(stem + suffix in names for suffix in _NOTE_SUFFIXES)
    return Entry(end_s, *name, size_bytes, files)


def remove(directory: bytes, entries: Iterable[Entry]) -> list[Entry]:
    """Remove the output of these attempts, and folders that are empty then; those removed.

    What was written to since, or may still be, stays: another cluster's attempt of the same
    name, or a process that was left behind. As long as it is open nothing would be gained.
    """
    removed: list[Entry] = []
    folders: set[bytes] = set()
    for entry in entries:
        base = attempt_path(directory, *entry.name)
        if any(_is_in_use(base + suffix, entry.end_s) for suffix in _SUFFIXES):
            continue
        suffixes = _SUFFIXES if entry.files <= len(_SUFFIXES) else (*_SUFFIXES, *_NOTE_SUFFIXES)
        for suffix in suffixes:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(base + suffix)
        removed.append(entry)
        folders.add(os.path.dirname(base))
    for folder in folders:
        _remove_empty(folder)
    return removed


def _folders(directory: bytes) -> Iterator[tuple[bytes, int]]:
    for job in _entries(directory):
        if not _JOB.fullmatch(job.name):
            continue
        is_empty = True
        for thousand in _entries(job.path):
            is_empty = False
            if _THOUSAND.fullmatch(thousand.name):
                yield thousand.path, int(job.name)
        if is_empty:
            _remove_if_old(job.path)


def _look_into(folder: bytes, job_id: int) -> list[Entry]:
    """A folder has at most the attempts of a thousand tasks."""
    found: dict[Name, Entry] = {}
    is_empty = True
    for file in _entries(folder):
        is_empty = False
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        try:
            status = file.stat(follow_symlinks=False)
        except OSError:
            continue
        name = (job_id, int(match[1]), int(match[2]))
        before = found.get(name) or Entry(0, *name, 0, 0)
        found[name] = before._replace(
            end_s=max(before.end_s, int(status.st_mtime), 0),
            size_bytes=before.size_bytes + status.st_blocks * 512,
            files=before.files + 1,
        )
    if is_empty:
        _remove_if_old(folder)
    return list(found.values())


def _names(folder: bytes) -> AbstractSet[bytes]:
    """Of all that is in it; nothing where there is no such folder."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _entries(path: bytes) -> Iterator[os.DirEntry[bytes]]:
    """Nothing where there is no such folder."""
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError:
        return


def _is_in_use(path: bytes, end_s: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_mtime > end_s + _SLACK_SECONDS:
            return True
        # See fcntl(2): not given while anybody has it open for writing.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # Some file systems have no leases.
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def _remove_empty(folder: bytes) -> None:
    for path in (folder, os.path.dirname(folder)):
        try:
            os.rmdir(path)
        except OSError:
            return


def _remove_if_old(folder: bytes) -> None:
    with contextlib.suppress(OSError):
        if os.stat(folder).st_mtime < time.time() - _EMPTY_SECONDS:
            os.rmdir(folder)
