"""What workers have and are told, in short words."""

from __future__ import annotations

from typing import Any

from tests.manager.builders import FakeHost, Rig, new_job
from titan.model import AttemptKey, Stop


def running(rig: Rig, host: FakeHost, **fields: Any) -> int:
    """A job of one task that runs there."""
    (job_id,) = rig.submit(new_job(**fields))
    rig.start_here(host, job_id)
    return job_id


def host_key(rig: Rig, job_id: int) -> AttemptKey:
    return AttemptKey(rig.epoch, job_id, 0, 1)


def next_stops(host: FakeHost) -> list[Stop]:
    batch = host.next_batch()
    assert batch is not None
    return batch.stops
