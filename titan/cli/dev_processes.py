"""The processes of `titan dev`: started, watched, and gone when it is gone.

Each child is in a process group of its own, so that Ctrl-C reaches `titan dev` alone,
and asks Linux for a SIGTERM in case that is killed. Locks in the data directory tell
a second `titan dev` from what a killed one left behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from titan.errors import Refused, TitanError
from titan.rpc.channel import join_address, split_address

# The manager stops within 5 s; what a killed `titan dev` left is gone after that.
LEFT_OVER_SECONDS: Final = 15.0
# Whatever is not gone so long after it was told to hurry, or after all that was waited for, is
# killed.
REST_SECONDS: Final = 3.0
# So often in that time it is told to hurry: two signals that come before a process looks at the
# first are one to it.
_HURRIES: Final = 6
_POLL_SECONDS: Final = 0.05
_LOCK: Final = "dev.lock"
_TAIL_LINES: Final = 15
_TAIL_BYTES: Final = 16_384


class Child:
    """A server under `titan dev`."""

    def __init__(self, name: str, arguments: Sequence[str], log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, lock_descriptor: int) -> None:
        """Starts it; it holds the lock until it ends."""
        environment = {**os.environ, "_TITAN_PARENT": str(os.getpid())}
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "titan.cli", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
                pass_fds=(lock_descriptor,),
            )

    async def wait(self) -> int:
        """Its exit code; negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """A signal, unless it has ended."""
        if self.is_running and self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def obituary(self) -> list[str]:
        """How it ended, and the last lines of what it said."""
        code = self._process.returncode if self._process is not None else None
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {-code}"
        head = f"{self.name} ended by itself with {how}; the end of its log, {self.log_file}:"
        return [head, *(f"  {line}" for line in _tail(self.log_file))]


async def stop_all(
    children: Sequence[Child],
    number: signal.Signals,
    patience_seconds: float,
    hurry: asyncio.Event,
) -> None:
    """Send the signal, which some heed in their time, and again once they are to hurry.

    Returns when all of them are gone. Who is not when its time is over is killed.
    """
    if not children:
        return
    for child in children:
        child.send(number)
    gone = asyncio.create_task(_wait_all(children))
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait(
        {gone, hurrying}, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED
    )
    for _ in range(_HURRIES):
        if gone.done() or not hurry.is_set():
            break
        for child in children:
            child.send(number)
        await asyncio.wait({gone}, timeout=REST_SECONDS / _HURRIES)
    hurrying.cancel()
    for child in children:
        child.send(signal.SIGKILL)
    await gone


async def _wait_all(children: Sequence[Child]) -> None:
    for child in children:
        await child.wait()


class DataDirectory:
    """Where a `titan dev` keeps everything; one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own: int | None = None
        self.children: int = -1

    def open(self, *, fresh: bool) -> None:
        """Takes it, or a new one in its place.

        Raises Refused if a `titan dev` has it, or if it is somebody else's.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_empty = not any(self.path.iterdir())
        if not is_empty and not (self.path / _LOCK).exists():
            raise Refused(
                f"{self.path} is not empty and was not made by `titan dev`: name another one"
            )
        self._lock_own()
        if fresh and not is_empty:
            self.path.rename(self._find_aside())
            self.close()
            self.path.mkdir(mode=0o700)
            self._lock_own()
        self.children = os.open(self.path / "children.lock", os.O_RDWR | os.O_CREAT, 0o600)

    async def wait_free(self) -> bool:
        """Waits for the children of a killed `titan dev` and takes their lock.

        False if they are still there after a while.
        """
        end = time.monotonic() + LEFT_OVER_SECONDS
        while True:
            try:
                fcntl.flock(self.children, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return True

    def close(self) -> None:
        """Lets it go."""
        for descriptor in (self._own, self.children):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._own, self.children = None, -1

    def _find_aside(self) -> Path:
        """A name for what is moved aside: dev.20261120T140311, and if that is taken another."""
        aside = f"{self.path.name}.{time.strftime('%Y%m%dT%H%M%S')}"
        path = self.path.with_name(aside)
        number = 1
        while path.exists():
            number += 1
            path = self.path.with_name(f"{aside}-{number}")
        return path

    def _lock_own(self) -> None:
        file = self.path / _LOCK
        self._own = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read_text().strip() or "another process"
            self.close()
            raise Refused(
                f"a `titan dev` runs in {self.path} already (process {holder}); "
                "stop it, or start another one with --data-dir and --listen"
            ) from None
        os.ftruncate(self._own, 0)
        os.pwrite(self._own, f"{os.getpid()}\n".encode(), 0)


def become_subreaper() -> None:
    """Orphans below this process become its children, so that it can end them: prctl(2)."""
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise TitanError(f"prctl: {os.strerror(ctypes.get_errno())}")


def end_rest(directory: Path | None, patience_seconds: float) -> None:
    """Ends whatever is left below this process: asked first, killed after that.

    With a directory also its task hosts that an earlier `titan dev` started and was killed.
    """
    left = psutil.Process().children(recursive=True)
    for host in _find_hosts(directory) if directory is not None else ():
        with suppress(psutil.NoSuchProcess):
            left += [host, *host.children(recursive=True)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=patience_seconds)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=patience_seconds)


def find_address(listen: str) -> str:
    """The address with a port that is free now. Raises Refused."""
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the manager does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Refused(
                    f"{listen} is in use by another program, perhaps another manager; "
                    "choose another port with --listen HOST:PORT"
                ) from error
            raise Refused(
                f"{listen} can't be listened on: {os.strerror(error.errno or 0)}"
            ) from error
        port = probe.getsockname()[1]
    return join_address(host, port)


def _find_hosts(directory: Path) -> list[psutil.Process]:
    hosts = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        is_host = "titan.worker.host" in words
        if is_host and any(Path(word).parent == directory for word in words):
            hosts.append(process)
    return hosts


def _tail(file: Path) -> list[str]:
    with file.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _TAIL_BYTES))
        return log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
