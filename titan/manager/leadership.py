"""Whether this manager leads: whether anything may leave it.

A manager that shares its log with others leads for as long as its lease holds, by its own clock.
After that another one may have taken over: what this one believes may be old, and what it sends
would come from two managers at once. So it is looked at last, when all else is waited for, in the
turn of the loop that hands the bytes to gRPC.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from titan.errors import NotLeader


class Leadership(Protocol):
    """What a manager knows of who leads."""

    @property
    def term(self) -> int:
        """The number of the lease that it holds, or as far as it knows another does; 0: there is
        no lease."""

    @property
    def leader(self) -> str:
        """HOST:PORT of the manager that leads, as far as this one knows; empty: it doesn't.

        Its own as long as it leads, and not any more when it does not.
        """

    @property
    def seconds_left(self) -> float:
        """How long its lease holds if nothing is heard any more; infinite without one, and not
        above 0 where it does not lead."""

    def leads(self) -> bool:
        """Whether it holds at this moment. Quick, and asked from any thread."""


class Alone:
    """Of a manager whose log nobody else can write to: the lock on its directory sees to that."""

    term = 0
    leader = ""
    seconds_left = math.inf

    def leads(self) -> bool:
        """Always."""
        return True


ALONE: Final = Alone()


def check_leads(leadership: Leadership) -> None:
    """Raises NotLeader, which says who leads as far as that is known."""
    if not leadership.leads():
        raise not_leader(leadership)


def not_leader(leadership: Leadership) -> NotLeader:
    """What a manager answers that does not lead."""
    leader = leadership.leader
    who = f"{leader} does" if leader else "it does not know who does"
    return NotLeader(f"this manager does not lead: {who}", leader=leader)
