"""Over mutual TLS: tasks that run as other accounts, for whom the worker's policy names."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import titan
from tests.cluster import Cluster
from tests.security.calls import job_request, users_stub
from tests.security.conftest import SecureCluster
from tests.worker.isolation import require_root
from titan.rpc.v1 import manager_pb2
from titan.tls.identity import Role

ACCOUNT = "daemon"
OTHER = "nobody"
# Of the account, and that it is no longer root.
SAYS = b"#!/bin/sh\nid -un; id -Gn; cat '%s' 2>/dev/null || echo no\n"


@pytest.fixture(scope="module")
def secret() -> Iterator[Path]:
    """What root alone may read, where everybody may look, as in pytest's places they may not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "of-root"
        path.write_text("told\n")
        path.chmod(0o600)
        yield path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    """Whose worker is root's, and lets alice have tasks run as the account."""
    require_root()
    root = tmp_path_factory.mktemp("accounts")
    policy = root / "policy.toml"
    policy.write_text(f'alice = ["{ACCOUNT}"]\n"{OTHER}" = ["self"]\n')
    with SecureCluster(root / "cluster") as made:
        made.start(worker=("--run-as-policy", str(policy)))
        yield made


def says(secret: Path) -> str:
    return (SAYS % os.fsencode(secret)).decode().removeprefix("#!/bin/sh\n")


def as_account(name: str) -> bytes:
    """What it says of itself."""
    entry = pwd.getpwnam(name)
    assert entry.pw_uid != 0
    groups = {"daemon": "daemon", "nobody": "nogroup"}
    return f"{name}\n{groups[name]}\nno\n".encode()


def submits(cluster: Cluster) -> int:
    return sum(each["event"] == "JobSubmitted" for each in cluster.dump())


def run(cluster: Cluster, secret: Path, account: str, *who: str) -> bytes:
    return cluster.ok("run", *who, "--user", account, "--cwd", "/", "--shell", says(secret))


def test_whom_the_policy_names_has_tasks_run_as_the_account(
    own: SecureCluster, secret: Path
) -> None:
    alice = ("--tls-dir", str(own.people.issue(Role.USER, "alice")))
    assert run(own, secret, ACCOUNT, *alice) == as_account(ACCOUNT)
    view = own.json("show", *alice, "last")
    assert (view["user"], view["run_as"]) == ("alice", ACCOUNT)
    # Without it, it runs as the worker does, which may read the file: it was there to be read.
    assert own.ok("run", *alice, "--shell", says(secret)).endswith(b"told\n")
    # The account of one's own name.
    namesake = ("--tls-dir", str(own.people.issue(Role.USER, OTHER)))
    assert run(own, secret, OTHER, *namesake) == as_account(OTHER)


@pytest.mark.parametrize(
    ("name", "role", "account"),
    [
        ("bob", Role.USER, ACCOUNT),
        # An admin has no more of that than the worker's policy says.
        ("root", Role.ADMIN, ACCOUNT),
        ("alice", Role.USER, OTHER),
        ("alice", Role.USER, "root"),
        (OTHER, Role.USER, ACCOUNT),
    ],
)
def test_whom_the_policy_does_not_name_is_refused_at_submit(
    own: SecureCluster, name: str, role: Role, account: str
) -> None:
    who = str(own.people.issue(role, name, f"refused-{name}"))
    before = submits(own)
    result = own.titan("submit", "--tls-dir", who, "--user", account, "true")
    assert result.returncode == 5
    assert f"--user {account}: no worker lets tasks of {name} run as it" in result.stderr.decode()
    assert submits(own) == before


def test_who_is_claimed_in_a_request_changes_nothing(own: SecureCluster, secret: Path) -> None:
    alice = own.people.issue(Role.USER, "alice", "true-alice")
    mallory = own.people.issue(Role.USER, "mallory")
    request = job_request("alice")
    request.jobs[0].execution.run_as = ACCOUNT
    with users_stub(own, mallory) as stub, pytest.raises(grpc.RpcError) as raised:
        stub.SubmitJob(request)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "no worker lets tasks of mallory run as it" in (raised.value.details() or "")
    # Nor does it take from alice what is hers.
    request.user = "mallory"
    request.environments[0].script = SAYS % os.fsencode(secret)
    with users_stub(own, alice) as stub:
        (job_id,) = stub.SubmitJob(request).job_ids
    assert own.titan("wait", "--tls-dir", str(alice), str(job_id)).returncode == 0
    assert own.ok("logs", "--tls-dir", str(alice), str(job_id)) == as_account(ACCOUNT)
    assert own.json("show", "--tls-dir", str(alice), str(job_id))["user"] == "alice"


def test_a_job_of_another_is_not_put_back_to_run_as_an_account(own: SecureCluster) -> None:
    """What an admin requeues runs for its user, and the admin is not he."""
    alice = own.people.issue(Role.USER, "alice", "requeued")
    admin = own.people.issue(Role.ADMIN, "root", "requeuing")
    options = ("--tls-dir", str(alice), "--user", ACCOUNT, "--cwd", "/")
    job = int(own.ok("submit", "-q", *options, "true"))
    assert own.titan("wait", "--tls-dir", str(alice), str(job)).returncode == 0
    result = own.titan("requeue", "--tls-dir", str(admin), str(job))
    assert result.returncode == 5
    assert b"root may not have tasks of alice run as it" in result.stderr


def test_a_token_proves_him_too(own: SecureCluster, secret: Path, tmp_path: Path) -> None:
    ca = str(own.people.directory / "ca.pem")
    for name in ("alice", "bob"):
        (tmp_path / name).write_text(own.people.token(name))
        (tmp_path / name).chmod(0o600)
    way = ("--manager", own.token_address, "--tls-dir", ca, "--token-file")
    assert run(own, secret, ACCOUNT, *way, str(tmp_path / "alice")) == as_account(ACCOUNT)
    result = own.titan("submit", *way, str(tmp_path / "bob"), "--user", ACCOUNT, "true")
    assert result.returncode == 5
    assert b"no worker lets tasks of bob run as it" in result.stderr


def test_without_certificates_no_policy_helps(tmp_path: Path) -> None:
    require_root()
    policy = tmp_path / "policy.toml"
    policy.write_text(f'"*" = ["{ACCOUNT}", "self"]\nroot = ["{ACCOUNT}"]\n')
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--run-as-policy", str(policy))
        result = cluster.titan("submit", "--user", ACCOUNT, "true")
        assert result.returncode == 5
        assert b"who submits it has to be proven" in result.stderr
        with cluster.client() as client, pytest.raises(titan.PermissionDenied, match="proven"):
            client.submit(["true"], user=ACCOUNT)
        assert submits(cluster) == 0


def test_a_plan_is_refused_as_the_submit_would_be(own: SecureCluster) -> None:
    bob = own.people.issue(Role.USER, "bob", "planning")
    request = manager_pb2.PlanJobsRequest(user="alice", jobs=job_request("alice").jobs)
    request.jobs[0].execution.run_as = ACCOUNT
    with users_stub(own, bob) as stub, pytest.raises(grpc.RpcError) as raised:
        stub.PlanJobs(request)
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
