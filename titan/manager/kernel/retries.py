"""Retries: whether a task that failed is tried again, and after how long."""

from __future__ import annotations

import hashlib
from typing import Final

from titan.manager.kernel.commands import Report
from titan.manager.kernel.desk import Desk
from titan.manager.kernel.outbox import key_of
from titan.model import Reason
from titan.state.attempts import Attempt
from titan.state.job import Job

# The delay doubles with each retry from the first to the longest; of each a part is drawn, so
# that tasks that failed together do not come back together (exponential backoff with jitter,
# https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, "equal jitter").
FIRST_DELAY_US: Final = 1_000_000
LONGEST_DELAY_US: Final = 300_000_000


def has_retry(job: Job, report: Report) -> bool:
    """Whether the task that failed so is to be tried again."""
    scheduling = job.scheduling
    if _used(job, report.key.index) >= scheduling.retries:
        return False
    exited = report.reason is Reason.EXIT and report.exit_code in scheduling.retry_on
    return exited or not scheduling.retry_on


def retry_delay_us(desk: Desk, attempt: Attempt, report: Report) -> int:
    """How long the task of a failed attempt waits for its next try; 0: there is none."""
    job = desk.state.get_job(attempt.job_id)
    if not has_retry(job, report):
        return 0
    whole_us = min(FIRST_DELAY_US << min(_used(job, attempt.index), 30), LONGEST_DELAY_US)
    return whole_us // 2 + _draw(desk, attempt) % (whole_us // 2 + 1)


def _used(job: Job, index: int) -> int:
    return job.waits.retries_used.get(index, 0) if job.waits is not None else 0


def _draw(desk: Desk, attempt: Attempt) -> int:
    """A number that looks random and is the same for the same attempt. Pure, as all here."""
    text = repr(tuple(key_of(desk.state, attempt))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
