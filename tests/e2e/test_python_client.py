"""The Python client against a real cluster, sync and async, over a restart of the manager."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import titan
from tests.cluster import Cluster, free_port
from tests.e2e.tasks import Gate


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One whose manager these tests may kill."""
    with Cluster(tmp_path_factory.mktemp("python") / "cluster") as made:
        made.start_manager()
        made.start_worker("w1", "--cpus", "8")
        yield made


def test_a_job_is_submitted_waited_for_and_read(cluster: Cluster) -> None:
    with cluster.client() as client:
        job = client.submit(
            ["sh", "-c", 'echo "out $A"; echo err >&2; exit $TITAN_TASK_INDEX'],
            cpus=0.5, memory="16MiB", array=range(2), env={"A": "a b"}, name="python",
        )  # fmt: skip
        view = job.wait(timeout=60)
        assert (view["state"], view["exit_code"], view["name"]) == ("FAILED", 1, "python")
        assert view["tasks"]["completed"] == view["tasks"]["failed"] == 1
        assert job.output(index=1) == b"out a b\n"
        assert job.output(index=0, stream="stderr") == b"err\n"
        assert client.wait(job.id) == [{"job_id": job.id, "state": "FAILED", "exit_code": 1}]
        assert client.queue() == []
        assert [each["job_id"] for each in client.queue(all=True, name="python")] == [job.id]


def test_errors_have_a_class_for_each_decision(cluster: Cluster) -> None:
    with cluster.client() as client:
        with pytest.raises(titan.NotFound):
            client.show(99_999)
        with pytest.raises(titan.NotFound):
            client.wait(99_999)
        with pytest.raises(titan.InvalidJob):
            client.submit([])
        with pytest.raises(titan.InvalidJob):
            client.submit(["true"], cpus=-1)
        client.submit(["true"], request_id="errors")
        with pytest.raises(titan.InvalidJob, match="used for something else"):
            client.submit(["false"], request_id="errors")
    with (
        titan.Client(f"127.0.0.1:{free_port()}") as nobody,
        pytest.raises(titan.ManagerUnreachable, match="no manager answers"),
    ):
        nobody.stats()
    for error in (titan.NotFound, titan.InvalidJob, titan.Refused, titan.ManagerUnreachable):
        assert issubclass(error, titan.TitanError)


def test_a_wait_and_a_stream_of_output_go_on_over_a_crash_of_the_manager(
    cluster: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    with cluster.client() as client, cluster.client() as waiting, cluster.client() as reading:
        job = client.submit(f"echo one; {gate.line('echo two')}", shell=True)
        gate.wait_runs(1)
        outcome: list[object] = []
        thread = threading.Thread(target=lambda: outcome.extend(waiting.wait(job.id, timeout=60)))
        thread.start()
        stream = reading.stream_output(job.id)
        assert next(stream).data == b"one\n"
        cluster.kill_manager()
        cluster.start_manager()
        gate.open()
        assert b"".join(chunk.data for chunk in stream) == b"two\n", "nothing twice, nothing lost"
        thread.join(60)
        assert outcome == [{"job_id": job.id, "state": "COMPLETED", "exit_code": 0}]


def test_a_submit_under_way_when_the_manager_crashes_is_made_once(cluster: Cluster) -> None:
    with cluster.client() as client:
        client.stats()
        cluster.kill_manager()
        jobs: list[int] = []
        thread = threading.Thread(
            target=lambda: jobs.append(client.submit(["true"], name="over-a-crash").id)
        )
        thread.start()
        cluster.start_manager()
        thread.join(60)
    with cluster.client() as client:
        (found,) = client.queue(all=True, name="over-a-crash")
        assert [found["job_id"]] == jobs


def test_the_async_client_does_the_same(cluster: Cluster) -> None:
    async def scenario() -> None:
        access = cluster.manager_directory / "access.json"
        async with titan.AsyncClient(cluster.address, access_file=access) as client:
            jobs = [await client.submit(["sh", "-c", f"echo {n}"]) for n in range(5)]
            await asyncio.gather(*(job.wait(timeout=60) for job in jobs))
            outputs = await asyncio.gather(*(job.output() for job in jobs))
            assert outputs == [b"%d\n" % n for n in range(5)]
            with pytest.raises(titan.NotFound):
                await client.show(99_999)

    asyncio.run(scenario())


def test_a_watch_tells_of_every_job_and_goes_on_after_its_lsn(cluster: Cluster) -> None:
    with cluster.client() as client, cluster.client() as watching:
        lsn = client.stats()["lsn"]
        job = client.submit(["true"])
        job.wait(60)
        for changed in watching.watch(after_lsn=lsn):
            assert changed.lsn > lsn
            if [view["state"] for view in changed.jobs if view["job_id"] == job.id] == [
                "COMPLETED"
            ]:
                break
