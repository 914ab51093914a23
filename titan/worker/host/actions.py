"""What the task host is told to do by its bookkeeping, and what it answers with.

The shell's duties, be it `host.py` with real processes or the simulation with invented ones:

* Actions are performed in order, as from one queue: those that come of an action go behind
  all that were there. Else reports would leave in another order than they are numbered.
* `Journal(record)` is on file before any later action is performed. After a crash,
  `records.recover` reads them back.
* `Spawn` is answered by `started` or `not_launched`, and after `started`, once, by `exited`. Right
  before the spawn of what runs at most once `check_lease` is called, and where it may not begin
  any more, the answer is `not_leased`.
* When CLOCK_BOOTTIME comes to `lease_due_us`, `check_lease` is called, before any message is read.
* `StartTimer` is answered by `timer_over` with it after that time, by a clock that is never set;
  an attempt that has ended in between does not mind. A GRACE counts from now. LIMIT and WARNING
  count the attempt's run time: from the answer to its `Spawn`, and not while it is suspended.
  A later one takes the place of an earlier one of the same attempt and purpose.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from titan.model import AttemptKey
from titan.worker.host.records import Record
from titan.worker.messages import DeviceIds, Environment, Launch, Report


class Spawn(NamedTuple):
    """Start the attempt's process; answer with `started` or `not_launched`."""

    key: AttemptKey
    launch: Launch
    environment: Environment
    devices: DeviceIds = ()
    """What it has for itself; `gpu` without ids: of those none, although there are some."""


class Signal(NamedTuple):
    """Send the signal to all processes of a running attempt."""

    key: AttemptKey
    signal: int


class Purpose(IntEnum):
    """What a timer of an attempt is for."""

    GRACE = 1
    """It was asked to end, and should have by then."""
    LIMIT = 2
    """It may run no longer."""
    WARNING = 3
    """Its time limit is near, and it wants to be told by a signal."""


class StartTimer(NamedTuple):
    """Call `timer_over` with this after that time."""

    key: AttemptKey
    after_ms: int
    purpose: Purpose


class DropLimit(NamedTuple):
    """Forget its LIMIT and its WARNING: it may run for ever."""

    key: AttemptKey


class Suspend(NamedTuple):
    """Stop all processes of a running attempt until they stand still, and its run time."""

    key: AttemptKey


class Resume(NamedTuple):
    """Let all processes of a running attempt go on, and its run time."""

    key: AttemptKey


class Journal(NamedTuple):
    """Write the record down before anything that follows."""

    record: Record


class Emit(NamedTuple):
    """Pass the report to the agent, if there is one: a new one gets it with `reports`."""

    report: Report
    wait_us: int = 0
    """Of an end: for so long it may go untold, and no slot stands still for want of new tasks."""


class TellDirectEnd(NamedTuple):
    """Tell the agent, if there is one, that a program which a client started has ended."""

    key: AttemptKey


class Left(NamedTuple):
    """After `leave`: nothing runs any more."""


Action: TypeAlias = (
    Spawn
    | Signal
    | StartTimer
    | DropLimit
    | Suspend
    | Resume
    | Journal
    | Emit
    | TellDirectEnd
    | Left
)
