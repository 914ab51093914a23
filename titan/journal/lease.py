"""Who leads: the lease in the database, and how long its holder may believe in it.

The database's clock decides when a lease is over, and its holder's own clock, from before it asked,
when it stops: it counts less than it was granted, so it stops first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from titan.journal.database import Database
from titan.journal.schema import CHANNEL, SCHEMA
from titan.journal.session import Session

MARGIN_SHARE: Final = 0.1
MARGIN_SECONDS_MIN: Final = 0.5
LOCK_FIRST: Final = "SET lock_timeout = 3000"
"""How the session of who takes the lease begins: the server is to give up before this side does, or
it would take the lease for nobody. In milliseconds."""


class Deadline(NamedTuple):
    """Until when a holder may believe in a lease, by a clock of its own that counts suspends."""

    asked_ns: int
    """When it asked: the database granted it no earlier."""
    seconds: float
    margin_seconds: float

    @classmethod
    def of(cls, asked_ns: int, seconds: float) -> Deadline:
        """That of a lease of so many seconds, less what two clocks may differ by meanwhile."""
        margin = max(seconds * MARGIN_SHARE, min(MARGIN_SECONDS_MIN, seconds / 2))
        return cls(asked_ns, seconds, margin)

    @property
    def ends_ns(self) -> int:
        """The first moment at which it does not hold any more."""
        return self.asked_ns + round((self.seconds - self.margin_seconds) * 1e9)

    def holds(self, now_ns: int) -> bool:
        """Whether nobody else can lead yet."""
        return now_ns < self.ends_ns

    def seconds_left(self, now_ns: int) -> float:
        """0: it is over."""
        return max(0.0, (self.ends_ns - now_ns) / 1e9)


class Lease(NamedTuple):
    """What stands in the table."""

    term: int
    holder: str
    address: str
    seconds_left: float
    """By the database's clock; 0: it is over, and anybody may take it."""


class LeaseTable:
    """The lease. What a method raises is JournalUnavailable or JournalRefused.

    After JournalUnavailable a change may have been made all the same. now() would be the beginning
    of a transaction: what counts is the moment.
    """

    def __init__(self, database: Database, session: Session | None = None) -> None:
        """`session`: one that others use, too, and that begins with LOCK_FIRST."""
        self._session = session or Session(database, "lease", on_connect=LOCK_FIRST)

    def close(self) -> None:
        """Ends the connection."""
        self._session.close()

    def read(self) -> Lease:
        """Who leads."""
        ((term, holder, address, seconds),) = self._session.execute(
            f"SELECT term, holder, address, greatest(0, coalesce({_SECONDS_LEFT}, 0))::float8"
            f" FROM {SCHEMA}.lease"
        )
        return Lease(term, holder, address, seconds)

    def try_take(self, holder: str, address: str, seconds: float) -> int | None:
        """The term that begins with this, if nobody holds the lease; None: somebody does.

        It waits for an append that is under way; the term before can append nothing afterwards.
        `holder` names one process. Waited for is some seconds: then it is JournalUnavailable.
        """
        taken = self._session.execute(
            f"UPDATE {SCHEMA}.lease SET term = term + 1, holder = %s, address = %s,"
            " expires = clock_timestamp() + make_interval(secs => %s)"
            " WHERE expires <= clock_timestamp()"
            f" RETURNING term, pg_notify('{CHANNEL}', '')",
            (holder, address, float(seconds)),
        )
        return int(taken[0][0]) if taken else None

    def renew(self, term: int, seconds: float, address: str) -> bool:
        """Holds it for so long from now on; False: another term has begun, or it was released."""
        return bool(
            self._session.execute(
                f"UPDATE {SCHEMA}.lease SET address = %s,"
                " expires = clock_timestamp() + make_interval(secs => %s)"
                " WHERE term = %s AND holder <> '' RETURNING term",
                (address, float(seconds), term),
            )
        )

    def release(self, term: int) -> None:
        """Lets it go, if that term has it, and tells those who wait for it."""
        self._session.execute(
            f"UPDATE {SCHEMA}.lease SET expires = '-infinity', holder = '', address = ''"
            f" WHERE term = %s RETURNING pg_notify('{CHANNEL}', '')",
            (term,),
        )


_SECONDS_LEFT: Final = (
    "CASE WHEN isfinite(expires) THEN extract(epoch FROM expires - clock_timestamp()) END"
)
