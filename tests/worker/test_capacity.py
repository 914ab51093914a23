"""What a worker can be told that it has, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from titan.errors import InvalidJob
from titan.model import Resources
from titan.rpc.v1 import task_pb2
from titan.worker.agent.capacity import Offer

OFFER = Offer(Resources(4_000, 1 << 30, (("gpu", 2),)), (("rack", "r1"),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpus_milli": -1}, "cpus"),
        ({"cpus_milli": (1 << 63) - 1}, "cpus"),
        ({"memory_bytes": -1}, "memory"),
        ({"named": {"gpu": -1}}, "gpu=-1"),
        ({"named": {f"r{number}": 1 for number in range(64)}}, "at most 64 kinds"),
        ({"named": {"r" * 256: 1}}, "over 255 letters"),
        ({"labels": {f"l{number}": "" for number in range(256)}}, "at most 256 labels"),
        ({"labels": {"": "x"}}, "1 to 255 letters"),
        ({"labels": {"l" * 256: "x"}}, "1 to 255 letters"),
        ({"labels": {"l": "x" * 256}}, "no more"),
        ({"devices": {"gpu": task_pb2.DeviceIds(ids=["\x1b[2J"])}}, "no device of gpu"),
    ],
)
def test_what_no_worker_has_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob) as raised:
        OFFER.changed(task_pb2.UpdateWorkerRequest(**change))
    assert words in str(raised.value)
