"""The scripts that tasks run: files of those that came with jobs, and those that live here."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from titan.model import AttemptKey
from titan.worker.host.spawn import LaunchError

# Those that no task runs: they are kept for the next one, within these limits.
_IDLE_MAX: Final = 64
_IDLE_BYTES_MAX: Final = 16 << 20
# All tasks of that text run this one file: a slip of one must not change what the others run.
_MODE: Final = 0o500


@dataclass(slots=True)
class _File:
    path: bytes
    stamp: tuple[int, ...]
    """As it was written, see `_stamp`."""
    users: int = 0


class SentScripts:
    """A file for each text, in a folder of which all else is removed.

    A file is complete before it has its name, and nobody has it open for writing when it is run:
    else execve(2) says ETXTBSY. The host is one thread and closes it before it spawns, and what it
    spawns inherits no descriptor. It is the same file as long as anyone runs it: shells read their
    scripts bit by bit, and many scripts call themselves again.
    """

    def __init__(self, directory: bytes) -> None:
        """The folder is made when it is needed; what an earlier host left in it goes.

        Only who holds `host.lock` may do this. Raises OSError.
        """
        self._directory = directory
        self._files: dict[bytes, _File] = {}
        self._held: dict[AttemptKey, bytes] = {}
        # Those of `_files` without users: the one that was used last is the last.
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        self._idle_bytes = 0
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(directory):
                # What cannot be removed is in nobody's way.
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))

    def hold(self, key: AttemptKey, text: bytes) -> bytes:
        """The path of a file with that text, until `release`. O(1) once it is there.

        Raises OSError.
        """
        file = self._files.get(text)
        if file is None:
            path = self._write(text)
            file = self._files[text] = _File(path, _stamp(path))
        else:
            if _stamp(file.path) != file.stamp:
                # Somebody has changed it, or cleared it away.
                file.stamp = _stamp(self._write(text))
            if not file.users:
                del self._idle[text]
                self._idle_bytes -= len(text)
        file.users += 1
        self._held[key] = text
        return file.path

    def release(self, key: AttemptKey) -> bytes:
        """The attempt runs no more; the path that it held, empty if it held none."""
        text = self._held.pop(key, None)
        if text is None:
            return b""
        file = self._files[text]
        file.users -= 1
        if not file.users:
            self._idle[text] = None
            self._idle_bytes += len(text)
            self._tidy()
        return file.path

    def _tidy(self) -> None:
        while len(self._idle) > _IDLE_MAX or self._idle_bytes > _IDLE_BYTES_MAX:
            oldest, _ = self._idle.popitem(last=False)
            self._idle_bytes -= len(oldest)
            # One that cannot be removed goes when the next host starts.
            with contextlib.suppress(OSError):
                os.unlink(self._files.pop(oldest).path)

    def _write(self, text: bytes) -> bytes:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        name = hashlib.blake2b(text, digest_size=16).hexdigest().encode()
        path = os.path.join(self._directory, name)
        # Only one host writes here, so nobody else has that name.
        fresh = path + b".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(fresh, flags, 0o600), "wb") as file:
                file.write(text)
                # Whatever the umask of this process is.
                os.fchmod(file.fileno(), _MODE)
            os.rename(fresh, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        return path


def find_worker_script(directory: bytes, path: bytes, worker_name: str) -> bytes:
    """The real path of a script below the worker's folder. Raises LaunchError.

    `directory` is empty when the worker has no such folder. Who submits a job chooses `path` and
    nothing else, so it is enough to look where it leads, symbolic links followed, and to run what
    was found there by that very name. Who could change the folder between the two could put any
    script into it; openat2(2) with RESOLVE_BENEATH, for which Python has no call, would not stop
    him either.
    """
    shown = path.decode(errors="replace")
    if not directory:
        raise LaunchError(
            f"{worker_name} has no folder of scripts: start it with `titan worker --scripts-dir "
            "DIR`, or send the script with the job (--script)"
        )
    where = f"the folder of scripts of {worker_name}"
    if path.startswith(b"/") or b".." in path.split(b"/"):
        raise LaunchError(f"{shown} is no path below {where}: it must not begin with / or hold ..")
    try:
        root = os.path.realpath(directory, strict=True)
        found = os.path.realpath(os.path.join(root, path), strict=True)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise LaunchError(f"no script {shown} in {where}: {reason}") from error
    if not found.startswith(root.rstrip(b"/") + b"/"):
        raise LaunchError(f"{shown} leads out of {where}: it is, or passes, a symbolic link")
    if not os.path.isfile(found):
        raise LaunchError(f"{shown} in {where} is no file")
    if not os.access(found, os.R_OK):
        raise LaunchError(f"{shown} in {where} cannot be read by the account of the worker")
    return found


def _stamp(path: bytes) -> tuple[int, ...]:
    """Empty when there is no such file."""
    try:
        stat = os.stat(path, follow_symlinks=False)
    except OSError:
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode
