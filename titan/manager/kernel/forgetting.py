"""Forgetting: jobs that ended leave the memory by age and by number. The log still has them."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.manager.kernel.desk import Desk

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
    chosen: list[int] = []
    for job_id in jobs.ended_ids():
        head = jobs.head(job_id)
        is_over = over > 0 and job_id != last
        if len(chosen) == FORGOTTEN_AT_ONCE_MAX or not (is_over or head.ended_us <= old_us):
            break
        over -= head.weight
        chosen.append(job_id)
    if chosen:
        desk.emit(ev.JobsForgotten(tuple(chosen)))
