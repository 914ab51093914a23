"""Forgetting: jobs that ended leave the memory by age and by number. The log still has them."""

from __future__ import annotations

from typing import Final

from titan import events as ev
from titan.manager.kernel.desk import Desk

# Per tick: together a few milliseconds, and five times what a busy manager ends meanwhile.
FORGOTTEN_AT_ONCE_MAX: Final = 2_000
PACKED_AT_ONCE_MAX: Final = 2_000


def forget_jobs(desk: Desk) -> None:
    """Lets the jobs that ended first go, those that are over a limit."""
    jobs = desk.state.jobs
    # Packed or not is nobody's business but the memory's: no event tells of it.
    jobs.pack_ended(PACKED_AT_ONCE_MAX)
    if not desk.room:
        return
    settings = desk.settings
    tasks_over = jobs.ended_tasks - settings.forget_over_tasks
    old_us = desk.now_us - settings.forget_after_us
    chosen: list[int] = []
    for job_id in jobs.ended_ids():
        if len(chosen) == FORGOTTEN_AT_ONCE_MAX:
            break
        job = jobs[job_id]
        if tasks_over <= 0 and job.ended_us > old_us:
            break
        tasks_over -= job.tasks_total
        chosen.append(job_id)
    if chosen:
        desk.emit(ev.JobsForgotten(tuple(chosen)))
