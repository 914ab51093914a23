"""What a worker has, changed while it runs."""

from __future__ import annotations

from typing import NamedTuple

from titan.checks import check_capacity, check_labels
from titan.errors import InvalidJob
from titan.model import Resources, named_resources
from titan.rpc.v1 import task_pb2
from titan.worker.agent.device_ids import check_ids, ids_of
from titan.worker.messages import DeviceIds, OfferedDevices


class Offer(NamedTuple):
    """What a worker offers."""

    capacity: Resources
    labels: tuple[tuple[str, str], ...]
    named_ids: DeviceIds = ()
    """Of the named resources whose devices were named one by one; as many as the capacity says."""

    @property
    def devices(self) -> OfferedDevices:
        """What its task host gives to tasks."""
        ids = dict(self.named_ids)
        return tuple((name, ids.get(name) or ids_of(count)) for name, count in self.capacity.named)

    def changed(self, request: task_pb2.UpdateWorkerRequest) -> Offer:
        """The same with what the request names. Raises InvalidJob."""
        old = self.capacity
        fresh = {name: tuple(each.ids) for name, each in request.devices.items()}
        for name, ids in fresh.items():
            check_ids(name, ids)
            if request.named.get(name, len(ids)) != len(ids):
                raise InvalidJob(f"{name} has {len(ids)} devices and not {request.named[name]}")
        counts = {**dict(old.named), **request.named, **{name: len(fresh[name]) for name in fresh}}
        capacity = Resources(
            request.cpus_milli if request.HasField("cpus_milli") else old.cpus_milli,
            request.memory_bytes if request.HasField("memory_bytes") else old.memory_bytes,
            named_resources(counts.items()),
        )
        check_capacity(capacity)
        kept = {name: ids for name, ids in self.named_ids if name not in request.named}
        labels = tuple(sorted({**dict(self.labels), **request.labels}.items()))
        check_labels(labels)
        return Offer(
            capacity,
            labels,
            tuple(sorted({**kept, **fresh}.items())),
        )


def is_empty(request: task_pb2.UpdateWorkerRequest) -> bool:
    """Whether it names nothing."""
    return not request.ByteSize()
