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

from titan.errors import TitanError
from titan.journal.errors import Deposed
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
        taking: Leases | None = None,
        clock_ns: Callable[[], int] = boottime_ns,
    ) -> None:
        """`address` is what callers are told while this one leads. Nothing is asked yet.

        `taking`: by which it is taken, if not by `table`.
        """
        self.seconds: Final = seconds
        self.address: Final = address
        self.term = 0
        """The last that was heard of; this manager's own while it leads."""
        self._leader = ""
        self.is_free_in_seconds = seconds
        """When somebody else could have it, as of the last look."""
        self._table = table
        self._taking = taking or table
        # Of this process alone: one that begins anew is another holder.
        self._holder = f"{address} {uuid.uuid4()}"
        self._clock_ns = clock_ns
        self._deadline: Deadline | None = None
        self._is_given_up = False
        self._is_address_told = False
        self._is_taken = False
        self.may_be_taken = False
        """Whether there may be something to give back: it is asked for, or was taken."""
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
        # One of before that was killed under this address renews nothing.
        is_renewed = lease.term == self.term and lease.seconds_left > self.is_free_in_seconds
        if is_renewed and lease.address == self.address and not self._is_address_told:
            self._is_address_told = True
            _log.warning(
                "another manager leads under the address of this one, %s: each needs one of its "
                "own (--advertise, or --listen)",
                self.address,
            )
        self.term, self._leader = lease.term, lease.address if lease.seconds_left > 0 else ""
        self.is_free_in_seconds = max(lease.seconds_left, 0.0)

    def take(self) -> bool:
        """Takes it if it is free, and returns whether; from then on others can append no more.

        Blocks. Raises JournalUnavailable.
        """
        asked_ns = self._clock_ns()
        self.may_be_taken = True
        term = self._taking.try_take(self._holder, self.address, self.seconds)
        if term is None:
            self.may_be_taken = False
            return False
        self.term, self._leader = term, self.address
        with self._mutex:
            self._is_taken = True
            if not self._is_given_up:
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
        """Gives it up and back, so that another one need not wait. Blocks. Nothing is raised.

        Again it does nothing.
        """
        self.give_up()
        if self._thread is not None:
            self._thread.join()
        self.may_be_taken = False
        if self._is_taken:
            self._is_taken = False
            try:
                self._table.release(self.term)
            except TitanError as error:
                _log.warning("the lease was not given back, and runs out: %s", error)

    def _lapsed_seconds(self) -> float:
        deadline = self._deadline
        return 0.0 if deadline is None else (self._clock_ns() - deadline.ends_ns) / 1e9

    def _renew(self, on_lost: Callable[[BaseException], None]) -> None:
        try:
            self._keep_renewing(on_lost)
        except BaseException as error:  # noqa: BLE001  (nothing may leave this thread unnoticed)
            on_lost(error)

    def _keep_renewing(self, on_lost: Callable[[BaseException], None]) -> None:
        wait_seconds = self.seconds / RENEWALS
        while not self._stop.wait(wait_seconds):
            asked_ns = self._clock_ns()
            if asked_ns - self._turned_ns > STUCK_SECONDS * 1e9:
                on_lost(Deposed(f"the manager did not turn for {STUCK_SECONDS:g} s"))
                return
            try:
                is_ours = self._table.renew(self.term, self.seconds, self.address)
            except TitanError as error:
                # What is refused may be granted again, too, as after a failover.
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
