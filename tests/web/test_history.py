"""What is asked of the history, and its answers in the form of the commands."""

from __future__ import annotations

from typing import Any

import grpc

from tests.client.fake_manager import FakeManager
from tests.web.running import Running
from titan.rpc.v1 import history_pb2

START_US = 1_700_000_000_000_000


def get(server: Running, path: str) -> Any:
    with server.program() as client:
        response = client.get(f"/api/v1{path}")
        assert response.status_code == 200, response.text
        return response.json()


def test_bars_come_in_columns_and_count_from_the_beginning(
    manager: FakeManager, server: Running
) -> None:
    timeline = history_pb2.HistoryTimeline(
        workers=["w1", "w2"],
        jobs=[
            history_pb2.TimelineJob(job_id=4, name="a", user="ada"),
            history_pb2.TimelineJob(job_id=5, name="b", user="ada"),
        ],
        states=["RUNNING", "FAILED"],
        worker=[1, 0],
        job=[0, 1],
        index=[7, 0],
        attempt=[1, 2],
        start_us=[START_US + 1_500_000, 250_000],
        run_us=[0, 2_000_400],
        state=[0, 1],
    )
    manager.history = [
        history_pb2.GetHistoryResponse(lsn=9, time_us=START_US, more=True, timeline=timeline)
    ]
    since, until = START_US / 1e6, START_US / 1e6 + 60
    answer = get(server, f"/timeline?since={since}&until={until}&limit=2&worker=w1&user=ada")
    assert answer == {
        "lsn": 9,
        "time": since,
        "since": since,
        "until": until,
        "more": True,
        "workers": ["w1", "w2"],
        "users": ["ada"],
        "jobs": [
            {"job_id": 4, "name": "a", "user": 0},
            {"job_id": 5, "name": "b", "user": 0},
        ],
        "bars": {
            "worker": [1, 0],
            "job": [0, 1],
            "index": [7, 0],
            "attempt": [1, 2],
            "start": [1.5, 1.75],
            "end": [None, 3.75],
            "state": "RF",
        },
    }
    asked = manager.called("GetHistory")[-1]
    assert (asked.timeline.limit, asked.filter.worker, asked.filter.user) == (2, "w1", "ada")


def test_lists_are_asked_for_as_the_command_asks(manager: FakeManager, server: Running) -> None:
    attempt = history_pb2.HistoryAttempt(job_id=3, index=1, name="x", user="ada", state="FAILED")
    manager.history = [history_pb2.GetHistoryResponse(lsn=9, time_us=5, attempts=[attempt])]
    rows = get(server, "/history/attempts?since=100&until=200&state=failed&slowest=1&limit=7&job=3")
    assert [(each["job_id"], each["state"]) for each in rows] == [(3, "FAILED")]
    asked = manager.called("GetHistory")[-1]
    assert (asked.attempts.limit, asked.attempts.slowest) == (7, True)
    assert list(asked.filter.states) == ["FAILED"]
    failing = history_pb2.HistoryFailing(name="x", user="ada", failed=2, attempts=3)
    manager.history = [history_pb2.GetHistoryResponse(lsn=9, time_us=5, most_failing=[failing])]
    assert [each["failed"] for each in get(server, "/history/failing?user=ada")] == [2]
    manager.history = [history_pb2.GetHistoryResponse(lsn=9, time_us=5)]
    assert get(server, "/history/totals?by=worker") == []
    assert manager.called("GetHistory")[-1].totals.by == "worker"


def test_where_none_is_written_the_answer_says_so(manager: FakeManager, server: Running) -> None:
    manager.fail("GetHistory", grpc.StatusCode.FAILED_PRECONDITION, "no history is written", 9)
    assert get(server, "/session")["history"] is False
    with server.program() as client:
        for path in ("/timeline", "/history/usage", "/history/totals", "/history/attempts"):
            answer = client.get(f"/api/v1{path}")
            assert (answer.status_code, answer.json()["code"]) == (409, "FAILED_PRECONDITION")
            assert answer.json()["error"] == "no history is written"


def test_what_is_asked_wrongly_is_said(server: Running) -> None:
    with server.program() as client:
        for path in (
            "/timeline?since=now", "/timeline?limit=0", "/timeline?limit=999999999",
            "/history/usage?count=0", "/history/totals?by=name", "/history/attempts?source=lsf",
            "/history/failing?slowest=1",
        ):  # fmt: skip
            assert client.get(f"/api/v1{path}").status_code == 400, path
