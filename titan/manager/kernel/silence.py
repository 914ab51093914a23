"""Silence: who is lost for not being heard, and when many fall silent at once.

A worker that is silent for half the timeout gets nothing new, and one that is silent for the whole
of it is lost: what it ran runs again elsewhere. Where a good part of the fleet falls silent at the
same time, it is likelier that the network has failed than all of these machines. To run what they
have on those that are left would be a flood for nothing. So these workers are held back, once,
for another timeout. Kubernetes' node controller does alike, by the part of a zone that is not
ready: https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Final

from titan import events as ev
from titan.manager.kernel.desk import Desk
from titan.model import WorkerState

# So many at least, more than a third of those that were heard until then, and all of them heard
# last within so long. Small fleets are not held back: their users wait for what was lost.
HELD_BACK_MIN: Final = 4
HELD_BACK_PART: Final = 3
TOGETHER_US: Final = 10_000_000


def check_silence(desk: Desk) -> None:
    """UNHEALTHY after half the timeout, DISCONNECTED after the whole of it, or after two."""
    timeout = desk.settings.heartbeat_timeout_us
    turned = desk.turned_us
    silent = list(takewhile(lambda each: (turned - each[1]) * 2 >= timeout, desk.heard_us.items()))
    for position, (number, heard) in enumerate(silent):
        silence = turned - heard
        worker = desk.state.get_worker(number)
        if silence < timeout:
            if worker.state is WorkerState.HEALTHY and desk.room:
                desk.emit(ev.WorkerUnhealthy(number))
                desk.schedule_wanted = True
            continue
        # No more than these can have fallen silent with it: mostly that is too few.
        may_be_many = HELD_BACK_PART * (len(silent) - position) > (
            len(desk.heard_us) - len(desk.held_back)
        )
        if may_be_many and number not in desk.held_back:
            _hold_back(desk, heard)
        if silence < 2 * timeout and number in desk.held_back:
            continue
        for attempt in list(worker.attempts.values()):
            seconds = silence // 1_000_000
            desk.lose_attempt(attempt, f"{worker.name} was not heard for {seconds} s")
        desk.emit(ev.WorkerLost(number))
        desk.schedule_wanted = True
        desk.close_session(number)
        desk.forget_silence(number)


def _hold_back(desk: Desk, first_us: int) -> None:
    """Holds back all that fell silent with the one heard last at `first_us`, if they are many.

    O(silent workers).
    """
    timeout = desk.settings.heartbeat_timeout_us
    last_us = min(first_us + TOGETHER_US, desk.turned_us - timeout // 2)
    silent = list(takewhile(lambda each: each[1] <= last_us, desk.heard_us.items()))
    # Those that were heard at that time or since, and those of them that are not any more.
    fleet = len(desk.heard_us) - sum(heard < first_us for _, heard in silent)
    together = [
        number for number, heard in silent if heard >= first_us and number not in desk.held_back
    ]
    if len(together) < HELD_BACK_MIN or HELD_BACK_PART * len(together) <= fleet:
        return
    fault = (
        f"fell silent together with {len(together) - 1} of {fleet - 1} other workers: likelier the "
        f"network than all of them; what it runs is kept until it was silent for "
        f"{2 * timeout / 1e6:g} s"
    )
    for number in together:
        desk.held_back[number] = None
        if desk.room:
            desk.emit(ev.WorkerUnhealthy(number, fault))
    desk.schedule_wanted = True
