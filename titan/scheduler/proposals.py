"""What a pass proposes; the kernel answers for each and makes events of it."""

from __future__ import annotations

from typing import NamedTuple

from titan.scheduler.preemption import Victims
from titan.state.attempts import Attempt


class Placement(NamedTuple):
    """A task should go there."""

    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    worker: int
    ahead: bool
    rule: int


class Resumption(NamedTuple):
    """A suspended attempt has its cpus again."""

    attempt: Attempt


class Keeping(NamedTuple):
    """A worker should be kept for a job that nobody can say a time for."""

    worker: int
    job_id: int


class Lifting(NamedTuple):
    """A worker need not be kept any more."""

    worker: int


class Preemption(NamedTuple):
    """These make room for a job."""

    victims: Victims
    job_id: int


Proposal = Placement | Resumption | Keeping | Lifting | Preemption
