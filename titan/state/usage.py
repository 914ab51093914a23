"""What every slot that is taken or given back changes beside its worker.

Kept by `Worker`, read by the scheduler: which workers changed since it looked last, and how
many cpus each user has.
"""

from __future__ import annotations


class Usage:
    """Shared by the workers of one state. Changed by the state's apply alone.

    `touched` is emptied by whoever looks after the workers that changed; it is no part of what
    the log says.
    """

    __slots__ = ("touched", "user_cpus_milli")

    def __init__(self) -> None:
        self.touched: dict[int, None] = {}
        # Of slot attempts that are not suspended; users with none are left out.
        self.user_cpus_milli: dict[str, int] = {}

    def add_cpus(self, user: str, cpus_milli: int) -> None:
        """So many more, or less."""
        cpus = self.user_cpus_milli.get(user, 0) + cpus_milli
        if cpus:
            self.user_cpus_milli[user] = cpus
        else:
            self.user_cpus_milli.pop(user, None)
