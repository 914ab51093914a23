"""Everybody who might call, and a request for each RPC there is."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf import message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.cluster import DEADLINE_SECONDS
from tests.security.conftest import SecureCluster
from tests.security.people import DAY_SECONDS, People
from titan.rpc import access
from titan.rpc.channel import CLIENT_OPTIONS
from titan.rpc.v1 import history_pb2, manager_pb2, task_pb2, types_pb2, worker_pb2
from titan.tls.identity import Role

SERVICES: Final = {
    name: file.services_by_name[name]
    for file, name in (
        (manager_pb2.DESCRIPTOR, "ManagerService"),
        (worker_pb2.DESCRIPTOR, "WorkerService"),
        (task_pb2.DESCRIPTOR, "TaskService"),
        (health_pb2.DESCRIPTOR, "Health"),
        (reflection_pb2.DESCRIPTOR, "ServerReflection"),
    )
}


class Somebody(NamedTuple):
    """How one of them calls."""

    folder: Path | None = None
    token: str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return access.user_token_metadata(self.token) if self.token else ()


class World:
    """The servers, everybody who calls them, and what the calls are about."""

    def __init__(self, cluster: SecureCluster, elsewhere: Path) -> None:
        self.cluster = cluster
        self.people = people = cluster.people
        issue = people.issue
        strangers = People(elsewhere / "strangers")
        # The same CA for two clusters, as a company's own might be.
        other = People(elsewhere / "other", "other")
        other.authority = people.authority
        other.authority.cluster = "other"
        another_cluster = other.issue(Role.USER, "alice")
        other.authority.cluster = "lab"
        self.callers = {
            "alice": Somebody(issue(Role.USER, "alice")),
            "bob": Somebody(issue(Role.USER, "bob")),
            "admin": Somebody(issue(Role.ADMIN, "root", "admin")),
            "manager": Somebody(people.directory / "manager"),
            "w1": Somebody(people.directory / "w1"),
            "w2": Somebody(issue(Role.WORKER, "w2")),
            "no certificate": Somebody(),
            "another CA": Somebody(strangers.issue(Role.ADMIN, "root")),
            "expired": Somebody(
                issue(Role.ADMIN, "root", "expired", ago=2 * DAY_SECONDS),
            ),
            "revoked": Somebody(issue(Role.ADMIN, "mallory")),
            "another cluster": Somebody(another_cluster),
            "no identity": Somebody(issue_without_identity(people)),
        }
        people.revoke("mallory")
        revoked = people.token("alice")
        people.tokens.remove([revoked.split(".")[-2]])
        self.token_callers = {
            "token of alice": Somebody(token=people.token("alice")),
            "token of an admin": Somebody(token=people.token("root", is_admin=True)),
            "no token": Somebody(),
            "wrong token": Somebody(token="alice.0123456789ab.x"),
            "expired token": Somebody(token=people.token("alice", seconds=-1)),
            "revoked token": Somebody(token=revoked),
            "access token": Somebody(token="x" * 43),
        }
        self._channels: dict[tuple[str, str], grpc.Channel] = {}
        self.worker_address = (
            self.do("admin", "ManagerService", manager_pb2.ListWorkersRequest())[0]
            .workers[0]
            .address
        )
        self.worker_id = b""

    def channel(self, name: str, address: str, host: str) -> grpc.Channel:
        """His connection."""
        known = self._channels.get((name, address))
        if known is None:
            folder = {**self.callers, **self.token_callers}[name].folder
            credentials = grpc.ssl_channel_credentials(
                (self.people.directory / "ca.pem").read_bytes(),
                (folder / "key.pem").read_bytes() if folder else None,
                (folder / "cert.pem").read_bytes() if folder else None,
            )
            options = [
                # Who is slow to shake hands is not one that lets nobody in. The first counts.
                ("grpc.min_reconnect_backoff_ms", round(DEADLINE_SECONDS * 1000)),
                *CLIENT_OPTIONS,
                ("grpc.ssl_target_name_override", host),
            ]
            known = grpc.secure_channel(address, credentials, options)
            self._channels[name, address] = known
        return known

    def close(self) -> None:
        for each in self._channels.values():
            each.close()

    def do(self, name: str, service: str, request: Any, *, of_worker: bool = False) -> list[Any]:
        """The first answer to the call that takes such a request."""
        method = next(
            each
            for each in SERVICES[service].methods
            if each.input_type is type(request).DESCRIPTOR
        )
        return self.call(name, method, request, of_worker=of_worker)

    def call(self, name: str, method: Any, request: Any, *, of_worker: bool) -> list[Any]:
        """The first answer, or none. Raises RpcError."""
        if of_worker:
            channel = self.channel(name, self.worker_address, "w1.worker")
        elif name in self.token_callers:
            channel = self.channel(name, self.cluster.token_address, "127.0.0.1")
        else:
            channel = self.channel(name, self.cluster.address, "127.0.0.1")
        shape = (
            f"{'stream' if method.client_streaming else 'unary'}_"
            f"{'stream' if method.server_streaming else 'unary'}"
        )
        make = getattr(channel, shape)(
            f"/{method.containing_service.full_name}/{method.name}",
            type(request).SerializeToString,
            message_factory.GetMessageClass(method.output_type).FromString,
        )
        metadata = {**self.callers, **self.token_callers}[name].metadata
        sent = iter([request]) if method.client_streaming else request
        answer = make(sent, timeout=DEADLINE_SECONDS, metadata=metadata)
        if not method.server_streaming:
            return [answer]
        try:
            return [next(answer)]
        except StopIteration:
            return []
        finally:
            answer.cancel()

    def job(self) -> manager_pb2.JobSelector:
        """A job of alice's with a script, that waits."""
        request = manager_pb2.SubmitJobRequest(
            environments=[types_pb2.Environment(script=b"#!/bin/sh\n")],
            jobs=[
                manager_pb2.JobSpec(
                    name="hers", command=[b"x.sh"], cwd=b"/",
                    resources=types_pb2.Resources(cpus_milli=1000),
                    execution=types_pb2.Execution(script_source=types_pb2.SCRIPT_SENT),
                    scheduling=manager_pb2.Scheduling(held=True),
                )
            ],
        )  # fmt: skip
        (answer,) = self.do("alice", "ManagerService", request)
        return manager_pb2.JobSelector(job_id=answer.job_ids[0])

    def registration(self, name: str = "w2") -> worker_pb2.RegisterWorkerRequest:
        """As a worker that cannot be called."""
        return worker_pb2.RegisterWorkerRequest(
            worker_id=self.worker_id,
            instance=uuid.uuid4().bytes,
            boot_id="b",
            name=name,
            capacity=types_pb2.Resources(cpus_milli=1000),
            version="0",
            output_directory=b"/o",
        )

    def session(self) -> bytes:
        """A new one of the worker w2."""
        (answer,) = self.do("w2", "WorkerService", self.registration())
        self.worker_id = answer.worker_id
        session: bytes = answer.session
        return session


def issue_without_identity(people: People) -> Path:
    """A certificate of the right CA that says nothing of a role."""
    ca = x509.load_pem_x509_certificate((people.directory / "ca.pem").read_bytes())
    ca_key: Any = serialization.load_pem_private_key(
        (people.directory / "ca-key.pem").read_bytes(), None
    )
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(ca_key, hashes.SHA256())
    )
    folder = people.directory / "no-identity"
    folder.mkdir(exist_ok=True)
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


def register_as_another(world: World) -> worker_pb2.RegisterWorkerRequest:
    """With w2's own name, and the id of w1."""
    (answer,) = world.do("admin", "ManagerService", manager_pb2.ListWorkersRequest())
    (w1,) = (each for each in answer.workers if each.name == "w1")
    request = world.registration()
    request.worker_id = w1.worker_id
    return request


def _health_list() -> Any:
    # The stubs do not know it yet.
    method: Any = SERVICES["Health"].methods_by_name["List"]
    return message_factory.GetMessageClass(method.input_type)()


SPEC: Final = manager_pb2.JobSpec(
    name="x",
    command=[b"true"],
    cwd=b"/",
    resources=types_pb2.Resources(cpus_milli=1000),
    scheduling=manager_pb2.Scheduling(held=True),
)
SUBMIT: Final = manager_pb2.SubmitJobRequest(environments=[types_pb2.Environment()], jobs=[SPEC])

REQUESTS: Final[dict[str, Callable[[World], Any]]] = {
    "ManagerService.SubmitJob": lambda _: SUBMIT,
    "ManagerService.GetJobStatus": lambda world: manager_pb2.GetJobStatusRequest(job=world.job()),
    "ManagerService.GetJobStatus of a script": lambda world: manager_pb2.GetJobStatusRequest(
        job=world.job(), script=True
    ),
    "ManagerService.ListJobs": lambda _: manager_pb2.ListJobsRequest(limit=1),
    "ManagerService.CancelJob": lambda world: manager_pb2.CancelJobRequest(jobs=[world.job()]),
    "ManagerService.WatchJobs": lambda world: manager_pb2.WatchJobsRequest(
        job_ids=[world.job().job_id]
    ),
    "ManagerService.StreamOutput": lambda world: manager_pb2.StreamOutputRequest(
        job_id=world.job().job_id
    ),
    "ManagerService.ListWorkers": lambda _: manager_pb2.ListWorkersRequest(),
    "ManagerService.DrainWorker": lambda _: manager_pb2.DrainWorkerRequest(
        workers=["w1"], undrain=True
    ),
    "ManagerService.GetStats": lambda _: manager_pb2.GetStatsRequest(),
    "ManagerService.GetEvents": lambda world: manager_pb2.GetEventsRequest(job=world.job()),
    "ManagerService.HoldJob": lambda world: manager_pb2.HoldJobRequest(jobs=[world.job()]),
    "ManagerService.SuspendJob": lambda world: manager_pb2.SuspendJobRequest(jobs=[world.job()]),
    "ManagerService.UpdateJob": lambda world: manager_pb2.UpdateJobRequest(
        jobs=[world.job()], priority=5
    ),
    "ManagerService.RequeueJob": lambda world: manager_pb2.RequeueJobRequest(jobs=[world.job()]),
    "ManagerService.ExplainJob": lambda world: manager_pb2.ExplainJobRequest(job=world.job()),
    "ManagerService.PlanJobs": lambda _: manager_pb2.PlanJobsRequest(jobs=[SPEC]),
    "ManagerService.SetPolicy": lambda _: manager_pb2.SetPolicyRequest(fair_share=True),
    "ManagerService.GetPolicy": lambda _: manager_pb2.GetPolicyRequest(),
    "ManagerService.ListTasks": lambda world: manager_pb2.ListTasksRequest(job=world.job()),
    "ManagerService.GetWorkflow": lambda world: manager_pb2.GetWorkflowRequest(job=world.job()),
    "ManagerService.GetLogRange": lambda _: manager_pb2.GetLogRangeRequest(),
    "ManagerService.GetHistory": lambda _: history_pb2.GetHistoryRequest(
        attempts=history_pb2.AttemptsQuestion(limit=1)
    ),
    "ManagerService.StepDown": lambda _: manager_pb2.StepDownRequest(),
    "WorkerService.RegisterWorker": lambda world: world.registration(),
    "WorkerService.RegisterWorker of another's id": register_as_another,
    "WorkerService.DeregisterWorker": lambda world: worker_pb2.DeregisterWorkerRequest(
        session=world.session()
    ),
    "WorkerService.Heartbeat": lambda world: worker_pb2.HeartbeatRequest(session=world.session()),
    "WorkerService.ReportTaskStatus": lambda world: worker_pb2.ReportTaskStatusRequest(
        session=world.session()
    ),
    "WorkerService.PushOutput": lambda world: worker_pb2.PushOutputRequest(
        session=world.session(), number=1
    ),
    "WorkerService.PushTaskStatus": lambda world: worker_pb2.PushTaskStatusRequest(
        session=world.session(), number=1
    ),
    "TaskService.StartTask": lambda _: task_pb2.StartTaskRequest(
        specs=[task_pb2.TaskSpec(name="x", command=[b"true"], cwd=b"/")]
    ),
    "TaskService.StopTask": lambda _: task_pb2.StopTaskRequest(),
    "TaskService.GetTaskStatus": lambda _: task_pb2.GetTaskStatusRequest(),
    "TaskService.UpdateWorker": lambda _: task_pb2.UpdateWorkerRequest(labels={"a": "b"}),
    "TaskService.StreamOutput": lambda _: task_pb2.ReadOutputRequest(
        key=types_pb2.AttemptKey(epoch=1, job_id=1, attempt=1)
    ),
    "Health.Check": lambda _: health_pb2.HealthCheckRequest(),
    "Health.List": lambda _: _health_list(),
    "Health.Watch": lambda _: health_pb2.HealthCheckRequest(),
    "ServerReflection.ServerReflectionInfo": lambda _: reflection_pb2.ServerReflectionRequest(
        list_services=""
    ),
}
