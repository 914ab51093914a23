"""Every RPC there is, by everybody who might try: the one right answer.

One table says who may do what; it is written here once more, and not read off the code's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc
import pytest

from tests.security.conftest import SecureCluster
from tests.security.world import REQUESTS, SERVICES, World

OK: Final = grpc.StatusCode.OK
DENIED: Final = grpc.StatusCode.PERMISSION_DENIED
UNKNOWN: Final = grpc.StatusCode.UNAUTHENTICATED
PRECONDITION: Final = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND: Final = grpc.StatusCode.NOT_FOUND
NO_CONNECTION: Final = grpc.StatusCode.UNAVAILABLE


# Whom a handshake keeps out, and whom the server does that sees the certificate.
KEPT_OUT: Final = ("no certificate", "another CA", "expired")
NOBODIES: Final = ("revoked", "another cluster", "no identity")
KNOWN: Final = ("alice", "bob", "admin", "manager", "w1", "w2")
GOOD_TOKENS: Final = ("token of alice", "token of an admin")
BAD_TOKENS: Final = ("no token", "wrong token", "expired token", "revoked token", "access token")

Row = dict[str, grpc.StatusCode]


def row(code: grpc.StatusCode, *names: str) -> Row:
    """That answer for these, and all others who are known are denied."""
    return {**dict.fromkeys(KNOWN, DENIED), **dict.fromkeys(names, code)}


USERS: Final = row(OK, "alice", "bob", "admin")
OWNER: Final = row(OK, "alice", "admin")
ADMIN: Final = row(OK, "admin")
# The rows of WorkerService are about the worker w2, those of TaskService call w1.
WORKER: Final = row(OK, "w2")
CALLED: Final = row(OK, "manager", "admin")
EVERYBODY: Final = row(OK, *KNOWN)
UNANSWERED: Final = row(grpc.StatusCode.UNIMPLEMENTED, *KNOWN)

ANSWERS: Final[dict[str, Row]] = {
    "ManagerService.SubmitJob": USERS,
    "ManagerService.GetJobStatus": USERS,
    "ManagerService.GetJobStatus of a script": OWNER,
    "ManagerService.ListJobs": USERS,
    "ManagerService.CancelJob": OWNER,
    "ManagerService.WatchJobs": USERS,
    "ManagerService.StreamOutput": OWNER,
    "ManagerService.ListWorkers": USERS,
    "ManagerService.DrainWorker": ADMIN,
    "ManagerService.GetStats": USERS,
    "ManagerService.GetEvents": USERS,
    "ManagerService.HoldJob": OWNER,
    "ManagerService.SuspendJob": OWNER,
    "ManagerService.UpdateJob": OWNER,
    "ManagerService.RequeueJob": OWNER,
    "ManagerService.ExplainJob": USERS,
    "ManagerService.PlanJobs": USERS,
    "ManagerService.SetPolicy": ADMIN,
    "ManagerService.GetPolicy": USERS,
    "ManagerService.ListTasks": USERS,
    "ManagerService.GetWorkflow": USERS,
    "ManagerService.GetLogRange": USERS,
    # None is written there.
    "ManagerService.GetHistory": row(PRECONDITION, "alice", "bob", "admin"),
    # Its log is in files, so nobody else could lead.
    "ManagerService.StepDown": row(PRECONDITION, "admin"),
    "WorkerService.RegisterWorker": WORKER,
    "WorkerService.RegisterWorker of another's id": row(DENIED),
    "WorkerService.DeregisterWorker": WORKER,
    "WorkerService.Heartbeat": WORKER,
    "WorkerService.ReportTaskStatus": WORKER,
    # Nobody has asked for it.
    "WorkerService.PushOutput": row(NOT_FOUND, "w2"),
    "WorkerService.PushTaskStatus": row(NOT_FOUND, "w2"),
    "TaskService.StartTask": CALLED,
    "TaskService.StopTask": CALLED,
    "TaskService.GetTaskStatus": CALLED,
    "TaskService.UpdateWorker": {**CALLED, "w1": OK},
    "TaskService.StreamOutput": row(NOT_FOUND, "manager", "admin"),
    "Health.Check": EVERYBODY,
    "Health.List": UNANSWERED,
    "Health.Watch": EVERYBODY,
    "ServerReflection.ServerReflectionInfo": EVERYBODY,
    "Health.Check of a worker": EVERYBODY,
    "Health.List of a worker": UNANSWERED,
    "Health.Watch of a worker": EVERYBODY,
    "ServerReflection.ServerReflectionInfo of a worker": EVERYBODY,
}


@pytest.fixture(scope="module")
def world(cluster: SecureCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(cluster, tmp_path_factory.mktemp("elsewhere"))
    yield made
    made.close()


def answer_to(world: World, name: str, row_name: str) -> grpc.StatusCode:
    """What the caller of that name gets."""
    full_name = row_name.removesuffix(" of a worker")
    service, _, method = full_name.partition(" ")[0].partition(".")
    of_worker = service == "TaskService" or row_name.endswith(" of a worker")
    request = REQUESTS[full_name](world)
    try:
        world.call(name, SERVICES[service].methods_by_name[method], request, of_worker=of_worker)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return OK


def test_the_table_is_about_every_method_there_is() -> None:
    methods = {f"{each.name}.{name}" for each in SERVICES.values() for name in each.methods_by_name}
    assert {name.partition(" ")[0] for name in ANSWERS} == methods


@pytest.mark.parametrize("row_name", ANSWERS)
def test_by_certificate(world: World, row_name: str) -> None:
    wanted = {
        **dict.fromkeys(KEPT_OUT, NO_CONNECTION),
        **dict.fromkeys(NOBODIES, UNKNOWN),
        **ANSWERS[row_name],
    }
    assert set(wanted) == set(world.callers)
    assert {name: answer_to(world, name, row_name) for name in wanted} == wanted


BY_TOKEN: Final = [
    name for name in ANSWERS if not name.startswith("TaskService") and "of a worker" not in name
]


@pytest.mark.parametrize("row_name", BY_TOKEN)
def test_by_token(world: World, row_name: str) -> None:
    by_certificate = ANSWERS[row_name]
    wanted = {
        "token of alice": by_certificate["alice"],
        "token of an admin": by_certificate["admin"],
        **dict.fromkeys(BAD_TOKENS, UNKNOWN),
    }
    assert set(wanted) == set(world.token_callers)
    assert {name: answer_to(world, name, row_name) for name in wanted} == wanted
