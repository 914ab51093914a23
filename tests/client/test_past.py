"""The past from Python."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import grpc
import pytest

import titan
from tests.client.fake_manager import PAST_US, FakeManager
from titan.cli.main import main
from titan.client import retry
from titan.client.moments import moment
from titan.rpc.v1 import manager_pb2


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (12, manager_pb2.Moment(lsn=12)),
        ("12", manager_pb2.Moment(lsn=12)),
        (1.5, manager_pb2.Moment(time_us=1_500_000)),
        ("2023-11-14T22:13:20Z", manager_pb2.Moment(time_us=PAST_US)),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), manager_pb2.Moment(time_us=PAST_US)),
        (None, None),
    ],
    ids=["int", "digits", "float", "text", "datetime", "now"],
)
def test_a_moment_is_an_lsn_or_a_time(
    at: float | str | datetime | None, expected: manager_pb2.Moment | None
) -> None:
    assert moment(at) == expected


@pytest.mark.parametrize("at", ["soon", 1 << 70])
def test_what_is_no_moment_is_refused(at: int | str) -> None:
    with pytest.raises(titan.InvalidJob):
        moment(at)


def test_every_read_can_be_of_the_past(manager: FakeManager) -> None:
    manager.add_job()
    with titan.Client() as client:
        client.show(1, at=5)
        client.queue(at=5)
        client.workers(at=5)
        client.stats(at=5)
    for method in ("GetJobStatus", "ListJobs", "ListWorkers", "GetStats"):
        (request,) = manager.called(method)
        assert request.at.lsn == 5


def test_the_pages_of_a_list_from_the_past_are_of_one_moment(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titan.client.requests.PAGE_JOBS_MAX", 2)
    for _ in range(3):
        manager.add_job()
    with titan.Client() as client:
        assert len(client.queue(at=1_700_000_000.5)) == 3
    first, second = (request.at for request in manager.called("ListJobs"))
    assert first.time_us == 1_700_000_000_500_000
    assert second.lsn == 7, "that of the first page's answer"


def test_what_is_out_of_range_is_an_error_of_its_own(manager: FakeManager) -> None:
    manager.fail("GetStats", grpc.StatusCode.OUT_OF_RANGE, "from LSN 5 to LSN 9")
    with titan.Client() as client, pytest.raises(titan.OutOfRange, match="from LSN 5"):
        client.stats(at=1)


def test_events_go_on_where_a_broken_stream_ended(manager: FakeManager) -> None:
    manager.events = [
        manager_pb2.GetEventsResponse(
            lsn=lsn,
            events=[manager_pb2.Event(lsn=lsn, event="TaskStarted", fields=json.dumps({"n": lsn}))],
        )
        for lsn in (3, 5, 8)
    ]
    with titan.Client() as client:
        events = client.job(1).events()
        seen = [next(events)]
        manager.fail("GetEvents", grpc.StatusCode.UNAVAILABLE)
        seen += events
    assert seen == [{"lsn": n, "time": 0.0, "event": "TaskStarted", "n": n} for n in (3, 5, 8)]


def test_a_manager_that_is_still_reading_is_waited_for_and_said_once(
    manager: FakeManager, capsys: pytest.CaptureFixture[str]
) -> None:
    manager.add_job()
    manager.keep_reading("GetJobStatus", "job 1 is looked for", count=3)
    assert main(["show", "1", "--retry-for", "1s"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "titan: job 1 is looked for (Ctrl-C stops waiting)\n"
    assert len(manager.called("GetJobStatus")) == 4
    manager.keep_reading("GetJobStatus", "job 1 is looked for", count=2)

    async def scenario() -> int:
        async with titan.AsyncClient(retry_for_seconds=0) as client:
            return int((await client.show(1))["job_id"])

    assert asyncio.run(scenario()) == 1


def test_a_manager_that_reads_for_too_long_ends_the_call(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "STILL_READING_SECONDS_MAX", 0)
    manager.keep_reading("GetStats", "it is still being read; ask again")
    with titan.Client() as client, pytest.raises(titan.Refused, match="ask again"):
        client.stats(at=5)


def test_the_other_client_does_the_same(manager: FakeManager) -> None:
    manager.add_job()
    manager.events = [
        manager_pb2.GetEventsResponse(lsn=3, events=[manager_pb2.Event(lsn=3, fields="{}")])
    ]

    async def scenario() -> list[int]:
        async with titan.AsyncClient() as client:
            await client.show(1, at=5)
            await client.queue(at=5)
            await client.workers(at=5)
            await client.stats(at=5)
            return [event["lsn"] async for event in client.events(1, at=5)]

    assert asyncio.run(scenario()) == [3]
    for method in ("GetJobStatus", "ListJobs", "ListWorkers", "GetStats", "GetEvents"):
        assert manager.called(method)[0].at.lsn == 5


def test_every_read_of_now_can_be_a_little_old(manager: FakeManager) -> None:
    manager.add_job()
    with titan.Client() as client:
        client.show(1, stale=True)
        client.queue(stale=True)
        client.workers(stale=True)
        client.stats(stale=True)
        client.tasks(1, stale=True)

    async def scenario() -> None:
        async with titan.AsyncClient() as client:
            await client.show(1, stale=True)
            await client.queue(stale=True)
            await client.workers(stale=True)
            await client.stats(stale=True)
            await client.tasks(1, stale=True)

    asyncio.run(scenario())
    for method in ("GetJobStatus", "ListJobs", "ListWorkers", "GetStats", "ListTasks"):
        assert [each.allow_stale for each in manager.called(method)] == [True, True], method
