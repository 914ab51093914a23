"""Who did it stands in the log by the name that he has proven, whoever he says to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import wait_until
from tests.security.calls import job_request, selector, users_stub
from tests.security.conftest import SecureCluster
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.tls.identity import Role

LIE = "alice"

Change = Callable[[Any, int], object]

# In an order in which each changes something.
CHANGES: dict[str, Change] = {
    "JobHeld": lambda stub, job_id: stub.HoldJob(
        manager_pb2.HoldJobRequest(jobs=[selector(job_id)], user=LIE)
    ),
    "JobReleased": lambda stub, job_id: stub.HoldJob(
        manager_pb2.HoldJobRequest(jobs=[selector(job_id)], user=LIE, release=True)
    ),
    "JobSuspended": lambda stub, job_id: stub.SuspendJob(
        manager_pb2.SuspendJobRequest(jobs=[selector(job_id)], user=LIE)
    ),
    "JobResumed": lambda stub, job_id: stub.SuspendJob(
        manager_pb2.SuspendJobRequest(jobs=[selector(job_id)], user=LIE, resume=True)
    ),
    "JobUpdated": lambda stub, job_id: stub.UpdateJob(
        manager_pb2.UpdateJobRequest(jobs=[selector(job_id)], user=LIE, priority=3)
    ),
    "CancelRequested": lambda stub, job_id: stub.CancelJob(
        manager_pb2.CancelJobRequest(jobs=[selector(job_id)], user=LIE)
    ),
}


def last_event(cluster: SecureCluster, kind: str, job_id: int = 0) -> dict[str, Any]:
    """The last of that kind, about that job if it is about one."""
    return next(
        each
        for each in reversed(cluster.dump())
        if each["event"] == kind and each.get("job_id", job_id) in (0, job_id)
    )


@pytest.mark.parametrize(("role", "name"), [(Role.USER, "bob"), (Role.ADMIN, "root")])
def test_what_is_done_to_a_job_is_done_by_who_proved_it(
    cluster: SecureCluster, role: Role, name: str
) -> None:
    folder = cluster.people.issue(role, name, f"actor-{name}")
    request = job_request(LIE)
    # It waits for ever.
    request.jobs[0].resources.cpus_milli = 1_000_000
    with users_stub(cluster, folder) as stub:
        (job_id,) = stub.SubmitJob(request).job_ids
        for change in CHANGES.values():
            change(stub, job_id)
    about = [each for each in cluster.dump() if each.get("job_id") == job_id]
    assert [(each["event"], each["user"]) for each in about] == [
        (kind, name) for kind in ("JobSubmitted", *CHANGES)
    ]


def test_a_cancel_and_a_requeue_of_what_runs_are_by_who_proved_it(cluster: SecureCluster) -> None:
    folder = cluster.people.issue(Role.USER, "bob", "actor-bob")
    request = job_request(LIE)
    request.environments[0].script = b"#!/bin/sh\nexec sleep 60\n"
    # Others are about of whom nothing runs.
    request.jobs[0].on = "w1"
    with users_stub(cluster, folder) as stub:
        (job_id,) = stub.SubmitJob(request).job_ids

        def runs(attempt: int) -> bool:
            status = stub.GetJobStatus(
                manager_pb2.GetJobStatusRequest(job=selector(job_id), attempts_limit=9)
            )
            return any(
                each.state == types_pb2.RUNNING and each.attempt == attempt
                for each in status.attempts
            )

        wait_until(lambda: runs(1), "it runs")
        stub.RequeueJob(manager_pb2.RequeueJobRequest(jobs=[selector(job_id)], user=LIE))
        wait_until(lambda: runs(2), "it runs again")
        stub.CancelJob(manager_pb2.CancelJobRequest(jobs=[selector(job_id)], user=LIE))
    about = [each for each in cluster.dump() if each.get("job_id") == job_id]
    users = {(each["event"], each["user"]) for each in about if each.get("user")}
    assert {user for _, user in users} == {"bob"}
    assert {("JobSubmitted", "bob"), ("CancelRequested", "bob")} <= users


def test_drains_and_the_policy_are_an_admins_whatever_he_is_called(cluster: SecureCluster) -> None:
    folder = cluster.people.issue(Role.ADMIN, "root", "actor-root")
    with users_stub(cluster, folder) as stub:
        stub.DrainWorker(manager_pb2.DrainWorkerRequest(workers=["w1"], user=LIE))
        stub.DrainWorker(manager_pb2.DrainWorkerRequest(workers=["w1"], user=LIE, undrain=True))
        before = stub.GetPolicy(manager_pb2.GetPolicyRequest()).policy.reserve_after_ms
        stub.SetPolicy(manager_pb2.SetPolicyRequest(reserve_after_ms=before + 1, user=LIE))
    for kind in ("WorkerDraining", "WorkerUndrained", "PolicySet"):
        assert last_event(cluster, kind)["user"] == "root"


def test_a_token_is_as_good_a_proof(cluster: SecureCluster) -> None:
    ca = str(cluster.people.directory / "ca.pem")
    environment = {**cluster.environment, "TITAN_TOKEN": cluster.people.token("tina")}
    job_id = int(
        cluster.ok(
            "submit", "-q", "--tls-dir", ca, "--manager", cluster.token_address, "--hold", "true",
            env=environment,
        )
    )  # fmt: skip
    assert last_event(cluster, "JobSubmitted", job_id)["user"] == "tina"


def test_queue_me_and_last_are_about_who_proved_it(cluster: SecureCluster) -> None:
    """The name of the account on the client's machine says nothing."""
    first, second = (str(cluster.people.issue(Role.USER, name)) for name in ("me1", "me2"))
    mine = cluster.submit("--tls-dir", first, "--hold", "true")
    cluster.submit("--tls-dir", second, "--hold", "true")
    (shown,) = cluster.json("queue", "--me", "--tls-dir", first)
    assert (shown["job_id"], shown["user"]) == (mine, "me1")
    assert cluster.json("show", "last", "--tls-dir", first)["job_id"] == mine
