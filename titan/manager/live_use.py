"""What attempts that run use now: asked of their workers, for whoever looks at a job."""

from __future__ import annotations

import asyncio
from typing import Final

from titan.manager.kernel.outbox import Outbox
from titan.manager.pull import Unanswered
from titan.manager.reach import Reach
from titan.manager.shell import Shell
from titan.rpc.v1 import manager_pb2, task_pb2, types_pb2

# Whoever looks at a job waits no longer for it.
ANSWER_SECONDS: Final = 1.0
# A worker tells of so many at a time.
ATTEMPTS_PER_WORKER_MAX: Final = 1_000
WORKERS_AT_ONCE_MAX: Final = 64


async def add_live_use(
    shell: Shell, reach: Reach, response: manager_pb2.GetJobStatusResponse
) -> None:
    """Add it to the attempts shown that run. What is not answered in time is left out."""
    kernel = shell.kernel
    job = kernel.state.jobs.get(response.job.job_id)
    if job is None:
        return
    wanted: dict[int, dict[tuple[int, int], manager_pb2.Attempt]] = {}
    for shown in response.attempts:
        attempt = job.active.get(shown.index)
        if shown.state == types_pb2.RUNNING and attempt and attempt.attempt == shown.attempt:
            of_worker = wanted.setdefault(attempt.worker, {})
            if len(of_worker) < ATTEMPTS_PER_WORKER_MAX:
                of_worker[shown.index, shown.attempt] = shown
    at_once = asyncio.Semaphore(WORKERS_AT_ONCE_MAX)
    epoch = job.epoch

    async def ask(outbox: Outbox, shown: dict[tuple[int, int], manager_pb2.Attempt]) -> None:
        keys = [
            types_pb2.AttemptKey(
                epoch=epoch, job_id=response.job.job_id, index=index, attempt=attempt
            )
            for index, attempt in shown
        ]
        async with at_once:
            answer = await reach.get_status(outbox, task_pb2.GetTaskStatusRequest(keys=keys))
        for task in answer.tasks:
            # A worker may tell of what it was not asked for.
            if (attempt := shown.get((task.key.index, task.key.attempt))) is not None:
                _add(attempt, task)

    asking = [
        asyncio.create_task(ask(outbox, shown))
        for number, shown in wanted.items()
        if (outbox := kernel.outboxes.get(number)) is not None
    ]
    if not asking:
        return
    try:
        await asyncio.wait(asking, timeout=ANSWER_SECONDS)
    finally:
        for each in asking:
            each.cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
    for result in results:
        if not isinstance(result, Unanswered | asyncio.CancelledError | None):
            raise result


def _add(shown: manager_pb2.Attempt, task: task_pb2.TaskStatus) -> None:
    if task.HasField("rss_bytes"):
        shown.rss_bytes = task.rss_bytes
        shown.max_rss_bytes = task.max_rss_bytes
        shown.cpu_user_us, shown.cpu_system_us = task.cpu_user_us, task.cpu_system_us
