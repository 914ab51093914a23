"""Who a request is from, whatever it says itself, and whose jobs he may change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message

from titan.errors import PermissionDenied
from titan.manager import caller, permissions
from titan.manager.caller import ANYBODY, NOBODY, Caller
from titan.rpc.v1 import manager_pb2, worker_pb2
from titan.tls.identity import Identity, Role

BOB = Caller(Identity("lab", Role.USER, "bob"))
ADMIN = Caller(Identity("lab", Role.ADMIN, "root"))
W1 = Caller(Identity("lab", Role.WORKER, "w1"))
PROVEN = (BOB, ADMIN)

USERS = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
WORKERS = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
# Where a message says on whose behalf it is sent.
SIGNED = {"user", "last_of_user"}


@pytest.fixture(autouse=True)
def nobody_stays() -> Iterator[None]:
    yield
    caller.enter(NOBODY)


def signed(who: Caller, request: Any) -> Any:
    """The same as the handlers get it."""
    caller.enter(who)
    permissions.sign(request)
    return request


def last_of(user: str) -> manager_pb2.JobSelector:
    return manager_pb2.JobSelector(last_of_user=user)


def job_after(user: str) -> manager_pb2.JobSpec:
    """It names that user's last job wherever it can."""
    reference = manager_pb2.JobReference(job=last_of(user))
    return manager_pb2.JobSpec(
        scheduling=manager_pb2.Scheduling(
            after=[manager_pb2.Dependency(job=reference)],
            affinities=[manager_pb2.JobAffinity(job=reference, anti=True)],
        )
    )


def full(kind: Any, user: str) -> Any:
    """A request that names that user wherever it can."""
    message = kind()
    fields = kind.DESCRIPTOR.fields_by_name
    if "user" in fields:
        message.user = user
    if "filter" in fields:
        message.filter.user = user
        message.filter.mine = True
    if "jobs" in fields:
        is_spec = fields["jobs"].message_type is manager_pb2.JobSpec.DESCRIPTOR
        message.jobs.append(job_after(user) if is_spec else last_of(user))
    if "job" in fields:
        message.job.CopyFrom(last_of(user))
    return message


REQUESTS: dict[str, Any] = {
    each.name: message_factory.GetMessageClass(each.input_type) for each in USERS.methods
}


def names_in(message: Message) -> list[str]:
    """Whom it names, at any depth."""
    found = []
    for field, value in message.ListFields():
        if field.message_type is None:
            found += [value] if field.name in SIGNED else []
        else:
            below = value if field.is_repeated else [value]
            found += [name for each in below for name in names_in(each)]
    return found


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("who", PROVEN, ids=str)
def test_nobody_who_is_known_speaks_for_another(who: Caller, method: str) -> None:
    assert who.identity is not None
    request = full(REQUESTS[method], "alice")
    before = len(names_in(request))
    after = names_in(signed(who, request))
    assert after == [who.identity.name] * before


def test_these_requests_say_who_sends_them() -> None:
    """The test above is about something; a new request that does is added here."""
    assert {name for name, kind in REQUESTS.items() if names_in(full(kind, "alice"))} == {
        "SubmitJob", "GetJobStatus", "ListJobs", "CancelJob", "DrainWorker", "GetEvents",
        "HoldJob", "SuspendJob", "UpdateJob", "RequeueJob", "ExplainJob", "PlanJobs", "SetPolicy",
        "ListTasks", "GetWorkflow", "GetHistory", "StepDown",
    }  # fmt: skip


@pytest.mark.parametrize("method", REQUESTS)
def test_who_has_the_access_token_is_who_he_says(method: str) -> None:
    request = full(REQUESTS[method], "alice")
    before = request.SerializeToString(deterministic=True)
    assert signed(ANYBODY, request).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("method", REQUESTS)
def test_nothing_is_added_to_a_request_that_names_nobody(method: str) -> None:
    request = signed(BOB, REQUESTS[method]())
    assert names_in(request) in ([], ["bob"])
    fields = {field.name for field, _ in request.ListFields()}
    assert fields <= {"user"}


def test_others_may_be_asked_about_by_name() -> None:
    """A filter that is not about oneself, a limit, a job by number."""
    request = manager_pb2.ListJobsRequest(filter=manager_pb2.JobFilter(user="alice"))
    assert signed(BOB, request).filter.user == "alice"
    policy = manager_pb2.SetPolicyRequest(user_limits=[manager_pb2.UserLimit(user="alice")])
    assert signed(ADMIN, policy).user_limits[0].user == "alice"
    by_name = manager_pb2.CancelJobRequest(jobs=[manager_pb2.JobSelector(name="alice")])
    assert signed(BOB, by_name).jobs[0].name == "alice"


def test_dependencies_by_number_and_by_position_stay() -> None:
    spec = manager_pb2.JobSpec()
    for reference in (
        manager_pb2.JobReference(job=manager_pb2.JobSelector(job_id=7)),
        manager_pb2.JobReference(position=1),
    ):
        spec.scheduling.after.append(manager_pb2.Dependency(job=reference))
    before = spec.SerializeToString()
    (after,) = signed(BOB, manager_pb2.SubmitJobRequest(jobs=[spec])).jobs
    assert after.SerializeToString() == before


def test_every_method_is_for_somebody() -> None:
    names = {each.name for service in (USERS, WORKERS) for each in service.methods}
    assert names | {"Check", "List", "Watch", "ServerReflectionInfo"} == set(
        permissions.ROLES_OF_METHOD
    )


def test_the_methods_of_workers_are_for_no_user_and_the_other_way_round() -> None:
    for each in WORKERS.methods:
        permissions.check_method(each.name, W1)
        for who in PROVEN:
            with pytest.raises(PermissionDenied, match="is for workers, and you are"):
                permissions.check_method(each.name, who)
    for each in USERS.methods:
        permissions.check_method(each.name, ADMIN)
        with pytest.raises(PermissionDenied, match="and you are worker w1"):
            permissions.check_method(each.name, W1)


def test_a_method_that_nobody_was_thought_of_for_is_for_nobody() -> None:
    with pytest.raises(KeyError):
        permissions.check_method("DropEverything", ADMIN)


def test_a_worker_is_itself_alone() -> None:
    caller.enter(W1)
    permissions.check_worker("w1")
    for name in ("w2", "W1", "w1 ", ""):
        with pytest.raises(PermissionDenied, match="and you are worker w1"):
            permissions.check_worker(name)
    caller.enter(ANYBODY)
    permissions.check_worker("w2")


@pytest.mark.parametrize(("who", "own"), [(BOB, "bob"), (ADMIN, None), (ANYBODY, None)], ids=str)
def test_whose_jobs_one_may_change(who: Caller, own: str | None) -> None:
    caller.enter(who)
    assert permissions.only_of() == own
    permissions.check_job_of("bob", 7)
    if own is None:
        permissions.check_job_of("alice", 7)
    else:
        with pytest.raises(PermissionDenied, match="job 7 is alice's, and you are bob"):
            permissions.check_job_of("alice", 7)


def test_a_user_who_is_called_as_an_admin_is_none() -> None:
    caller.enter(Caller(Identity("lab", Role.USER, "root")))
    assert permissions.only_of() == "root"


def test_of_whom_nothing_is_known_nothing_is_his() -> None:
    caller.enter(NOBODY)
    for check in (
        permissions.only_of,
        lambda: permissions.check_job_of("", 7),
        lambda: permissions.check_worker("w1"),
        lambda: permissions.sign(manager_pb2.SubmitJobRequest()),
        lambda: permissions.check_method("ListJobs", NOBODY),
    ):
        with pytest.raises(PermissionDenied):
            check()
