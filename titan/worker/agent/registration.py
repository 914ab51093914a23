"""What a worker tells the manager of itself when it registers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, cast

from titan.model import Sandbox
from titan.rpc.v1 import types_pb2, worker_pb2
from titan.worker.agent import actions, translate
from titan.worker.agent.capacity import Offer


class Identity(NamedTuple):
    """What the manager is told about this worker at registration."""

    name: str
    address: str
    """Where the manager calls the TaskService; empty: nowhere, the worker fetches its tasks."""
    token: str
    """What calls to it must carry."""
    boot_id: str
    version: str
    offer: Offer


class HostAbilities(NamedTuple):
    """What the task host can do here; without one, nothing."""

    limits: str = ""
    """How it keeps limits."""
    sandboxes: tuple[Sandbox, ...] = ()
    isolates: bool = False
    """One of an older Titan runs nothing as others, whatever the policy says."""


def registration_request(
    action: actions.Register,
    identity: Identity,
    host: HostAbilities,
    grants: Iterable[tuple[str, str]],
    output_directory: Path,
) -> worker_pb2.RegisterWorkerRequest:
    """`grants`: which users may run tasks as which accounts, if the host can do that."""
    return worker_pb2.RegisterWorkerRequest(
        worker_id=action.worker_id,
        instance=action.instance,
        host_starts=action.host_starts,
        takes_secrets=True,
        boot_id=identity.boot_id,
        name=identity.name,
        address=identity.address,
        token=identity.token,
        capacity=translate.resources_message(identity.offer.capacity),
        labels=dict(identity.offer.labels),
        version=identity.version,
        output_directory=str(output_directory).encode(errors="surrogateescape"),
        cluster_id=action.cluster_id,
        held=translate.held(action.held),
        acknowledged_seq=action.acknowledged_seq,
        stopping=action.is_stopping,
        fault=action.fault,
        limits=host.limits,
        run_as=(
            worker_pb2.RunAsGrant(user=user, account=account)
            for user, account in (grants if host.isolates else ())
        ),
        sandboxes=(cast("types_pb2.Sandbox.ValueType", int(each)) for each in host.sandboxes),
    )
