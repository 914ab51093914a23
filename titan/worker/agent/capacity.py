"""What a worker has, changed while it runs."""

from __future__ import annotations

from typing import NamedTuple

from titan.checks import check_capacity
from titan.model import Resources, named_resources
from titan.rpc.v1 import task_pb2


class Offer(NamedTuple):
    """What a worker offers."""

    capacity: Resources
    labels: tuple[tuple[str, str], ...]

    def changed(self, request: task_pb2.UpdateWorkerRequest) -> Offer:
        """The same with what the request names. Raises InvalidJob."""
        old = self.capacity
        capacity = Resources(
            request.cpus_milli if request.HasField("cpus_milli") else old.cpus_milli,
            request.memory_bytes if request.HasField("memory_bytes") else old.memory_bytes,
            named_resources({**dict(old.named), **request.named}.items()),
        )
        check_capacity(capacity)
        return Offer(capacity, tuple(sorted({**dict(self.labels), **request.labels}.items())))


def is_empty(request: task_pb2.UpdateWorkerRequest) -> bool:
    """Whether it names nothing."""
    return not request.ByteSize()
