"""Forgetting: jobs that ended leave the memory by age, number and size. The log still has them."""

from __future__ import annotations

from collections import Counter
from typing import Final

from titan.manager.kernel.desk import Desk
from titan.state.cluster import ClusterState
from titan.state.tables import environment_bytes

# Per tick: together some 10 ms, and five times what a busy manager ends meanwhile.
FORGOTTEN_AT_ONCE_MAX: Final = 2_000
PACKED_AT_ONCE_MAX: Final = 2_000


def forget_jobs(desk: Desk) -> None:
    """Lets the jobs that ended first go, those that are over a limit."""
    if desk.room:
        _forget(desk)
    # Packed or not is nobody's business but the memory's: no event tells of it.
    desk.state.jobs.pack_ended(PACKED_AT_ONCE_MAX)


def _forget(desk: Desk) -> None:
    jobs = desk.state.jobs
    settings = desk.settings
    over = jobs.ended_weight - settings.forget_over
    old_us = desk.now_us - settings.forget_after_us
    # However large it is, the last one to end is not gone with the next tick.
    last = jobs.last_ended if settings.forget_over else None
    environments = _Environments(desk.state, settings.forget_over_environment_bytes)
    chosen: list[int] = []
    for job_id in jobs.ended_ids():
        head = jobs.head(job_id)
        is_over = (over > 0 or environments.over > 0) and job_id != last
        if len(chosen) == FORGOTTEN_AT_ONCE_MAX or not (is_over or head.ended_us <= old_us):
            break
        over -= head.weight
        environments.forget(head.environment)
        chosen.append(job_id)
    if chosen:
        desk.forget_jobs(tuple(chosen))


class _Environments:
    """How much is over the limit, were the jobs forgotten that were named here."""

    def __init__(self, state: ClusterState, limit: int) -> None:
        self.over = state.environment_bytes - limit
        self._state = state
        self._forgotten: Counter[bytes] = Counter()

    def forget(self, environment: bytes) -> None:
        """A job with it; it goes with the last one."""
        if self.over <= 0:
            return
        self._forgotten[environment] += 1
        if self._forgotten[environment] == self._state.environment_jobs[environment]:
            self.over -= environment_bytes(self._state.environments[environment])
