"""How an attempt ended: what ended it counts more than how it took that. Pure."""

from __future__ import annotations

from typing import NamedTuple

from titan.model import Reason, State
from titan.worker import signals
from titan.worker.messages import Exit


class Doom(NamedTuple):
    """A limit that an attempt broke, and for which it was ended."""

    reason: Reason
    detail: str
    """A sentence for people."""


def judge(how: Exit, doom: Doom | None, *, is_cancelled: bool) -> tuple[State, Reason, str]:
    """State, reason and detail of an attempt that ran.

    One that was cancelled is CANCELLED even if it exited with 0, and one that broke a limit
    has FAILED; of the two the first counts, so at most one of them is given.
    """
    assert doom is None or not is_cancelled, "what came second is not noted"
    state, reason, detail = State.FAILED, Reason.EXIT, f"exit code {how.exit_code}"
    if how.signal is not None:
        reason, detail = Reason.SIGNAL, f"killed by {signals.describe(how.signal)}"
    elif how.exit_code == 0:
        state, detail = State.COMPLETED, ""
    if is_cancelled:
        return State.CANCELLED, Reason.CANCELLED, detail
    if doom is None and how.oom:
        doom = Doom(Reason.OOM, how.oom)
    if doom is not None:
        return State.FAILED, *doom
    if how.not_run:
        return State.FAILED, Reason.LAUNCH_ERROR, how.not_run
    if how.note and state is State.FAILED:
        detail = f"{detail}; {how.note}"
    return state, reason, detail
