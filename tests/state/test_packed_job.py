"""Packing jobs: what `test_snapshot.py` does not show by the way."""

from __future__ import annotations

import tracemalloc

from tests.state.builders import Story
from titan.state.attempts import AttemptLog
from titan.state.packed_job import pack_job


def test_packing_a_large_array_leaves_no_memory_behind() -> None:
    """A packer keeps the memory that the largest thing it packed took, for good."""
    story = Story()
    story.job((0, 3))
    job = story.state.get_job(1)
    pack_job(job)
    job.ended = AttemptLog()
    job.ended.data = bytearray(4 << 20)
    tracemalloc.start()
    try:
        assert len(pack_job(job)) > 4 << 20
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
