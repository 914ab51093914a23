"""What a worker must not be sent: secrets, where its agent is too old to give them to tasks.

Such an agent passes over what it does not know, and would run the task without.
"""

from __future__ import annotations

from titan.manager.kernel.desk import Desk
from titan.manager.kernel.outbox import Outbox
from titan.model import Reason, State


def end_withheld(desk: Desk) -> None:
    """Ends what has secrets and waits to be sent to such a worker.

    Called before batches are made; costs nothing for workers that take secrets.
    """
    for number in list(desk.ready_outboxes):
        outbox = desk.outboxes.get(number)
        if outbox is not None and not outbox.takes_secrets:
            _end_secret(desk, outbox)


def _end_secret(desk: Desk, outbox: Outbox) -> None:
    state = desk.state
    for attempt in outbox.waiting_starts():
        job = state.get_job(attempt.job_id)
        if not state.environments[job.environment].secret_id:
            continue
        name = state.get_worker(outbox.worker).name
        desk.end_attempt(
            attempt,
            state=State.FAILED,
            reason=Reason.LAUNCH_ERROR,
            task_state=State.FAILED,
            detail=f"{name} runs an older Titan, which gives tasks no secrets: update that worker",
        )
