"""Raw calls to a manager by whoever has a certificate, whatever the request says of him."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from tests.cluster import DEADLINE_SECONDS
from tests.security.conftest import SecureCluster
from titan.rpc.channel import CLIENT_OPTIONS
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, types_pb2
from titan.tls.identity import Role
from titan.tls.pem import PemFiles

TALE = b"#!/bin/sh\n# what nobody else reads\n"


@contextmanager
def users_stub(
    cluster: SecureCluster, folder: Path
) -> Iterator[manager_pb2_grpc.ManagerServiceStub]:
    """ManagerService, called with the certificate in that folder."""
    pems = PemFiles(folder, Role.USER).pems
    credentials = grpc.ssl_channel_credentials(pems.roots, pems.key, pems.chain)
    with grpc.secure_channel(cluster.address, credentials, CLIENT_OPTIONS) as channel:
        # Else one that is slow to shake hands would be away: nobody calls again here.
        grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
        yield manager_pb2_grpc.ManagerServiceStub(channel)


def job_request(user: str, *, held: bool = False) -> manager_pb2.SubmitJobRequest:
    """One job of who says to be that user, with a script."""
    return manager_pb2.SubmitJobRequest(
        user=user,
        environments=[types_pb2.Environment(script=TALE)],
        jobs=[
            manager_pb2.JobSpec(
                name="x", command=[b"x.sh"], cwd=b"/",
                resources=types_pb2.Resources(cpus_milli=1),
                execution=types_pb2.Execution(script_source=types_pb2.SCRIPT_SENT),
                scheduling=manager_pb2.Scheduling(held=held),
            )
        ],
    )  # fmt: skip


def selector(job_id: int) -> manager_pb2.JobSelector:
    """That job."""
    return manager_pb2.JobSelector(job_id=job_id)
