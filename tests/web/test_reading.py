"""What is shown is what the manager says, in the form of `--json`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.client.fake_manager import PAST_LSN, PAST_US, FakeManager, array_of
from tests.web.running import Running
from titan.client import views
from titan.rpc.v1 import manager_pb2, types_pb2


def get(server: Running, path: str) -> Any:
    with server.program() as client:
        response = client.get(f"/api/v1{path}")
        assert response.status_code == 200, response.text
        return response.json()


def error(server: Running, path: str) -> tuple[int, dict[str, str]]:
    with server.program() as client:
        response = client.get(f"/api/v1{path}")
        return response.status_code, response.json()


def test_the_session_says_who_looks_and_at_what(manager: FakeManager, server: Running) -> None:
    assert get(server, "/session") == {
        "user": "alice",
        "admin": True,
        "writable": True,
        "csrf": "",
        "version": "0.1.0",
        "manager": manager.address,
        "cluster_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "history": True,
    }


def test_workers_and_stats_have_the_fields_of_the_commands(
    manager: FakeManager, server: Running
) -> None:
    worker = manager_pb2.Worker(name="w1", state=types_pb2.HEALTHY, running=3)
    manager.workers = [worker]
    stats = get(server, "/stats")
    assert stats["workers"]["healthy"] == 1
    assert (stats["cpus"], stats["cpus_free"], stats["at_time"]) == (4, 1.5, None)
    shown = get(server, "/workers")
    assert shown == {"lsn": 0, "at_time": None, "workers": [views.worker_view(worker)]}


def test_many_who_ask_for_the_cluster_are_answered_by_one_call(
    manager: FakeManager, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It counts for as long as they take to ask.
    monkeypatch.setattr(server.live.stats, "_seconds", 600.0)
    with server.program() as client:
        for _ in range(10):
            client.get("/api/v1/stats").raise_for_status()
    assert len(manager.called("GetStats")) == 1


def test_jobs_come_in_pages_and_as_asked_for(manager: FakeManager, server: Running) -> None:
    for number in range(5):
        manager.add_job(name=f"j{number}", user="bob" if number % 2 else "alice")
    page = get(server, "/jobs?limit=2")
    assert [each["job_id"] for each in page["jobs"]] == [1, 2]
    assert page["more"] is True
    assert page["jobs"][0] == views.job_view(manager.jobs[1])
    assert [each["job_id"] for each in get(server, "/jobs?after=2")["jobs"]] == [3, 4, 5]
    page = get(server, "/jobs?all=1&limit=2&before=5")
    assert [each["job_id"] for each in page["jobs"]] == [4, 3]
    assert [each["name"] for each in get(server, "/jobs?user=bob")["jobs"]] == ["j1", "j3"]
    assert [each["name"] for each in get(server, "/jobs?name=j4")["jobs"]] == ["j4"]
    assert get(server, "/jobs?state=RUNNING&state=failed")["jobs"] == []


def test_a_job_is_shown_with_its_attempts(manager: FakeManager, server: Running) -> None:
    job = manager.add_job(array=array_of((0, 3)))
    for index in range(3):
        manager.run(job, index)
    manager.end(job, 1, exit_code=3)
    shown = get(server, f"/jobs/{job.job_id}")
    assert [each["index"] for each in shown["job"]["attempts"]] == [0, 1, 2]
    failed = get(server, f"/jobs/{job.job_id}?state=FAILED")
    assert [each["exit_code"] for each in failed["job"]["attempts"]] == [3]
    one = get(server, f"/jobs/{job.job_id}.2?attempts=5")
    assert [each["index"] for each in one["job"]["attempts"]] == [2]
    assert not manager.called("GetJobStatus")[0].live
    get(server, f"/jobs/{job.job_id}?live=1")
    assert manager.called("GetJobStatus")[-1].live


@pytest.mark.parametrize(
    "path",
    ["/stats", "/workers", "/jobs", "/jobs/1", "/jobs/1/why", "/jobs/1/tasks", "/workflow/1"],
)
@pytest.mark.parametrize(
    ("at", "moment"),
    [
        ("lsn:7", manager_pb2.Moment(lsn=7)),
        ("1700000000.5", manager_pb2.Moment(time_us=1_700_000_000_500_000)),
    ],
)
def test_the_past_is_asked_by_position_or_time(
    manager: FakeManager, server: Running, path: str, at: str, moment: manager_pb2.Moment
) -> None:
    manager.add_job()
    answer = get(server, f"{path}?at={at}")
    assert (answer["lsn"], answer["at_time"]) == (PAST_LSN, PAST_US / 1e6)
    assert manager.calls[-1][1].at == moment


def test_events_tell_how_far_they_go(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    event = manager_pb2.Event(lsn=3, time_us=5, event="JobSubmitted", fields='{"job_id":1}')
    manager.events = [manager_pb2.GetEventsResponse(events=[event], lsn=4)]
    answer = get(server, "/jobs/1/events?limit=5")
    assert answer == {"lsn": 4, "events": [views.event_view(event)], "more": False}
    assert get(server, "/jobs/1/events?limit=1")["more"] is True
    assert get(server, "/jobs/1/events?after_lsn=4") == {"lsn": 4, "events": [], "more": False}


def test_nothing_of_a_record_is_missed_however_few_events_are_asked_for(
    manager: FakeManager, server: Running
) -> None:
    manager.add_job()
    events = [
        manager_pb2.Event(lsn=lsn, time_us=5, event="TaskAssigned", fields=f'{{"index":{index}}}')
        for index, lsn in enumerate((2, 3, 3, 3, 3, 5, 6, 6))
    ]
    # The manager cuts a record in two where an answer is full.
    pages = ((events[:3], 2), (events[3:6], 5), (events[6:], 7))
    for limit in range(1, 10):
        seen: list[int] = []
        lsn, more = 0, True
        while more:
            manager.events = [
                manager_pb2.GetEventsResponse(events=[e for e in page if e.lsn > lsn], lsn=told)
                for page, told in pages
            ]
            answer = get(server, f"/jobs/1/events?limit={limit}&after_lsn={lsn}")
            assert answer["lsn"] > lsn or not answer["more"]
            lsn, more = answer["lsn"], answer["more"]
            seen += [each["index"] for each in answer["events"]]
            assert len(answer["events"]) <= max(limit, 4)
        assert seen == list(range(8))


def test_events_are_told_up_to_a_moment(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    manager.events = [manager_pb2.GetEventsResponse(lsn=4)]
    get(server, "/jobs/1/events?at=lsn:4")
    assert manager.called("GetEvents")[-1].at.lsn == 4


def test_why_is_asked_of_a_task(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    manager.explanation.sentence = "no worker has room"
    assert get(server, "/jobs/1/why?index=4")["sentence"] == "no worker has room"
    asked = manager.called("ExplainJob")[-1].job
    assert [(each.start, each.stop) for each in asked.indexes] == [(4, 5)]


def test_tasks_are_letters(manager: FakeManager, server: Running) -> None:
    job = manager.add_job(array=array_of((0, 3), (7, 9)))
    for index in (0, 1, 7):
        manager.run(job, index)
    manager.end(job, 0)
    manager.end(job, 7, exit_code=1)
    assert get(server, "/jobs/1/tasks") == {
        "lsn": 6, "at_time": None, "job_id": 1, "array": "0-2,7-8", "total": 5, "first": 0,
        "states": "CRPFP",
    }  # fmt: skip
    page = get(server, "/jobs/1/tasks?first=1&count=2")
    assert (page["first"], page["states"]) == (1, "RP")


def test_a_workflow_has_edges(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    job = manager.add_job()
    for number, condition in ((1, manager_pb2.DEPENDENCY_FAILED), (77, manager_pb2.DEPENDENCY_OK)):
        job.scheduling.after.add(
            job=manager_pb2.JobReference(job=manager_pb2.JobSelector(job_id=number)),
            condition=condition,
        )
    job.scheduling.after[0].same_index = True
    answer = get(server, "/workflow/1")
    assert [each["job_id"] for each in answer["jobs"]] == [1, 2]
    assert answer["edges"] == [
        {"from": 1, "to": 2, "condition": "FAILED", "same_index": True, "index": None}
    ]
    assert answer["more"] is False


def test_the_slider_is_told_how_far_it_reaches(manager: FakeManager, server: Running) -> None:
    assert get(server, "/moments") == {
        "first": {"lsn": PAST_LSN, "time": PAST_US / 1e6},
        "last": {"lsn": PAST_LSN + 1, "time": PAST_US / 1e6 + 0.5},
    }


def test_output_is_followed_to_its_end(manager: FakeManager, server: Running) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.write(job, "größer".encode()[:3])
    with server.program() as client, server.events(client, "/jobs/1/output") as events:
        first = events.next()
        assert (first.name, first.data["text"], first.data["stream"]) == ("data", "gr", "stdout")
        manager.write(job, "größer".encode()[3:])
        # A character that came in two pieces is one.
        assert events.next().data["text"] == "ößer"
        manager.write(job, b"\xff\x1b[31m\n", err=True)
        assert events.next().data == {
            "stream": "stderr", "offset": 0, "text": "\ufffd\x1b[31m\n", "attempt": 1,
            "hole_bytes": 0,
        }  # fmt: skip
        manager.end(job)
        assert events.next() == ("end", None, {})


def test_what_is_wrong_with_a_question_is_a_sentence(server: Running) -> None:
    for path, status, sentence in (
        ("/jobs?limit=0", 400, "limit=0: it lies between 1 and 1000"),
        ("/jobs?limit=1001", 400, "limit=1001: it lies between 1 and 1000"),
        ("/jobs?limit=%F0%9F%98%80", 400, "limit='😀' is no whole number"),
        ("/jobs?limit=-1", 400, "limit='-1' is no whole number"),
        ("/jobs?limit=2&limit=3", 400, "limit is given 2 times"),
        ("/jobs?state=ASLEEP", 400, "'ASLEEP' is no state"),
        ("/jobs?all=yes", 400, "all='yes' is neither 0 nor 1"),
        ("/jobs?sort=name", 400, "the parameter 'sort' is not known"),
        ("/stats?at=yesterday", 400, "at='yesterday' is no time"),
        ("/stats?at=nan", 400, "at='nan' is no time"),
        ("/stats?at=1e300", 400, "at='1e300' is no time"),
        ("/stats?at=lsn:-4", 400, "at='lsn:-4' is no time"),
        ("/jobs/1/output?stream=both", 400, "stream='both' is none of stdout, stderr"),
        ("/jobs/99", 404, "there is no job 99"),
        ("/jobs/last", 404, "there is no job 'last'"),
        ("/jobs/1.x", 404, "there is no job '1.x'"),
        ("/jobs/" + "9" * 40, 404, "there is no job"),
        ("/nothing", 404, "there is no /api/v1/nothing"),
    ):
        found, body = error(server, path)
        assert (found, set(body)) == (status, {"error", "code"}), path
        assert sentence in body["error"], path


def test_a_method_that_is_not_for_a_path_is_refused(server: Running) -> None:
    with server.program() as client:
        assert client.post("/api/v1/stats").status_code in {404, 405}
        assert client.put("/jobs").status_code == 405


def test_without_a_manager_a_question_is_answered_soon(
    manager: FakeManager, server: Running
) -> None:
    get(server, "/stats")
    manager.stop()
    status, body = error(server, "/jobs")
    assert (status, body["code"]) == (503, "UNAVAILABLE")
    # Who looks is known all the same.
    assert get(server, "/session")["user"] == "alice"


def test_what_users_wrote_is_data_and_never_a_page(manager: FakeManager, server: Running) -> None:
    hostile = "</script><script>alert(1)</script>\u2028\x00\n"
    manager.add_job(name=hostile, command=[b"\xff<b>", hostile.encode()])
    with server.program() as client:
        response = client.get("/api/v1/jobs")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json()["jobs"][0]["name"] == hostile
    assert isinstance(response, httpx.Response)
