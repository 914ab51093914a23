"""Sandboxes: the command under bwrap(1), with `sandbox_init.py` between the two.

    host ── bwrap, which waits ── sandbox_init, process 1 in there ── command

All are of the task's session and group. bwrap and the process 1 ignore what signals can be
ignored: they are the command's to obey, whose end ends them, and SIGKILL ends them all. So does the
end of the host: nothing is left in a sandbox that outlives it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from titan.model import SIGNAL_MAX, AttemptKey, Execution
from titan.worker.host import sandbox_init
from titan.worker.host.spawn import Sandboxed
from titan.worker.messages import Exit, Launch

# What runs besides the command: bwrap and the process 1.
OWN_PROCESSES: Final = 2
_PROBE_SECONDS: Final = 20.0
# So bwrap tells of a signal that ended what it waits for.
_SIGNALLED: Final = 128
# More than any machine has done or has, and no more than goes into a report.
_COUNT_MAX: Final = (1 << 63) - 1
_log = logging.getLogger(__name__)


class Sandboxes:
    """What this machine can keep tasks in, and what is told from inside."""

    def __init__(self, program: bytes, python: bytes, hidden: bytes = b"") -> None:
        """The paths of bwrap, of a Python interpreter and of what to hide; see `find`."""
        self._program = program
        self._python = python
        self._hidden = os.path.realpath(hidden) if hidden else b""
        self._init = memory_file("titan-init", Path(sandbox_init.__file__).read_bytes())
        # By what each is told from inside, and what to call its program.
        self._reports: dict[AttemptKey, tuple[int, str]] = {}
        self._name = os.path.basename(program).decode(errors="replace")

    @classmethod
    def find(cls, hidden: bytes = b"") -> Sandboxes | None:
        """As the PATH has it; None, and why is logged, where it does not work.

        `hidden` is the worker's own directory: whoever reaches the socket in there starts what he
        likes, in no sandbox.
        """
        path = shutil.which("bwrap")
        if path is None:
            _log.info("no sandboxes: there is no bwrap on the PATH")
            return None
        try:
            found = cls(os.fsencode(path), os.fsencode(_find_python()), hidden)
        except OSError as error:
            _log.warning("no sandboxes: %s", error)
            return None
        if why_not := found._try():
            _log.warning("no sandboxes: %s does not work here: %s", path, why_not)
            found.close()
            return None
        return found

    @contextlib.contextmanager
    def wrapped(
        self,
        key: AttemptKey,
        launch: Launch,
        command: Sequence[bytes],
        cwd: bytes,
        *,
        is_another: bool = False,
    ) -> Iterator[Sandboxed]:
        """How to run that command of the launch in one, in that directory. Raises OSError.

        `is_another`: as another account than this process's, which may reach less anyway.
        `end` or `forget` must follow.
        """
        # It may be tried a second time.
        self.forget(key)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._reports[key] = reader, launch.command[0].decode(errors="replace")
        try:
            hidden = [] if is_another else self._hide(cwd)
            yield self._wrapped(launch.execution, command, cwd, writer, hidden)
        finally:
            # With that of the process 1 in there closed nothing more comes.
            os.close(writer)

    def close(self) -> None:
        """Nothing runs any more."""
        os.close(self._init)

    def forget(self, key: AttemptKey) -> None:
        """It was not started."""
        if key in self._reports:
            os.close(self._reports.pop(key)[0])

    def end(self, key: AttemptKey, how: Exit) -> Exit:
        """How the command of it ended, whose sandbox, if it has one, ended so."""
        reader, program = self._reports.pop(key, (-1, ""))
        if reader < 0:
            return how
        size = sandbox_init.REPORT.size
        os.set_blocking(reader, False)
        try:
            # A failure to start comes first.
            told = os.read(reader, size)
        except BlockingIOError:
            told = b""
        finally:
            os.close(reader)
        if len(told) == size:
            return _as_told(how, told, program)
        code = how.exit_code or 0
        if code > _SIGNALLED:
            # The process 1 was killed, such as for its memory, and the command with it.
            return how._replace(exit_code=None, signal=code - _SIGNALLED)
        if how.signal is None:
            why = f"its sandbox could not be made, {self._name} says why on its stderr"
            return how._replace(exit_code=None, not_run=why)
        return how

    def _wrapped(
        self,
        execution: Execution,
        command: Sequence[bytes],
        cwd: bytes,
        writer: int,
        hidden: Sequence[bytes] = (),
    ) -> Sandboxed:
        words = [self._program, b"--die-with-parent", b"--as-pid-1", b"--cap-drop", b"ALL"]
        words += [b"--unshare-pid", b"--unshare-ipc", b"--unshare-uts"]
        if execution.no_network:
            words.append(b"--unshare-net")
        words += [b"--ro-bind", b"/", b"/", b"--dev", b"/dev", b"--proc", b"/proc"]
        words += [b"--tmpfs", b"/tmp"]
        writable = [b"--bind", cwd, cwd] if may_bind(cwd) else []
        is_inside = _is_below(cwd, self._hidden)
        words += [*hidden, *writable] if is_inside else [*writable, *hidden]
        words += [b"--chdir", cwd, b"--", self._python, b"-I", b"-S"]
        words += [path_of(self._init), b"%d" % writer, _limits(execution), *command]
        return Sandboxed(self._program, tuple(words), (self._init, writer))

    def _hide(self, cwd: bytes) -> list[bytes]:
        """What puts nothing in place of the worker's directory, if it would be seen."""
        is_seen = may_bind(cwd) and _is_below(self._hidden, cwd)
        if not self._hidden or (_is_below(self._hidden, b"/tmp") and not is_seen):
            return []
        return [b"--tmpfs", self._hidden]

    def _try(self) -> str:
        """Why it does not work here; empty: it does."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        said = ""
        try:
            execution = Execution(no_network=True)
            command = [b"/bin/sh", b"-c", b"exit 7"]
            todo = self._wrapped(execution, command, b"/", writer, self._hide(b"/"))
            ran = subprocess.run(
                todo.command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=todo.keep,
                timeout=_PROBE_SECONDS,
                check=False,
            )
            said = ran.stderr.decode(errors="replace").strip() or f"exit code {ran.returncode}"
            os.set_blocking(reader, False)
            told = os.read(reader, sandbox_init.REPORT.size)
            has_run, status, *_ = sandbox_init.REPORT.unpack(told)
        except (BlockingIOError, struct.error):
            # The sandbox could not be made.
            return said
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        finally:
            os.close(reader)
            os.close(writer)
        is_right = has_run and os.waitstatus_to_exitcode(status) == 7
        return "" if is_right else f"a command in it ended with the wait status {status}"


def _as_told(how: Exit, told: bytes, program: str) -> Exit:
    """What the process 1 told, unless that can't be: what runs in there can tell in its place."""
    has_run, status, user_us, system_us, rss_bytes = sandbox_init.REPORT.unpack(told)
    if not has_run:
        why = f"cannot run {program} in its sandbox: {os.strerror(status)}"
        return how._replace(exit_code=None, signal=None, not_run=why)
    is_exit = os.WIFEXITED(status)
    is_signal = os.WIFSIGNALED(status) and os.WTERMSIG(status) <= SIGNAL_MAX
    if not (is_exit or is_signal) or max(user_us, system_us, rss_bytes) > _COUNT_MAX:
        why = "what was told of its end from inside its sandbox can't be"
        return how._replace(exit_code=None, signal=None, not_run=why)
    return how._replace(
        exit_code=os.WEXITSTATUS(status) if is_exit else None,
        signal=os.WTERMSIG(status) if is_signal else None,
        cpu_user_us=user_us,
        cpu_system_us=system_us,
        max_rss_bytes=rss_bytes,
    )


def _find_python() -> str:
    """An interpreter, if there is one such that every account can run.

    That of this process may lie in somebody's home, and which of them it is does not matter.
    """
    own = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    for path in (own, "/usr/bin/python3", "/usr/local/bin/python3"):
        found = os.path.realpath(path)
        # What is in there is in nobody's sandbox.
        if found.startswith("/tmp/") or not os.path.isfile(found):
            continue
        if all(each.stat().st_mode & 0o001 for each in (Path(found), *Path(found).parents)):
            return found
    return own


def may_bind(cwd: bytes) -> bool:
    """Whether that directory can be the one that is writable: not the root, nor what is its own."""
    return cwd != b"/" and cwd.split(b"/")[1] not in (b"dev", b"proc")


def _is_below(path: bytes, folder: bytes) -> bool:
    """Whether it is the folder or leads through it."""
    return bool(folder) and (path + b"/").startswith(folder.rstrip(b"/") + b"/")


def memory_file(name: str, text: bytes) -> int:
    """A descriptor of a file without a path, which anybody with it may read and run."""
    writable = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(os.dup(writable), "wb") as file:
            file.write(text)
        os.fchmod(writable, 0o555)
        # What is open for writing cannot be run.
        return os.open(path_of(writable), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def path_of(descriptor: int) -> bytes:
    """Where whoever has that descriptor finds what it is of."""
    return b"/proc/self/fd/%d" % descriptor


def _limits(execution: Execution) -> bytes:
    return ",".join(f"{name}:{soft}:{hard}" for name, soft, hard in execution.ulimits).encode()
