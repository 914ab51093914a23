"""The processes of the tasks: spawned, signalled, reaped. `host.py` is their parent."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from titan.model import PLAIN, AttemptKey, Sandbox, ScriptSource
from titan.worker import processes
from titan.worker.host.accounts import Account, find_account
from titan.worker.host.actions import Spawn
from titan.worker.host.confinement import Confinement
from titan.worker.host.environment import TaskEnvironments, account_variables
from titan.worker.host.records import ProcessRecord
from titan.worker.host.sandbox import Sandboxes, memory_file, path_of
from titan.worker.host.scripts import SentScripts, find_worker_script
from titan.worker.host.spawn import (
    NOT_ISOLATED,
    Isolation,
    LaunchError,
    Sandboxed,
    Spawner,
    shown,
)
from titan.worker.messages import Environment, Exit, Launch
from titan.worker.output.paths import output_path
from titan.worker.run_as import LivePolicy
from titan.worker.signals import SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM

# At once after a quiet time. To list children takes the lock that every start and end of a process
# takes: done at each of two thousand ends a second it cost a fifth of them.
SWEEP_SECONDS: Final = 0.05
_ASKS_TO_END: Final = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
_NOTHING: Final[Callable[[], AbstractContextManager[None]]] = nullcontext
_log = logging.getLogger(__name__)


class Children:
    """The running tasks by key and by pid."""

    def __init__(
        self,
        output_directory: bytes,
        sent_directory: bytes,
        confinement: Confinement,
        sandboxes: Sandboxes | None = None,
    ) -> None:
        """Absolute paths, of what tasks write and of scripts that come with jobs.

        `meet` comes before the first `spawn`. Raises OSError.
        """
        self._confinement = confinement
        self._sandboxes = sandboxes
        self._own_children = processes.OwnChildren()
        # When `sweep` is due, on the monotonic clock.
        self.next_sweep = math.inf
        self._swept_at = -math.inf
        self._output_directory = output_directory
        self._sent_scripts = SentScripts(sent_directory)
        self._account = account_variables(os.environb)
        self._keys: dict[int, AttemptKey] = {}
        self._processes: dict[AttemptKey, ProcessRecord] = {}
        self.meet("", "")

    def meet(
        self,
        worker_name: str,
        manager: str,
        script_directory: bytes = b"",
        run_as_policy: bytes = b"",
    ) -> None:
        """Under which name and for which manager tasks run from now on.

        Where scripts live that tasks may name, and where it says as whom they may run; empty:
        nowhere.
        """
        self._spawner = Spawner(self._output_directory, worker_name)
        self._environments = TaskEnvironments(self._account, worker_name, manager)
        self.worker_name = worker_name
        self._script_directory = script_directory
        self._policy = LivePolicy(Path(os.fsdecode(run_as_policy)) if run_as_policy else None)

    def spawn(self, todo: Spawn) -> ProcessRecord:
        """Start the process. Raises LaunchError. `rest` is due afterwards."""
        key, launch, environment, devices = todo
        if environment.secrets_fault:
            raise LaunchError(environment.secrets_fault)
        # What is kept of it for the next task need not hold a script.
        bare = environment._replace(script=b"") if environment.script else environment
        account = None
        if launch.execution.run_as:
            account = find_account(self._policy, launch.user, launch.execution.run_as)
        variables = self._environments.build(key, launch, bare, devices, account)
        with contextlib.ExitStack() as stack:
            return self._spawn(todo, variables, account, stack)

    def _spawn(
        self,
        todo: Spawn,
        variables: dict[bytes, bytes],
        account: Account | None,
        stack: contextlib.ExitStack,
    ) -> ProcessRecord:
        key, launch, environment, _ = todo
        isolation = NOT_ISOLATED
        if launch.is_isolated:
            runs, isolation = self._isolate(key, launch, environment, account, stack)
        else:
            runs = self._with_script(key, launch, environment)
        ticks = processes.now_ticks()
        around = _NOTHING
        try:
            if launch.memory_bytes or launch.execution != PLAIN:
                self._confinement.prepare(key, launch)
                around = functools.partial(self._confinement.around, key, launch)
            pid = self._spawner.spawn(key, runs, variables, around, isolation)
        except LaunchError as error:
            self._confinement.end(key)
            if self._sandboxes is not None:
                self._sandboxes.forget(key)
            path = self._sent_scripts.release(key)
            if isolation.keep:
                path = path_of(isolation.keep[0])
            # Its user knows a script by the name that he gave it.
            sentence = str(error).replace(shown(path), shown(launch.command[0])) if path else ""
            raise LaunchError(sentence or str(error)) from error
        if around is not _NOTHING:
            self._confinement.spawned(key, launch, pid)
        self._keys[pid] = key
        self._processes[key] = process = ProcessRecord(key, pid, ticks)
        return process

    def _isolate(
        self,
        key: AttemptKey,
        launch: Launch,
        environment: Environment,
        account: Account | None,
        stack: contextlib.ExitStack,
    ) -> tuple[Launch, Isolation]:
        """What runs in place of it, and how, as long as the stack is open. Raises LaunchError."""
        execution = launch.execution
        isolation = Isolation()
        if account is not None:
            isolation = Isolation(account.rights, account.become)
        if execution.script_source is ScriptSource.SENT and launch.command:
            # Neither the account nor who is in a sandbox need be able to enter this worker's
            # directory: the script has no path but that of its descriptor.
            try:
                descriptor = memory_file("titan-script", environment.script)
            except OSError as error:
                raise LaunchError(
                    f"cannot keep the script on {self.worker_name}: {error.strerror}"
                ) from error
            stack.callback(os.close, descriptor)
            words = (*execution.interpreter, path_of(descriptor), *launch.command[1:])
            runs = launch._replace(command=words)
            isolation = isolation._replace(keep=(descriptor,))
        else:
            runs = self._with_script(key, launch, environment)
        if execution.sandbox is Sandbox.NONE:
            return runs, isolation
        sandboxes = self._sandboxes
        if sandboxes is None:
            raise LaunchError(f"no sandbox on {self.worker_name}: it has no bwrap that works")
        if not runs.command or not runs.command[0]:
            return runs, isolation

        is_another = account is not None and account.user_id != os.geteuid()

        def wrapped(cwd: bytes) -> AbstractContextManager[Sandboxed]:
            return sandboxes.wrapped(key, launch, runs.command, cwd, is_another=is_another)

        return runs, isolation._replace(sandbox=wrapped)

    def _with_script(self, key: AttemptKey, launch: Launch, environment: Environment) -> Launch:
        """What runs it in place of the first word, if that names a script. Raises LaunchError."""
        execution = launch.execution
        if execution.script_source is ScriptSource.NONE or not launch.command:
            return launch
        if execution.script_source is ScriptSource.SENT:
            try:
                path = self._sent_scripts.hold(key, environment.script)
            except OSError as error:
                raise LaunchError(
                    f"cannot write the script on {self.worker_name}: {error.strerror}"
                ) from error
        else:
            path = find_worker_script(self._script_directory, launch.command[0], self.worker_name)
        return launch._replace(command=(*execution.interpreter, path, *launch.command[1:]))

    def close(self) -> None:
        """Nothing runs any more."""
        self._own_children.close()

    def rest(self) -> None:
        """Leave the directory of the task that was spawned last."""
        self._spawner.leave_directory()

    def signal(self, wanted: Sequence[tuple[AttemptKey, int]]) -> None:
        """To the groups, and to what left them but still carries its attempt's environment.

        One walk over /proc for all. An attempt that has ended is passed over; one that is
        named several times gets all these signals, in that order.
        """
        numbers: dict[AttemptKey, list[int]] = {}
        marks: list[processes.Mark] = []
        for key, number in wanted:
            process = self._processes.get(key)
            if process is None:
                continue
            if key not in numbers:
                marks.append(self._mark(process))
            numbers.setdefault(key, []).append(number)
        strays = processes.find(marks, os.getpid())
        for mark in marks:
            # The leader is not reaped yet, so the number is still its group's.
            for number in numbers[mark.key]:
                kill_group(mark.pid, number)
            if SIGKILL in numbers[mark.key]:
                self._confinement.kill(mark.key)
        for stray in strays:
            if stray.group not in self._keys:
                for number in numbers[stray.key]:
                    processes.send(stray, number)

    def stop_moving(self, keys: Collection[AttemptKey]) -> set[AttemptKey]:
        """SIGSTOP to what moves of these attempts; those of which there was something.

        One walk over /proc for all.
        """
        marks = [self._mark(self._processes[key]) for key in keys if key in self._processes]
        found = processes.find(marks, os.getpid())
        moving = [each for each in found if not processes.stands_still(each)]
        for each in moving:
            processes.send(each, SIGSTOP)
        return {each.key for each in moving}

    def reap(self, is_stopping: Callable[[AttemptKey], bool]) -> list[tuple[AttemptKey, Exit]]:
        """Take note of all that ended: tasks, which are returned, and orphans of tasks.

        What is left of a task's group is killed, and of one that `is_stopping` what had left
        that, too; of others that is left to `sweep`.
        """
        ended: list[tuple[AttemptKey, Exit]] = []
        has_reaped = False
        while True:
            try:
                # Looked at first and reaped after its group is dead: until then the number of
                # the group can't be another's.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # Without children there is nothing to sweep, either.
                has_reaped = False
                break
            if found is None:
                break
            pid = found.si_pid
            key = self._keys.pop(pid, None)
            if key is not None:
                kill_group(pid, SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            has_reaped = True
            if key is not None:
                is_signal = os.WIFSIGNALED(status)
                how = Exit(
                    None if is_signal else os.WEXITSTATUS(status),
                    os.WTERMSIG(status) if is_signal else None,
                    int(usage.ru_utime * 1_000_000),
                    int(usage.ru_stime * 1_000_000),
                    usage.ru_maxrss * 1024,
                    *self._confinement.end(key),
                )
                if self._sandboxes is not None:
                    how = self._sandboxes.end(key, how)
                ended.append((key, how))
        stopped = [key for key, _ in ended if is_stopping(key)]
        if stopped:
            self._kill_strays(stopped)
        for key, _ in ended:
            del self._processes[key]
            self._sent_scripts.release(key)
        if has_reaped and self.next_sweep == math.inf:
            self.next_sweep = max(time.monotonic(), self._swept_at + SWEEP_SECONDS)
        return ended

    def _mark(self, process: ProcessRecord) -> processes.Mark:
        output = output_path(self._output_directory, process.key, b"")
        return processes.Mark(process.key, process.start_ticks, process.pid, output)

    def _kill_strays(self, keys: list[AttemptKey]) -> None:
        """What had left the groups of these, wherever it is in the tree."""
        # The main ones are reaped: their pids may be others' by now.
        marks = [self._mark(self._processes[key])._replace(pid=0) for key in keys]
        for stray in processes.find(marks, os.getpid()):
            processes.send(stray, SIGKILL)

    def sweep(self) -> None:
        """Kill what tasks that ended have left: orphans come to this process.

        Nothing else has to look for them, since an orphan comes whenever something is reaped:
        the parent that it lost. One that hides whose it is, its output included, goes when all
        tasks that it could be of are over.
        """
        self._swept_at = time.monotonic()
        self.next_sweep = math.inf
        strays = [pid for pid in self._own_children.pids() if pid not in self._keys]
        if not strays:
            return
        # What forks as fast as it can is not given the time for it.
        self._swept_at = -math.inf
        running = {key[1:] for key in self._processes}
        since_ticks = min((each.start_ticks for each in self._processes.values()), default=None)
        for pid in strays:
            entry = processes.read_entry(pid)
            if entry is None or entry.session in self._keys:
                continue
            name = processes.read_attempt(pid)
            if name is not None:
                is_over = name not in running
            elif (is_known := self._writes_for_a_running(pid)) is not None:
                is_over = not is_known
            else:
                is_over = since_ticks is None or entry.start_ticks < since_ticks
            if is_over:
                # It is this process's child and not reaped, so the pid is still its own.
                with contextlib.suppress(PermissionError, ProcessLookupError):
                    os.kill(pid, SIGKILL)

    def _writes_for_a_running(self, pid: int) -> bool | None:
        """Whether the attempt runs whose output it writes to; None: it writes to none."""
        below = self._output_directory + b"/"
        begins = [each for each in processes.read_output(pid) if each.startswith(below)]
        if not begins:
            return None
        running = {output_path(self._output_directory, key, b"") for key in self._processes}
        return not running.isdisjoint(begins)


def kill_group(pid: int, number: int) -> None:
    """Send the signal to the group of that number, if there still is one."""
    try:
        os.killpg(pid, number)
        if number in _ASKS_TO_END:
            # What is stopped (Ctrl-Z, SIGSTOP) could not obey.
            os.killpg(pid, SIGCONT)
    except ProcessLookupError:
        pass
    except PermissionError:
        # What is left in the group runs as another user (sudo): it is not ours to end.
        _log.warning("not allowed to send signal %d to group %d", number, pid)
