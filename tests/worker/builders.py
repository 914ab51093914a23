"""Batches, keys and launches for tests: what a test does not name is ordinary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from titan.model import AttemptKey
from titan.worker.messages import Environment, Launch, Start, StartBatch

EPOCH = 0xE0E0


def key(job_id: int = 1, index: int = 0, attempt: int = 1) -> AttemptKey:
    """The key of an attempt of a job of this epoch."""
    return AttemptKey(EPOCH, job_id, index, attempt)


def launch(
    *command: str | bytes,
    job_id: int = 1,
    class_id: int = 1,
    cwd: bytes = b"/",
    array_count: int = 0,
    cpus_milli: int = 1000,
    memory_bytes: int = 0,
    **options: Any,
) -> Launch:
    """What the tasks of a job share; `options` are those of Launch."""
    words = tuple(word.encode() if isinstance(word, str) else word for word in command)
    return Launch(
        EPOCH,
        job_id,
        f"job-{job_id}",
        words or (b"true",),
        cwd,
        0,
        cpus_milli,
        memory_bytes,
        class_id,
        array_count,
        **options,
    )


def batch(
    *launches: Launch,
    indexes: Sequence[int] = (0,),
    attempt: int = 1,
    slots: Mapping[int, int] | int = 1_000_000,
    exported: Mapping[bytes, bytes] | None = None,
    chosen: Mapping[bytes, bytes] | None = None,
) -> StartBatch:
    """These indexes of each of the launches; by default all may run at once."""
    environment = Environment(
        tuple((exported or {}).items()),
        tuple((chosen or {}).items()),
    )
    starts = [Start(number, index, attempt) for number in range(len(launches)) for index in indexes]
    if isinstance(slots, int):
        slots = {each.class_id: slots for each in launches}
    return StartBatch((environment,), launches, tuple(starts), tuple(slots.items()))
