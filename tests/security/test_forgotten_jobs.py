"""Jobs that the manager has forgotten, and moments of the past, are no way around an owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import titan
from tests.cluster import wait_until
from tests.security.calls import TALE, job_request, selector, users_stub
from tests.security.conftest import SecureCluster
from titan.errors import PermissionDenied
from titan.rpc.v1 import manager_pb2
from titan.tls.identity import Role

HERS = "is alice's, and you are bob: ask alice, or an admin"


class Past:
    """Alice's job 1, which is forgotten, and what others know of it."""

    def __init__(self, cluster: SecureCluster) -> None:
        issue = cluster.people.issue
        self.cluster = cluster
        self.alice, self.bob = (issue(Role.USER, name) for name in ("alice", "bob"))
        self.root = issue(Role.ADMIN, "root", "admin")
        with users_stub(cluster, self.alice) as stub:
            request = job_request("alice", held=True)
            request.environments[0].script = TALE + b"echo $SECRET; echo whispered\n"
            variable = request.environments[0].set.add()
            variable.name, variable.value = b"SECRET", b"in-her-environment"
            (self.job_id,) = stub.SubmitJob(request).job_ids
            self.then = stub.GetStats(manager_pb2.GetStatsRequest()).lsn
            release = manager_pb2.HoldJobRequest(jobs=[selector(self.job_id)], release=True)
            stub.HoldJob(release)
        with self.client(self.alice) as client:
            wait_until(lambda: not client.queue(all=True), "the job is forgotten")

    def client(self, folder: Path) -> titan.Client:
        """Of who has that certificate."""
        return titan.Client(self.cluster.address, tls_dir=folder)

    def script(
        self, folder: Path, *, lsn: int = 0, job: manager_pb2.JobSelector | None = None
    ) -> bytes:
        """The script of the job, now or at a moment."""
        request = manager_pb2.GetJobStatusRequest(job=job or selector(self.job_id), script=True)
        if lsn:
            request.at.lsn = lsn
        with users_stub(self.cluster, folder) as stub:
            found: bytes = stub.GetJobStatus(request).script
        return found


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    with SecureCluster(tmp_path_factory.mktemp("forgotten") / "cluster") as cluster:
        cluster.start("--forget-over", "0")
        yield Past(cluster)


def test_its_owner_and_admins_read_what_it_wrote(past: Past) -> None:
    for folder in (past.alice, past.root):
        with past.client(folder) as client:
            chunks = [each.data for each in client.stream_output(past.job_id)]
        assert b"".join(chunks) == b"in-her-environment\nwhispered\n"


def test_nobody_else_does(past: Past) -> None:
    with past.client(past.bob) as client:
        for attempt in (0, 1, 7):
            with pytest.raises(PermissionDenied, match=HERS):
                list(client.stream_output(past.job_id, attempt=attempt))
        # That it was there is no secret.
        assert client.show(past.job_id)["state"] == "COMPLETED"


def test_nobody_else_cancels_it_nor_anything_beside_it(past: Past) -> None:
    with past.client(past.bob) as client:
        own = client.submit(["true"], hold=True)
        for named in ((past.job_id,), (own.id, past.job_id), (past.job_id, own.id)):
            with pytest.raises(PermissionDenied, match=HERS):
                client.cancel(*named)
        assert own.show()["state"] == "PENDING"
        with past.client(past.alice) as hers:
            (answer,) = hers.cancel(past.job_id)
            assert answer["state"] == "COMPLETED"
            with pytest.raises(PermissionDenied, match="is bob's, and you are alice"):
                hers.cancel(past.job_id, own.id)
        assert own.show()["state"] == "PENDING"
        own.cancel()


def test_scripts_of_others_are_read_at_no_moment(past: Past) -> None:
    for folder in (past.alice, past.root):
        for lsn in (0, past.then):
            assert past.script(folder, lsn=lsn).startswith(TALE)
    by_name = manager_pb2.JobSelector(name="x")
    for lsn, job in ((0, None), (past.then, None), (past.then, by_name)):
        with users_stub(past.cluster, past.bob) as stub:
            request = manager_pb2.GetJobStatusRequest(job=job or selector(past.job_id))
            if lsn:
                request.at.lsn = lsn
            # The rest is everybody's to see.
            assert stub.GetJobStatus(request).job.user == "alice"
        with pytest.raises(Exception, match=HERS):
            past.script(past.bob, lsn=lsn, job=job)


def test_neither_script_nor_environment_is_in_what_happened_to_it(past: Past) -> None:
    with past.client(past.bob) as client:
        for at in (None, past.then):
            told = str(list(client.events(past.job_id, at=at)))
            assert "JobSubmitted" in told
            assert "whispered" not in told
            assert "in-her-environment" not in told
        assert "in-her-environment" not in str(client.show(past.job_id))
        assert "in-her-environment" not in str(client.show(past.job_id, at=past.then))
        assert "in-her-environment" not in str(client.queue(all=True, at=past.then))
