"""A task host's bookkeeping in some state, and what is asked of it."""

from __future__ import annotations

from typing import Any

from tests.worker.builders import batch, key, launch
from titan.model import Stop, StopMode
from titan.worker.host.actions import Action, Emit, Purpose, Spawn, StartTimer
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.messages import Exit, Report

OK = Exit(0, None)


def spawned(actions: list[Action]) -> list[int]:
    """The indexes of the attempts that are to be spawned."""
    return [action.key.index for action in actions if isinstance(action, Spawn)]


def emitted(actions: list[Action]) -> list[Report]:
    return [action.report for action in actions if isinstance(action, Emit)]


def running(count: int = 1, slots: int = 1_000, **limit: Any) -> Bookkeeping:
    """A host on which indexes 0 … count-1 of job 1 run as processes 100, 101, …"""
    book = Bookkeeping()
    book.start(batch(launch(**limit), indexes=range(count), slots=slots))
    for index in range(count):
        book.started(key(index=index), 100 + index, 7, 1_000)
    return book


def ring(book: Bookkeeping, purpose: Purpose, after_ms: int | None = None) -> list[Action]:
    """That timer of index 0 is over; by default as it was launched."""
    attempt = book.find(key())
    if after_ms is None and attempt is not None:
        shared = attempt.launch
        after_ms = {
            Purpose.GRACE: shared.grace_ms,
            Purpose.LIMIT: shared.time_limit_ms,
            Purpose.WARNING: shared.time_limit_ms - shared.end_signal_before_ms,
        }[purpose]
    return book.timer_over(StartTimer(key(), after_ms or 0, purpose))


def wish(mode: StopMode, index: int = 0, time_limit_ms: int = 0) -> list[Stop]:
    return [Stop(key(index=index), mode, 0, time_limit_ms=time_limit_ms)]


def cancel(index: int = 0, grace_ms: int = 500) -> list[Stop]:
    return [Stop(key(index=index), StopMode.CANCEL, grace_ms)]


def recall(index: int = 0) -> list[Stop]:
    return [Stop(key(index=index), StopMode.RECALL, 0)]
