"""A worker's machine: its disk, its clock, its processes, and which agent and host run there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from tests.simulation.checks import Witness
from tests.simulation.network import Network
from tests.simulation.plan import JobPlan, Plan, WorkerPlan
from tests.simulation.world import Clockwork, World
from titan.model import AttemptKey
from titan.worker.host.records import Record
from titan.worker.messages import Exit, Launch
from titan.worker.signals import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

# A machine whose clock nobody sets.
CLOCK_WRONG_US_MAX: Final = 6 * 3_600_000_000


@dataclass(eq=False)
class Process:
    """A task's process."""

    key: AttemptKey
    pid: int
    job: JobPlan
    parent: Reaper
    left_us: int
    """How long it has still to run."""
    is_alive: bool = True
    is_stopped: bool = False
    goes_on_us: int = 0
    stretch: int = 0
    """How often it went on, or was stopped."""
    waiting: list[int] = field(default_factory=list)
    """Signals that came while it was stopped."""


class Reaper(Protocol):
    """A task host as its processes see it."""

    is_alive: bool

    def reap(self, process: Process, how: Exit) -> None:
        """A child has ended."""


class Ending(Protocol):
    """An agent or a host, as its machine ends it."""

    def die(self) -> None:
        """It is gone at once."""


class Machine:
    """One worker's machine."""

    def __init__(
        self, name: str, plan: Plan, worker: WorkerPlan, world: World, network: Network,
        witness: Witness,
    ) -> None:  # fmt: skip
        self.name = name
        self.plan = plan
        self.worker = worker
        self.world = world
        self.network = network
        self.witness = witness
        network.workers.append(name)
        self.clockwork = Clockwork(world)
        self.worker_id = b""
        self.boot = 1
        # Most clocks are nearly right.
        wrong_us = world.random.choice((2_000_000, 2_000_000, CLOCK_WRONG_US_MAX))
        self.wall_offset_us = world.random.randint(-wrong_us, wrong_us)
        # How long it was suspended, which its monotonic clock does not count.
        self._asleep_us = 0
        self._is_asleep = False
        self._asleep_since_us = 0
        # What keeps the worker from taking tasks.
        self.fault = ""
        # host.journal, and under which boot it was written.
        self.journal: list[Record] = []
        # It stands in the journal's first frame.
        self.host_starts = 0
        self.journal_boot = 0
        self.processes: dict[int, Process] = {}
        self.agents_started = 0
        self._next_pid = 100

    def wall_us(self) -> int:
        """The machine's wall clock."""
        return self.world.now_us + self.wall_offset_us

    def awake_us(self) -> int:
        """The machine's monotonic clock."""
        return self.world.elapsed_us - self._asleep_us

    def sleep(self, for_us: int) -> None:
        """Everything on it stands still for so long, and so does its monotonic clock."""
        self.clockwork.hold(for_us)
        self.world.after(for_us, self._wake)
        if self._is_asleep:
            return
        self._is_asleep = True
        self.witness.lease_stands(self.name)
        self._asleep_since_us = self.world.now_us
        for process in self.processes.values():
            self._pause(process)

    def _wake(self) -> None:
        if not self._is_asleep or self.clockwork.stands_still:
            return
        self._is_asleep = False
        slept_us = self.world.now_us - self._asleep_since_us
        self._asleep_us += slept_us
        self.witness.slept(self.name, slept_us)
        for process in self.processes.values():
            if not process.is_stopped:
                self._run(process)

    def _pause(self, process: Process) -> None:
        if not process.is_stopped:
            process.stretch += 1
            process.left_us -= self.world.now_us - process.goes_on_us

    def spawn(self, key: AttemptKey, launch: Launch, parent: Reaper) -> int | None:
        """Starts a task; its pid, None when that fails."""
        job = self.plan.jobs[int(launch.job_name.removeprefix("job"))]
        if not job.is_launched:
            return None
        self._next_pid += 1
        process = Process(key, self._next_pid, job, parent, job.run_us(key.index))
        self.processes[process.pid] = process
        self.witness.spawned(self.name, process.key)
        self._run(process)
        return process.pid

    def _run(self, process: Process) -> None:
        process.goes_on_us = self.world.now_us
        process.stretch += 1
        self.world.after(process.left_us, partial(self._run_out, process, process.stretch))

    def _run_out(self, process: Process, stretch: int) -> None:
        if process.stretch == stretch:
            self._end(process, process.job.exit_code(process.key.index), None)

    def _stop(self, process: Process) -> None:
        if not process.is_stopped:
            self._pause(process)
            process.is_stopped = True
            self.witness.stopped(process.key)

    def _go_on(self, process: Process) -> None:
        if not process.is_stopped:
            return
        process.is_stopped = False
        self.witness.went_on(process.key)
        self._run(process)
        signals, process.waiting = process.waiting, []
        for each in signals:
            self.signal(process.pid, each)

    def signal(self, pid: int, number: int) -> None:
        """A signal to a task and all that came of it."""
        process = self.processes.get(pid)
        if process is None:
            return
        if number == SIGKILL:
            self.world.count("killed")
            self.clockwork.after(10, partial(self._end, process, None, number))
        elif number == SIGSTOP:
            self._stop(process)
        elif number == SIGCONT:
            self._go_on(process)
        elif process.is_stopped:
            process.waiting.append(number)
        elif number != SIGTERM:
            self.world.count("warned of its time limit")
            self.witness.warned(process.key)
        elif not process.job.ignores_sigterm:
            self.world.count("terminated")
            delay_us = self.world.random.randint(10, 20_000)
            self.clockwork.after(delay_us, partial(self._end, process, None, number))

    def kill_leftovers(self, keys: list[AttemptKey]) -> None:
        """Ends, at once, what still runs of these."""
        for process in list(self.processes.values()):
            if process.key in keys:
                self.world.count("leftover killed")
                self._end(process, None, SIGKILL)

    def lose_power(self) -> None:
        """All processes are gone; the journal ends anywhere, or is nothing at all."""
        self.clockwork.release()
        self._wake()
        for process in list(self.processes.values()):
            process.is_alive = False
            del self.processes[process.pid]
            self.witness.vanished(process.key)
        self.boot += 1
        keep = self.world.random.choice((0, 0, len(self.journal)))
        del self.journal[self.world.random.randint(0, keep) :]
        if not self.journal:
            self.host_starts = 0
        self.witness.journal_lost(self.name, self.journal)

    def _end(self, process: Process, exit_code: int | None, signal: int | None) -> None:
        if not process.is_alive:
            return
        process.is_alive = False
        del self.processes[process.pid]
        self.witness.exited(process.key, exit_code, signal)
        if process.parent.is_alive:
            process.parent.reap(process, Exit(exit_code, signal, 1_000, 100, 1 << 20))


Action = Callable[[], None]
