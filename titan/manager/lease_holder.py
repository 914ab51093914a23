"""The lease by which this manager leads, or the wait for one.

The database says who has it, by its own clock. This manager counts on it up to a deadline of its
own, by a clock that goes on while the machine or the process sleeps, and measured from before it
asked: so it stops counting before the database lets another one have it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Final, Protocol

from titan.journal.errors import Deposed, JournalUnavailable
from titan.journal.lease import Deadline, Lease
from titan.logs import LogLine

_log = logging.getLogger("titan.lease")

RENEWALS: Final = 3
"""So often it is renewed while it lasts."""
RETRY_SECONDS: Final = 0.2
# A loop that stands still for longer is not slow but stuck: another manager is to lead.
STUCK_SECONDS: Final = 30.0


def boottime_ns() -> int:
    """The clock that counts a suspend, too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Leases(Protocol):
    """Where the lease is; `titan.journal.lease.LeaseTable` says more."""

    def read(self) -> Lease:
        """Who has it."""

    def try_take(self, holder: str, address: str, seconds: float) -> int | None:
        """The term that begins with this; None: somebody has it."""

    def renew(self, term: int, seconds: float, address: str) -> bool:
        """False: another term has begun."""

    def release(self, term: int) -> None:
        """Lets it go, if that term has it."""


class LeaseHolder:
    """One manager's hold on the lease: a `Leadership`.

    Taken and given back by whoever runs the manager; once taken renewed by a thread of its own, so
    that a long turn of the loop costs no lease.
    """

    def __init__(
        self,
        table: Leases,
        *,
        seconds: float,
        address: str,
        clock_ns: Callable[[], int] = boottime_ns,
    ) -> None:
        """`address` is what callers are told while this one leads. Nothing is asked yet."""
        self.seconds: Final = seconds
        self.address: Final = address
        self.term = 0
        """The last that was heard of; this manager's own while it leads."""
        self._leader = ""
        self.is_free_in_seconds = seconds
        """When somebody else could have it, as of the last look."""
        self._table = table
        # Of this process alone, for those who look into the table.
        self._holder = f"{address} {uuid.uuid4()}"
        self._clock_ns = clock_ns
        self._deadline: Deadline | None = None
        self._is_given_up = False
        self._mutex = Lock()
        self._turned_ns = clock_ns()
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def seconds_left(self) -> float:
        """How long it holds if nothing is heard any more; not above 0: this one does not lead."""
        deadline = self._deadline
        return 0.0 if deadline is None else deadline.seconds_left(self._clock_ns())

    @property
    def leader(self) -> str:
        """The address of who holds it, as far as this one has heard; never its own in vain."""
        return "" if self._leader == self.address and not self.leads() else self._leader

    def leads(self) -> bool:
        """Whether this manager may count on it, at this moment."""
        deadline = self._deadline
        return deadline is not None and deadline.holds(self._clock_ns())

    def look(self) -> None:
        """Finds out who has it. Blocks. Raises JournalUnavailable."""
        lease = self._table.read()
        self.term, self._leader = lease.term, lease.address if lease.seconds_left > 0 else ""
        self.is_free_in_seconds = max(lease.seconds_left, 0.0)

    def take(self) -> bool:
        """Takes it if it is free, and returns whether; from then on others can append no more.

        Blocks. Raises JournalUnavailable.
        """
        asked_ns = self._clock_ns()
        term = self._table.try_take(self._holder, self.address, self.seconds)
        if term is None:
            return False
        self.term, self._leader = term, self.address
        with self._mutex:
            self._deadline = Deadline.of(asked_ns, self.seconds)
        return True

    def keep(self, on_lost: Callable[[BaseException], None]) -> None:
        """Renews it from now on, until it is let go.

        `on_lost` is called once at most, in the thread that renews: this manager leads no more.
        """
        self._turned_ns = self._clock_ns()
        self._thread = Thread(target=self._renew, args=(on_lost,), name="lease", daemon=True)
        self._thread.start()

    def note_turn(self) -> None:
        """The loop turns: a manager that is stuck is to lose its lease."""
        self._turned_ns = self._clock_ns()

    def give_up(self) -> None:
        """From now on this one leads no more, whatever the database says. In any thread."""
        with self._mutex:
            self._is_given_up = True
            self._deadline = None
        self._stop.set()

    def let_go(self) -> None:
        """Gives it up and back, so that another one need not wait. Blocks. Nothing is raised."""
        term, had_it = self.term, self._thread is not None
        self.give_up()
        if self._thread is not None:
            self._thread.join()
        if had_it:
            try:
                self._table.release(term)
            except JournalUnavailable as error:
                _log.warning("the lease was not given back, and runs out: %s", error)

    def _lapsed_seconds(self) -> float:
        deadline = self._deadline
        return 0.0 if deadline is None else (self._clock_ns() - deadline.ends_ns) / 1e9

    def _renew(self, on_lost: Callable[[BaseException], None]) -> None:
        wait_seconds = self.seconds / RENEWALS
        while not self._stop.wait(wait_seconds):
            asked_ns = self._clock_ns()
            if asked_ns - self._turned_ns > STUCK_SECONDS * 1e9:
                on_lost(Deposed(f"the manager did not turn for {STUCK_SECONDS:g} s"))
                return
            try:
                is_ours = self._table.renew(self.term, self.seconds, self.address)
            except JournalUnavailable as error:
                if self._lapsed_seconds() >= self.seconds:
                    on_lost(error)
                    return
                _log.warning(LogLine("the lease was not renewed", detail=error))
                wait_seconds = RETRY_SECONDS
                continue
            if not is_ours:
                on_lost(Deposed(f"another manager leads since term {self.term}"))
                return
            wait_seconds = self.seconds / RENEWALS
            with self._mutex:
                if not self._is_given_up:
                    self._deadline = Deadline.of(asked_ns, self.seconds)
