"""The processes of the tasks: spawned, signalled, reaped. `host.py` is their parent."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence

from titan.model import AttemptKey
from titan.worker import processes
from titan.worker.environment import TaskEnvironments, account_variables
from titan.worker.messages import Environment, Exit, Launch
from titan.worker.records import ProcessRecord
from titan.worker.spawn import Spawner, output_path

_log = logging.getLogger(__name__)


class Children:
    """The running tasks by key and by pid."""

    def __init__(self, output_directory: bytes) -> None:
        """The directory is an absolute path. `meet` comes before the first `spawn`."""
        self._output_directory = output_directory
        self._account = account_variables(os.environb)
        self._keys: dict[int, AttemptKey] = {}
        self._processes: dict[AttemptKey, ProcessRecord] = {}
        self.meet("", "")

    def meet(self, worker_name: str, manager: str) -> None:
        """Under which name and for which manager tasks run from now on."""
        self._spawner = Spawner(self._output_directory, worker_name)
        self._environments = TaskEnvironments(self._account, worker_name, manager)

    def spawn(self, key: AttemptKey, launch: Launch, environment: Environment) -> ProcessRecord:
        """Start the process. Raises LaunchError. `rest` is due afterwards."""
        variables = self._environments.build(key, launch, environment)
        ticks = processes.now_ticks()
        pid = self._spawner.spawn(key, launch, variables)
        self._keys[pid] = key
        self._processes[key] = process = ProcessRecord(key, pid, ticks)
        return process

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
        for stray in strays:
            if stray.group not in self._keys:
                for number in numbers[stray.key]:
                    processes.send(stray, number)

    def reap(self, is_stopping: Callable[[AttemptKey], bool]) -> list[tuple[AttemptKey, Exit]]:
        """Take note of all that ended: tasks, which are returned, and orphans of tasks.

        What is left of a task's group is killed, and of one that `is_stopping` also what had
        left the group.
        """
        ended: list[tuple[AttemptKey, Exit]] = []
        while True:
            try:
                # Looked at first and reaped after its group is dead: until then the number of
                # the group can't be another's.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            pid = found.si_pid
            key = self._keys.pop(pid, None)
            if key is not None:
                kill_group(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            if key is not None:
                is_signal = os.WIFSIGNALED(status)
                how = Exit(
                    None if is_signal else os.WEXITSTATUS(status),
                    os.WTERMSIG(status) if is_signal else None,
                    int(usage.ru_utime * 1_000_000),
                    int(usage.ru_stime * 1_000_000),
                    usage.ru_maxrss * 1024,
                )
                ended.append((key, how))
        if ended:
            self._kill_strays([key for key, _ in ended if is_stopping(key)])
            for key, _ in ended:
                del self._processes[key]
        return ended

    def _mark(self, process: ProcessRecord) -> processes.Mark:
        output = output_path(self._output_directory, process.key, b"")
        return processes.Mark(process.key, process.start_ticks, process.pid, output)

    def _kill_strays(self, keys: list[AttemptKey]) -> None:
        if keys:
            # The main ones are reaped: their pids may be others' by now.
            marks = [self._mark(self._processes[key])._replace(pid=0) for key in keys]
            for stray in processes.find(marks, os.getpid()):
                processes.send(stray, signal.SIGKILL)


def kill_group(pid: int, number: int) -> None:
    """Send the signal to the group of that number, if there still is one."""
    try:
        os.killpg(pid, number)
        if number == signal.SIGTERM:
            # What is stopped (Ctrl-Z, SIGSTOP) could not obey.
            os.killpg(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
    except PermissionError:
        # What is left in the group runs as another user (sudo): it is not ours to end.
        _log.warning("not allowed to send signal %d to group %d", number, pid)
