"""The history from Python: what is asked, and what becomes of the answer, by both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

import titan
from tests.client.fake_manager import FakeManager
from titan.rpc.v1 import history_pb2 as pb2

ANSWER = pb2.GetHistoryResponse(
    lsn=7,
    time_us=5_000_000,
    attempts=[pb2.HistoryAttempt(job_id=3, state="FAILED", cpus=1, run_seconds=2.0)],
    totals=[pb2.HistoryTotal(name="ada", attempts=1, cpu_seconds=7200)],
    most_failing=[pb2.HistoryFailing(name="n", user="ada", failed=2, attempts=3)],
    usage=pb2.HistoryUsage(until=10, ended=[1], failed=[0], busy_cpus=[1], cpus=[2],
                           waiting_tasks=[0]),
    timeline=pb2.HistoryTimeline(
        workers=["w1"], jobs=[pb2.TimelineJob(job_id=3)], states=["RUNNING"], worker=[0], job=[0],
        index=[4], attempt=[1], start_us=[1_500_000], run_us=[0], state=[0],
    ),
)  # fmt: skip
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("history", (), {"since": 1.5, "state": ["failed"], "user": "ada", "limit": 9}, "attempts"),
    ("history_totals", ("user",), {"until": datetime.fromtimestamp(9, UTC)}, "totals"),
    ("history_failing", (), {"source": "titan", "job": -4}, "most_failing"),
    ("usage", (1.0, 2.0), {"slots": 1}, "usage"),
    ("timeline", ("1970-01-01T00:00:01Z", 9.0), {"worker": "w1"}, "timeline"),
]


@pytest.mark.parametrize(("method", "arguments", "options", "question"), CALLS,
                         ids=[call[0] for call in CALLS])  # fmt: skip
def test_both_clients_ask_and_tell_the_same(
    manager: FakeManager,
    method: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    question: str,
) -> None:
    manager.history.append(ANSWER)
    manager.fail("GetHistory", grpc.StatusCode.UNAVAILABLE, "its process is started again")
    with titan.Client() as client:
        told = getattr(client, method)(*arguments, **options)

    async def again() -> Any:
        async with titan.AsyncClient() as client:
            return await getattr(client, method)(*arguments, **options)

    assert asyncio.run(again()) == told
    requests = manager.called("GetHistory")
    assert {each.WhichOneof("question") for each in requests} == {question}
    assert requests[-1] == requests[0]


def test_the_filter_and_the_answer_are_what_they_are_called(manager: FakeManager) -> None:
    manager.history.append(ANSWER)
    with titan.Client() as client:
        found = client.history(since=1.5, until=2, state=["failed"], worker="w1", job=3)
        (request,) = manager.called("GetHistory")
        assert request.filter == pb2.HistoryFilter(
            since_us=1_500_000, until_us=2_000_000, states=["FAILED"], worker="w1", job_id=3
        )
        assert (found.lsn, found.time, found.more) == (7, 5.0, False)
        (row,) = found.rows
        assert (row["job_id"], row["end_time"], row["start_time"]) == (3, 0.0, None)
        bars = client.timeline(0, 2)["bars"]
        assert (bars["start_time"], bars["end_time"], bars["index"]) == ([1.5], [None], [4])
        for wrong in (
            {"since": "sometime"},
            {"limit": 1 << 70},
            {"job": 1 << 70},
            {"since": 1e300},
        ):
            with pytest.raises(titan.InvalidJob):
                client.history(**wrong)
