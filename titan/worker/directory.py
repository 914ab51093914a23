"""The worker's directory: what is where, locks, identity, and the socket in it.

titan.json     {"role": "worker", "format": 1, "worker_id": hex or null}
access.json    where and with which token the agent is called, while it runs
lock           held by the agent        host.lock     held by the task host
host.sock      where the host listens   host.journal  what the host must not forget
host.log       the host's log           output/       what the tasks write
removals       what of it was removed
scripts/       the scripts that came with jobs, while they are run
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Final

from titan import paths

FORMAT: Final = 1
SOCKET_NAME: Final = "host.sock"
SCRIPTS_NAME: Final = "scripts"
# Of a task host: another one has the directory.
EXIT_IN_USE: Final = 3
# What is there when a first start was killed before it had said whose directory it is.
_LEFT_BY_A_FIRST_START: Final = re.compile(r"lock|\.titan\.json\.[0-9]+")


class DirectoryError(Exception):
    """The directory can't be used; the text is a sentence for people."""


class Locked(DirectoryError):
    """Another process uses it."""


class Lock:
    """A lock file, held until `release` or the end of the process. It holds the holder's pid."""

    def __init__(self, path: Path, holder: str) -> None:
        """`holder` says what holds it, for the other one's message. Raises Locked, OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Locked(f"{path.parent} is in use by {holder} (pid {pid or '?'})") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)


def lock(directory: Path) -> Lock:
    """Take the directory for the one agent, making it if need be. Raises DirectoryError, OSError.

    A directory with anything else in it is left as it is.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o755)
    entries = set(os.listdir(directory))
    foreign = [name for name in entries if not _LEFT_BY_A_FIRST_START.fullmatch(name)]
    if foreign and "titan.json" not in entries:
        raise DirectoryError(
            f"{directory} is not empty and has no titan.json: it is not a worker's directory"
        )
    if "titan.json" in entries:
        # A manager's directory has a lock too, which is the manager's to hold.
        _read_identity(directory / "titan.json")
    return Lock(directory / "lock", "another worker")


def open_identity(directory: Path) -> bytes:
    """The stored worker id, empty for none; makes a new directory a worker's.

    Only who holds its lock may do this. Raises DirectoryError, OSError.
    """
    path = directory / "titan.json"
    worker_id = _read_identity(path)
    if worker_id is None:
        store_identity(directory, b"")
    return worker_id or b""


def _read_identity(path: Path) -> bytes | None:
    try:
        content = paths.read_json(path)
    except ValueError as error:
        raise DirectoryError(f"{path} cannot be read: {error}") from error
    if content is None:
        return None
    if content.get("role") != "worker":
        role = content.get("role")
        raise DirectoryError(f"{path.parent} is a {role}'s directory, not a worker's")
    if content.get("format") != FORMAT:
        raise DirectoryError(
            f"{path.parent} has format {content.get('format')}, this version knows {FORMAT}"
        )
    try:
        return bytes.fromhex(content.get("worker_id") or "")
    except (TypeError, ValueError) as error:
        raise DirectoryError(f"{path} holds no readable worker_id") from error


def store_identity(directory: Path, worker_id: bytes) -> None:
    """Keep the id durably. Raises OSError."""
    content = {"role": "worker", "format": FORMAT, "worker_id": worker_id.hex() or None}
    paths.write_json(directory / "titan.json", content)


def group_tag(directory: Path) -> str:
    """What tells this directory's control groups from those of others on the machine.

    The path is absolute and without symbolic links.
    """
    return hashlib.blake2b(os.fsencode(directory), digest_size=4).hexdigest()


def listen(directory: Path) -> socket.socket:
    """A non-blocking listening socket, for this user only; an old one is replaced.

    Only who holds `host.lock` may do this. Raises OSError.
    """
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        listener.bind(_short_path(descriptor))
        listener.listen(8)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
        os.close(descriptor)
    return listener


def connect(directory: Path) -> socket.socket:
    """A connected socket to the host. Raises OSError: nobody listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(_short_path(descriptor))
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def _short_path(descriptor: int) -> str:
    # A socket's path has at most 107 bytes, a directory's may have 4,095.
    return f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
