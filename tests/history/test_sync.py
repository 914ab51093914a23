"""`titan manager --history-sync`: what is acknowledged is in SQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import sqlalchemy as sa

import titan
from tests.cluster import Cluster, wait_until
from tests.history.writing import WRITER_SECONDS, find_writers
from tests.manager.harness import submit_request
from tests.postgresql import PostgreSQL
from titan.history.database import open_for_reading, url_of
from titan.history.schema import JOBS
from titan.manager import history
from titan.manager.history import check_can_sync
from titan.manager.recovery import StartRefused
from titan.rpc import access
from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing of it runs yet."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


def submit_first(cluster: Cluster) -> int:
    """A job, once there is somebody who writes it into the history."""
    wait = f"{WRITER_SECONDS:g}s"
    words = ("submit", "-q", "--retry-for", wait, "--", "true")
    return int(cluster.ok(*words, seconds=2 * WRITER_SECONDS))


class Caller:
    """Calls a manager once, and looks into its history."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._token = access.find_token(cluster.address, cluster.manager_directory / "access.json")
        self._channel = open_channel(cluster.address)
        self.stub = manager_pb2_grpc.ManagerServiceStub(self._channel)
        self._engine = open_for_reading(url_of(url, cluster.manager_directory))

    def close(self) -> None:
        self._channel.close()
        self._engine.dispose()

    def submit(self, request_id: bytes) -> int:
        """The job's id. Raises RpcError."""
        request = submit_request(1, request_id=request_id)
        # What is UNAVAILABLE is the history, and not a manager to whom to connect takes long.
        answer = self.stub.SubmitJob(
            request, timeout=60, metadata=access.metadata(self._token), wait_for_ready=True
        )
        return int(answer.job_ids[0])

    def requeue(self, job_id: int) -> int:
        """The id of the job that came of it."""
        request = manager_pb2.RequeueJobRequest(
            request_id=os.urandom(16), user="u", jobs=[manager_pb2.JobSelector(job_id=job_id)]
        )
        answer = self.stub.RequeueJob(
            request, timeout=60, metadata=access.metadata(self._token), wait_for_ready=True
        )
        return answer.submitted_again[job_id]

    def rows(self) -> set[int]:
        """The jobs that are there at this moment."""
        with self._engine.connect() as connection:
            return set(connection.scalars(sa.select(JOBS.c.job_id)))


class Submitters:
    """Four at a time, with eight jobs each; every one is repeated until it is acknowledged."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._cluster, self._url = cluster, url
        self.done: list[int] = []
        self.missing: list[int] = []
        """They had no row when they were acknowledged."""
        self.may_end = threading.Event()
        """Until then each has one job left, for after what the test does meanwhile."""
        self._threads = [threading.Thread(target=self._submit, args=(each,)) for each in range(4)]
        for thread in self._threads:
            thread.start()

    def _submit(self, thread: int) -> None:
        caller = Caller(self._cluster, self._url)
        for number in range(8):
            if number == 7:
                self.may_end.wait(120)
            while (submitted := _try(caller, bytes([thread, number]) * 8)) is None:
                pass
            rows = wait_until(lambda: _rows(caller), "it can be looked up")
            if submitted not in rows:
                self.missing.append(submitted)
            self.done.append(submitted)
        caller.close()

    def finish(self) -> None:
        """Waits for all."""
        self.may_end.set()
        for thread in self._threads:
            thread.join(120)
        assert len(self.done) == 32


def _rows(caller: Caller) -> set[int]:
    """The jobs that are there; none while the database is away."""
    try:
        return caller.rows()
    except sa.exc.OperationalError:
        return set()


def test_what_is_acknowledged_has_its_row_whoever_is_killed(
    cluster: Cluster, new_url: Callable[[], str]
) -> None:
    url = new_url()
    cluster.start_manager("--history", url, "--history-sync")
    (process,) = wait_until(lambda: find_writers(cluster), "it is started", WRITER_SECONDS)
    assert process.nice() == os.nice(0)
    with titan.Client(
        cluster.address,
        access_file=cluster.manager_directory / "access.json",
        retry_for_seconds=WRITER_SECONDS,
    ) as client:
        client.submit(["true"])
    submitters = Submitters(cluster, url)
    wait_until(lambda: len(submitters.done) >= 8, "some are in")
    process.kill()
    submitters.finish()
    caller = Caller(cluster, url)
    try:
        assert submitters.missing == []
        done = submitters.done
        assert len(set(done)) == 32
        assert caller.rows() == {1, *done}
        cluster.titan("cancel", "2")
        assert caller.requeue(2) in caller.rows()
    finally:
        caller.close()


def test_while_the_database_is_away_a_submit_is_unavailable_and_its_repeat_the_same_job(
    cluster: Cluster, postgresql: PostgreSQL
) -> None:
    url = postgresql.make_database()
    cluster.start_manager("--history", url, "--history-sync")
    submit_first(cluster)
    caller = Caller(cluster, url)
    try:
        postgresql.kill()
        try:
            with pytest.raises(grpc.RpcError) as raised:
                caller.submit(b"x" * 16)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            sentence = raised.value.details() or ""
            assert "accepted and will run, but its row is not in the history's database" in sentence
            # What needs no row is answered.
            assert len(cluster.json("queue")) == 2
            done = cluster.titan(
                "submit", "--retry-for", "1s", "--request-id", "ab" * 16, "--", "true"
            )
            assert done.returncode == 3
            assert f"safe to repeat with --request-id {'ab' * 16}".encode() in done.stderr
        finally:
            postgresql.start()
        # The writer tries again after some seconds at most.
        again = wait_until(lambda: _try(caller, b"x" * 16), "it is in", seconds=60)
        assert again == 2
        assert caller.submit(b"x" * 16) == 2
        cluster.ok("submit", "--request-id", "ab" * 16, "--", "true")
        assert caller.rows() == {1, 2, 3}
    finally:
        caller.close()


def test_a_database_that_dies_among_submits_costs_none_and_doubles_none(
    cluster: Cluster, postgresql: PostgreSQL
) -> None:
    if not postgresql.is_own:
        pytest.skip("NOT TESTED: the PostgreSQL that was named is not this test's to kill")
    url = postgresql.make_database()
    cluster.start_manager("--history", url, "--history-sync")
    first = submit_first(cluster)
    submitters, caller = Submitters(cluster, url), Caller(cluster, url)
    try:
        try:
            wait_until(lambda: len(submitters.done) >= 4, "some are in")
            postgresql.kill()
            # Whatever the others are at: at that moment all of them may look up what they have.
            assert _try(caller, b"z" * 16) is None
        finally:
            postgresql.start()
            submitters.finish()
        assert submitters.missing == []
        late = wait_until(lambda: _try(caller, b"z" * 16), "it is in")
        assert late is not None
        # Repeated under the same request id each is one job, and each job has a row.
        jobs = sorted([first, late, *submitters.done])
        assert jobs == list(range(first, first + 34))
        assert sorted(caller.rows()) == jobs
        assert sum(cluster.json("stats")["jobs"].values()) == 34
    finally:
        caller.close()


def _try(caller: Caller, request_id: bytes) -> int | None:
    """The job's id; None: it is to be tried again."""
    try:
        return caller.submit(request_id)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None


def test_where_nobody_would_write_it_the_manager_does_not_start(cluster: Cluster) -> None:
    done = cluster.titan(
        "manager", "--data-dir", str(cluster.manager_directory), "--history", "none",
        "--history-sync",
    )  # fmt: skip
    assert done.returncode == 1
    assert b"--history-sync needs a history: leave out --history none" in done.stderr


@pytest.mark.parametrize("url", ["", "postgresql://db/titan"])
def test_without_the_extra_the_manager_does_not_start_either(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_can_sync(url)
    monkeypatch.setattr(history, "MODULES", ("sqlalchemy", "no_such_module"))
    needed = r"--history-sync needs no_such_module: pip install 'titan-scheduler\[history\]'"
    with pytest.raises(StartRefused, match=needed):
        check_can_sync(url)
