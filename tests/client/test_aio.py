"""titan.AsyncClient: the same, awaited."""

import asyncio
import inspect
import threading

import grpc
import pytest

import titan
from tests.client.fake_manager import FakeManager


def test_a_job_is_submitted_awaited_shown_and_cancelled(manager: FakeManager) -> None:
    def finish(job: object) -> None:
        manager.run(manager.jobs[1])
        manager.write(manager.jobs[1], b"hello\n")
        manager.end(manager.jobs[1], exit_code=2)

    manager.on_submit = finish

    async def story() -> None:
        async with titan.AsyncClient() as client:
            job = await client.submit(["t"], memory="1G", request_id="once")
            assert (await job.wait(timeout=20))["exit_code"] == 2
            assert await job.output() == b"hello\n"
            assert (await job.cancel())["state"] == "FAILED"
            assert [chunk.data async for chunk in job.stream_output()] == [b"hello\n"]
            assert (await job.show())["job_id"] == 1
            assert [each["job_id"] for each in await client.queue(all=True)] == [1]
            assert await client.workers() == []
            assert (await client.stats())["version"] == "1.2.3"
            async for change in client.watch(1):
                assert change.jobs[0]["state"] == "FAILED"
                break
            assert [each.id for each in await client.submit_many([])] == []

    asyncio.run(story())


def test_many_waits_share_one_loop_and_survive_a_restart(manager: FakeManager) -> None:
    jobs = [manager.add_job() for _ in range(5)]

    def restart() -> None:
        manager.wait(lambda: len(manager.called("WatchJobs")) >= 5, "five watches")
        manager.stop()
        manager.start()
        for job in jobs:
            manager.run(job)
            manager.end(job)

    async def story() -> list[str]:
        async with titan.AsyncClient() as client:
            ended = await asyncio.gather(*(client.wait(job.job_id) for job in jobs))
            return [each[0]["state"] for each in ended]

    thread = threading.Thread(target=restart)
    thread.start()
    assert asyncio.run(story()) == ["COMPLETED"] * 5
    thread.join()


def test_a_wait_ends_with_its_timeout(manager: FakeManager) -> None:
    manager.add_job()

    async def story() -> None:
        async with titan.AsyncClient() as client:
            with pytest.raises(TimeoutError):
                await client.wait(1, timeout=0.05)
            with pytest.raises(titan.NotFound):
                await client.wait(9)

    asyncio.run(story())


def test_errors_are_the_same_as_those_of_the_other_client(manager: FakeManager) -> None:
    async def story() -> None:
        async with titan.AsyncClient(retry_for_seconds=0.2) as client:
            manager.fail("SubmitJob", grpc.StatusCode.UNAVAILABLE, "gone", count=50)
            with pytest.raises(titan.ManagerUnreachable, match="may have been accepted"):
                await client.submit(["true"])
            manager.fail("StreamOutput", grpc.StatusCode.FAILED_PRECONDITION, "w1 is away")
            with pytest.raises(titan.TitanError, match="w1 is away"):
                await client.job(1).output()
        address = manager.address
        manager.stop()
        async with titan.AsyncClient(address) as client:
            with pytest.raises(titan.ManagerUnreachable, match="connection refused"):
                await client.stats()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("one", "other"), [(titan.Client, titan.AsyncClient), (titan.Job, titan.AsyncJob)]
)
def test_both_clients_have_the_same_methods_with_the_same_arguments(one: type, other: type) -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(m).parameters.values()]
            for name, m in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(one) == methods(other)
