"""What `titan dev` tells while its cluster runs: of jobs, and of workers that take none."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from titan.cli.describe import outcome_sentence, state_text, total_tasks
from titan.cli.text import coloured_state, printable
from titan.client.aio_session import AioSession
from titan.client.cursors import WatchCursor, has_ended
from titan.rpc.v1 import manager_pb2, types_pb2

# A disk does not fill up in less.
_FAULTS_SECONDS: Final = 1.0


async def tell_faults(session: AioSession) -> None:
    """A line when a worker finds itself unable to take tasks, and when that is over, for ever."""
    told: dict[str, str] = {}
    while True:
        for worker in (await session.workers()).workers:
            if worker.fault != told.get(worker.name, ""):
                told[worker.name] = worker.fault
                state = "UNHEALTHY" if worker.fault else "HEALTHY"
                what = f"it takes no tasks: {worker.fault}" if worker.fault else "it takes tasks"
                if "--disk-free-min" in worker.fault:
                    what += "; TITAN_WORKER_DISK_FREE_MIN in the environment sets another minimum"
                _print_line(f"worker {worker.name} is {state}: {what}", state)
        await asyncio.sleep(_FAULTS_SECONDS)


async def tell_jobs(session: AioSession, lsn: int) -> None:
    """A line for each job's start and end, for ever."""
    started: set[int] = set()
    async with aclosing(session.watch(WatchCursor(after_lsn=lsn))) as changes:
        async for changed in changes:
            for job in changed:
                _tell_job(job, started, _print_line)


def _tell_job(job: manager_pb2.Job, started: set[int], tell: Callable[[str, str], None]) -> None:
    if job.start_us and job.job_id not in started:
        started.add(job.job_id)
        total = total_tasks(job)
        what = f" ({total} tasks)" if job.array else ""
        where = f" on {job.worker}" if job.worker else ""
        tell(f"job {job.job_id} {job.name}{what} started{where}", "RUNNING")
    elif job.state == types_pb2.PENDING:
        # It was lost or handed back, and will start again.
        started.discard(job.job_id)
    if has_ended(job):
        started.discard(job.job_id)
        tell(outcome_sentence(job), state_text(job))


def _print_line(text: str, state: str) -> None:
    shown = printable(text).replace(state, coloured_state(state, sys.stdout), 1)
    print(f"{time.strftime('%H:%M:%S')}  {shown}", flush=True)
