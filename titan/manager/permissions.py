"""Who may do what: a role for each method, and owners for jobs.

Users see everything but what others' programs write and the scripts that they run; they change
their own jobs. Admins may do everything that users may, with everybody's jobs, and rule the
cluster. Workers speak for themselves. Whoever has the access token alone is known by no name, and
may do everything, under whatever name he says.
"""

from __future__ import annotations

from typing import Any, Final

from titan.errors import PermissionDenied
from titan.manager import caller
from titan.manager.caller import Caller
from titan.manager.kernel.chosen import check_owner
from titan.rpc.v1 import manager_pb2
from titan.tls.identity import Role

_USERS: Final = frozenset({Role.USER, Role.ADMIN})
_ADMINS: Final = frozenset({Role.ADMIN})
_WORKERS: Final = frozenset({Role.WORKER})
_EVERYBODY: Final = frozenset(Role)

ROLES_OF_METHOD: Final[dict[str, frozenset[Role]]] = {
    "SubmitJob": _USERS,
    "GetJobStatus": _USERS,
    "ListJobs": _USERS,
    "CancelJob": _USERS,
    "WatchJobs": _USERS,
    "StreamOutput": _USERS,
    "ListWorkers": _USERS,
    "DrainWorker": _ADMINS,
    "GetStats": _USERS,
    "GetEvents": _USERS,
    "HoldJob": _USERS,
    "SuspendJob": _USERS,
    "UpdateJob": _USERS,
    "RequeueJob": _USERS,
    "ExplainJob": _USERS,
    "PlanJobs": _USERS,
    "SetPolicy": _ADMINS,
    "GetPolicy": _USERS,
    "ListTasks": _USERS,
    "GetWorkflow": _USERS,
    "GetLogRange": _USERS,
    "GetHistory": _USERS,
    "StepDown": _ADMINS,
    "RegisterWorker": _WORKERS,
    "DeregisterWorker": _WORKERS,
    "Heartbeat": _WORKERS,
    "ReportTaskStatus": _WORKERS,
    "PushOutput": _WORKERS,
    "PushTaskStatus": _WORKERS,
    # Of gRPC's own services.
    "Check": _EVERYBODY,
    "List": _EVERYBODY,
    "Watch": _EVERYBODY,
    "ServerReflectionInfo": _EVERYBODY,
}


def check_method(method: str, who: Caller) -> None:
    """Raises PermissionDenied unless it is for him. KeyError: nobody has said for whom it is."""
    roles = ROLES_OF_METHOD[method]
    _check_known(who)
    if who.identity is not None and who.identity.role not in roles:
        wanted = " and ".join(f"{each}s" for each in sorted(roles))
        raise PermissionDenied(f"{method} is for {wanted}, and you are {who.identity}")


def known_caller() -> Caller:
    """Who the handler that runs now works for. Raises PermissionDenied where it is for nobody."""
    who = caller.current()
    _check_known(who)
    return who


def only_of() -> str | None:
    """Whose jobs alone the caller may change; None: everybody's."""
    who = known_caller()
    if who.is_admin or who.identity is None:
        return None
    return who.identity.name


def check_job_of(user: str, job_id: int) -> None:
    """Raises PermissionDenied unless the caller may have to do with that user's job."""
    check_owner(only_of(), user, job_id)


def sign(request: Any) -> None:
    """Replaces what a request says of its sender by what is proven of him.

    What is not proven is left as it is said.
    """
    identity = known_caller().identity
    if identity is None or identity.role is Role.WORKER:
        return
    fields = request.DESCRIPTOR.fields_by_name
    if "user" in fields:
        request.user = identity.name
    if "filter" in fields and request.filter.mine:
        request.filter.user = identity.name
    if "jobs" in fields:
        for each in request.jobs:
            _sign_job(each, identity.name)
    elif "job" in fields and request.HasField("job"):
        _sign_job(request.job, identity.name)


def _sign_job(message: Any, name: str) -> None:
    """A selector, or a job that names others by them."""
    if isinstance(message, manager_pb2.JobSelector):
        _sign_selector(message, name)
    elif isinstance(message, manager_pb2.JobSpec) and message.HasField("scheduling"):
        for dependency in message.scheduling.after:
            _sign_selector(dependency.job.job, name)
        for affinity in message.scheduling.affinities:
            _sign_selector(affinity.job.job, name)


def _sign_selector(selector: manager_pb2.JobSelector, name: str) -> None:
    if selector.WhichOneof("which") == "last_of_user":
        selector.last_of_user = name


def check_worker(name: str) -> None:
    """Raises PermissionDenied unless the caller is the worker of that name."""
    identity = known_caller().identity
    if identity is not None and identity.name != name:
        raise PermissionDenied(f"that is the worker {name!r}, and you are {identity}")


def _check_known(who: Caller) -> None:
    """No code that a call reaches before the gate knows who calls is to do anything for him."""
    if who.identity is None and not who.is_known:
        raise PermissionDenied("it is not known who calls")
