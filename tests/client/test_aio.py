"""titan.AsyncClient: the same, awaited."""

import asyncio
import dataclasses
import inspect
import threading
from typing import Any

import grpc
import pytest

import titan
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from titan.client import retry
from titan.client.aio_session import AioSession
from titan.client.cursors import WatchCursor
from titan.client.lines import Lines


def test_a_job_is_submitted_awaited_shown_and_cancelled(manager: FakeManager) -> None:
    def finish(job: object) -> None:
        manager.run(manager.jobs[1])
        manager.write(manager.jobs[1], b"hello\n")
        manager.end(manager.jobs[1], exit_code=2)

    manager.on_submit = finish

    async def story() -> None:
        async with titan.AsyncClient() as client:
            job = await client.submit(["t"], memory="1G", request_id="once")
            assert (await job.wait(timeout=DEADLINE_SECONDS))["exit_code"] == 2
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


def test_a_manager_that_has_answered_since_is_not_said_to_be_lost(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two calls that its restart cut off, one may look into why when the other is answered."""
    told: list[str] = []
    looks, was_answered = threading.Event(), threading.Event()

    def explain(*_: object) -> None:
        looks.set()
        assert was_answered.wait(DEADLINE_SECONDS)

    monkeypatch.setattr(Lines, "explain", explain)
    manager.fail("WatchJobs", grpc.StatusCode.UNAVAILABLE, "cut off")

    async def story() -> None:
        async with AioSession(retry_for_seconds=retry.FOR_EVER, notice=told.append) as session:
            watch = session.watch(WatchCursor())
            first = asyncio.ensure_future(anext(watch))
            assert await asyncio.to_thread(looks.wait, DEADLINE_SECONDS)
            await session.stats()
            was_answered.set()
            assert await first == []
            await watch.aclose()

    asyncio.run(story())
    assert told == []


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


def test_both_clients_submit_whatever_a_spec_can_say(manager: FakeManager) -> None:
    fields = {field.name for field in dataclasses.fields(titan.JobSpec)}
    for client_class in (titan.Client, titan.AsyncClient):
        arguments = set(inspect.signature(client_class.submit).parameters)
        assert arguments - {"self", "request_id"} == fields

    asked: dict[str, Any] = {
        "array": "0-3",
        "array_limit": 2,
        "after": ["42:any"],
        "constraints": ["zone==a"],
        "affinity": ["self"],
        "anti_affinity": [43],
        "spread": "rack",
        "exclusive": True,
        "retries": 3,
        "retry_on": [1],
        "max_fails": 2,
        "begin": 4_102_444_800.0,
        "deadline": 4_102_444_801.0,
        "preemptible": True,
        "hold": True,
    }

    # Without retries alone.
    once: dict[str, Any] = {"at_most_once": True}

    async def submit() -> None:
        async with titan.AsyncClient() as client:
            await client.submit(["t"], **asked)
            await client.submit(["t"], **once)

    asyncio.run(submit())
    with titan.Client() as client:
        client.submit(["t"], **asked)
        client.submit(["t"], **once)
    sent = [request.jobs[0].scheduling for request in manager.called("SubmitJob")]
    assert sent[:2] == sent[2:]
    # Nothing of it got lost on the way.
    known = {field.name for message in sent for field, _ in message.ListFields()}
    assert known == {field.name for field in sent[0].DESCRIPTOR.fields}


def test_a_spec_names_others_and_a_handle_one_that_is_there(manager: FakeManager) -> None:
    with titan.Client() as client:
        there = client.submit(["a"])
        first = titan.JobSpec(command=["b"], after=there)
        second = titan.JobSpec(command=["c"], after=[titan.After(first, "any"), there])
        jobs = client.submit_many([second, first])
        assert client.show(jobs[0].id)["after"] == [
            {"job_id": jobs[1].id, "condition": "any", "index": None, "same_index": False},
            {"job_id": there.id, "condition": "ok", "index": None, "same_index": False},
        ]
