"""Starting a task's process.

`os.posix_spawn` and not `subprocess.Popen`: glibc's does the same vfork, new session and
reset signals, costs a tenth of Popen's Python, and leaves no descriptor in between. What
it has no action for, the working directory, is set by entering the directory first: the
host is one thread and has no use of its own for one.

Nothing leaks into a task: all the host's descriptors are close-on-exec. stdout and stderr
are opened in the child, as is /dev/null, and so must not have O_CLOEXEC themselves; another
stdin is opened here and given to the child as its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, TypeAlias

from titan.model import AttemptKey
from titan.patterns import expand
from titan.worker.host.forked import LimitError, allow_limits, check_ulimits, fork_and_exec
from titan.worker.messages import Launch
from titan.worker.output.paths import output_folder
from titan.worker.output.targets import Action, OutputTargets, TargetError

_NO_STDIN: Final = contextlib.nullcontext[Action](
    (os.POSIX_SPAWN_OPEN, 0, b"/dev/null", os.O_RDONLY, 0)
)

# A directory is known to be there as long as it is among the last so many.
_DIRECTORIES_MAX: Final = 1_000


Around: TypeAlias = Callable[[], AbstractContextManager[None]]

# What a sandbox passes on to its command, see `sandbox.py`: SIGCHLD ignored would take from those
# that wait what they wait for.
_KEPT_SIGNALS: Final = (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD)
IGNORED_SIGNALS: Final = tuple(sorted(signal.valid_signals() - set(_KEPT_SIGNALS)))


class LaunchError(Exception):
    """The process could not be started; the text is a sentence for the user."""


class Sandboxed(NamedTuple):
    """How one command is run in a sandbox."""

    program: bytes
    command: tuple[bytes, ...]
    keep: tuple[int, ...]
    """Descriptors that it needs."""


class Isolation(NamedTuple):
    """As whom and in what a task runs, other than this process."""

    rights: Around = contextlib.nullcontext
    """Within it this process opens files as the task may."""
    become: Callable[[], None] | None = None
    """What gives up all other rights, in the child."""
    sandbox: Callable[[bytes], AbstractContextManager[Sandboxed]] | None = None
    """How it is run in one, by the directory that it runs in; the context ends when it runs."""
    keep: tuple[int, ...] = ()
    """Descriptors that it keeps."""


NOT_ISOLATED: Final = Isolation()


class Spawner:
    """Starts processes whose output goes below one directory."""

    def __init__(self, output_directory: bytes, worker_name: str) -> None:
        """The directory is an absolute path; the name is for sentences."""
        self._output_directory = output_directory
        self._worker_name = worker_name
        self._targets = OutputTargets(output_directory, worker_name)
        self._directories: dict[bytes, None] = {}
        # The directory that this process is in, as far as it was entered here.
        self._inside = b""
        # A handler ends with exec, an ignored signal would stay ignored. Python itself ignores
        # SIGPIPE and SIGXFSZ, nohup ignores SIGHUP.
        self._ignored = [
            number
            for number in signal.valid_signals()
            if signal.getsignal(number) == signal.SIG_IGN
        ]

    def spawn(
        self,
        key: AttemptKey,
        launch: Launch,
        variables: dict[bytes, bytes],
        around: Around,
        isolation: Isolation = NOT_ISOLATED,
    ) -> int:
        """The pid of the new process, which leads a session. Raises LaunchError.

        It is made within `around`, which limits what it may do, and little else is. Leaves this
        process in the task's directory; see `leave_directory`.
        """
        if not launch.command or not launch.command[0]:
            raise LaunchError("the command is empty")
        try:
            check_ulimits(launch.execution.ulimits)
            return self._find_and_spawn(key, launch, variables, around, isolation)
        except LimitError as failure:
            raise LaunchError(f"{failure} on {self._worker_name}") from failure

    def leave_directory(self) -> None:
        """Go where nothing is in the way of unmounting a file system."""
        if self._inside != b"/":
            os.chdir(b"/")
            self._inside = b"/"

    def _find_and_spawn(
        self,
        key: AttemptKey,
        launch: Launch,
        variables: dict[bytes, bytes],
        around: Around,
        isolation: Isolation,
    ) -> int:
        rights = isolation.rights
        with rights():
            self._enter(launch.cwd)
        folder = self._make_output_directory(key)
        if launch.execution.umask >= 0:
            # Under the task's own it might be made so that nobody can read it.
            self._touch_output(key, launch)
        error: OSError | None = None
        with rights():
            opened = self._stdin(key, launch)
        with opened as stdin, self._output(key, launch, rights) as output:
            actions = (stdin, *output)
            candidates: list[bytes] = []
            if isolation.sandbox is not None:
                try:
                    with isolation.sandbox(_directory()) as todo, around():
                        return self._spawn_sandbox(launch, variables, isolation, todo, actions)
                except OSError as failure:
                    error = failure
            else:
                with rights():
                    candidates = list(_candidates(launch.command[0], variables))
            for path in candidates:
                try:
                    with around():
                        return self._spawn(path, launch, variables, actions, isolation)
                except (FileNotFoundError, NotADirectoryError, PermissionError) as failure:
                    error = error or failure
                except OSError as failure:
                    error = failure
                    break
                except ValueError as failure:
                    raise LaunchError(f"cannot run it: {failure}") from failure
        had_link = False
        if error is not None and error.errno == errno.ELOOP:
            had_link = self._touch_output(key, launch)
        if had_link or not os.path.isdir(folder):
            # Another cluster's output was in the way, or somebody has cleared it away since the
            # directory was made.
            self._directories.clear()
            return self._find_and_spawn(key, launch, variables, around, isolation)
        if isolation.sandbox is not None and error is not None:
            raise LaunchError(
                f"cannot start its sandbox on {self._worker_name}: {_reason(error)}"
            ) from error
        self._touch_output(key, launch)
        with rights():
            sentence = self._explain(launch, error)
        raise LaunchError(sentence) from error

    def _spawn(
        self,
        path: bytes,
        launch: Launch,
        variables: dict[bytes, bytes],
        file_actions: tuple[Action, ...],
        isolation: Isolation,
    ) -> int:
        if launch.execution.ulimits or isolation is not NOT_ISOLATED:
            return fork_and_exec(
                path,
                launch.command,
                variables,
                file_actions=file_actions,
                ulimits=launch.execution.ulimits,
                defaults=self._ignored,
                keep=isolation.keep,
                become=isolation.become,
            )
        return os.posix_spawn(
            path,
            launch.command,
            variables,
            file_actions=file_actions,
            setsid=True,
            setsigmask=(),
            setsigdef=self._ignored,
        )

    def _spawn_sandbox(
        self,
        launch: Launch,
        variables: dict[bytes, bytes],
        isolation: Isolation,
        todo: Sandboxed,
        file_actions: tuple[Action, ...],
    ) -> int:
        """Its limits and its signals are the command's, and are set in there. Raises OSError."""
        ulimits = launch.execution.ulimits

        def become() -> None:
            allow_limits(ulimits)
            if isolation.become is not None:
                isolation.become()

        return fork_and_exec(
            todo.program,
            todo.command,
            variables,
            file_actions=file_actions,
            ulimits=(),
            defaults=self._ignored,
            ignored=IGNORED_SIGNALS,
            keep=(*isolation.keep, *todo.keep),
            become=become,
        )

    def _stdin(self, key: AttemptKey, launch: Launch) -> AbstractContextManager[Action]:
        """What makes the child's stdin, as long as the context lasts. Raises LaunchError."""
        pattern = launch.execution.stdin
        if not pattern:
            return _NO_STDIN
        path = expand(pattern, key, launch.job_name)
        try:
            descriptor = _open_file(path)
        except (OSError, ValueError) as error:
            raise LaunchError(
                f"cannot read stdin from {shown(path)} on {self._worker_name}: {_reason(error)}"
            ) from error
        return _closing(descriptor)

    def _output(
        self, key: AttemptKey, launch: Launch, rights: Around
    ) -> AbstractContextManager[tuple[Action, ...]]:
        """What makes the child's stdout and stderr, as long as the context lasts.

        Entering it raises LaunchError.
        """
        if launch.execution.stdout or launch.execution.stderr:
            return self._opened_output(key, launch, rights)
        return contextlib.nullcontext(self._targets.own(key))

    @contextlib.contextmanager
    def _opened_output(
        self, key: AttemptKey, launch: Launch, rights: Around
    ) -> Iterator[tuple[Action, ...]]:
        with contextlib.ExitStack() as stack:
            try:
                actions = stack.enter_context(self._targets.opened(key, launch, rights))
            except TargetError as error:
                raise LaunchError(str(error)) from error
            yield actions

    def _enter(self, directory: bytes) -> None:
        directory = directory or b"/"
        # Others may have been taken away or exchanged since.
        if directory == b"/" == self._inside:
            return
        try:
            os.chdir(directory)
            self._inside = directory
        except (FileNotFoundError, NotADirectoryError) as error:
            raise LaunchError(
                f"no directory {shown(directory)} on {self._worker_name}; use --cwd"
            ) from error
        except (OSError, ValueError) as error:
            raise LaunchError(
                f"cannot enter {shown(directory)} on {self._worker_name}: {_reason(error)}"
            ) from error

    def _make_output_directory(self, key: AttemptKey) -> bytes:
        folder = output_folder(self._output_directory, key.job_id, key.index)
        if folder in self._directories:
            return folder
        try:
            make_private(self._output_directory)
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"cannot make the output's directory on {self._worker_name}: {_reason(error)}"
            ) from error
        if len(self._directories) >= _DIRECTORIES_MAX:
            self._directories.clear()
        self._directories[folder] = None
        return folder

    def _touch_output(self, key: AttemptKey, launch: Launch) -> bool:
        """Make the files, if they are not there; whether a link was in the way."""
        try:
            return self._targets.touch(key, launch)
        except TargetError as error:
            raise LaunchError(str(error)) from error

    def _explain(self, launch: Launch, error: OSError | None) -> str:
        """A sentence for why nothing could be run. `error` is None when nothing was found."""
        where = self._worker_name
        program = shown(launch.command[0])
        is_missing = error is None or error.errno in (errno.ENOENT, errno.ENOTDIR)
        if is_missing and len(launch.command) == 1 and b" " in launch.command[0]:
            return f"no program {program!r} on {where}: one word with spaces: --shell?"
        if error is None:
            return f"no program {program} on the task's PATH on {where}"
        if is_missing and os.path.exists(launch.command[0]):
            return f"cannot run {program} on {where}: the interpreter in its #! line is missing"
        if error.errno == errno.ENOEXEC:
            return f"cannot run {program} on {where}: no program and no #! line"
        if error.errno == errno.EACCES and os.path.isfile(launch.command[0]):
            hint = "is it executable?"
            if os.stat(launch.command[0]).st_mode & 0o100:
                hint = "is the program in its #! line executable, its file system mounted noexec?"
            return f"cannot run {program} on {where}: {_reason(error)}; {hint}"
        return f"cannot run {program} on {where}: {_reason(error)}"


def make_private(directory: bytes) -> None:
    """Makes it for this account alone, or closes it where it was open to everybody.

    The manager says who reads what tasks wrote, also on this machine. Raises OSError.
    """
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        # An older worker made it so; whoever has let a group in may go on.
        if os.stat(directory).st_mode & 0o007:
            os.chmod(directory, 0o700)


def _open_file(path: bytes) -> int:
    """A descriptor of a file or a device. Raises OSError, ValueError.

    Opened here and not by the child: a pipe without a writer would hold up the child in open(2),
    and the host with it until the child has come to its exec.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise ValueError("it is a directory" if stat.S_ISDIR(mode) else "it is a pipe, and no file")


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[Action]:
    try:
        yield (os.POSIX_SPAWN_DUP2, descriptor, 0)
    finally:
        os.close(descriptor)


def _candidates(program: bytes, variables: dict[bytes, bytes]) -> Iterator[bytes]:
    """Where the program may be: as execvp(3) looks for it, but on the task's PATH."""
    if b"/" in program:
        yield program
        return
    for folder in variables.get(b"PATH", b"").split(b":"):
        path = os.path.join(folder or b".", program)
        if os.access(path, os.X_OK, effective_ids=True):
            yield path


def _directory() -> bytes:
    """Where this process is, without symbolic links. Raises LaunchError."""
    try:
        return os.getcwdb()
    except OSError as error:
        raise LaunchError(f"its directory has gone: {_reason(error)}") from error


def shown(value: bytes) -> str:
    """As text, for a sentence."""
    return value.decode(errors="replace")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
