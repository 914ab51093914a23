"""What changes is told as it happens, once for all who look, and nothing of it is missed."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import grpc
import pytest

from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from tests.cluster import wait_until
from tests.web.running import TOKEN, Event, Running
from titan.web import live

CLUSTER = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def states(event: Event) -> list[tuple[int, str]]:
    assert event.name == "jobs"
    return [(job["job_id"], job["state"]) for job in event.data["jobs"]]


def test_a_page_hears_of_each_change(manager: FakeManager, server: Running) -> None:
    job = manager.add_job()
    with server.browser() as client, server.events(client) as events:
        assert events.next() == ("hello", f"{CLUSTER}-1", {"lsn": 1})
        manager.run(job)
        event = events.next("jobs")
        assert (event.id, states(event)) == (f"{CLUSTER}-2", [(1, "RUNNING")])
        assert event.data["lsn"] == 2
        manager.end(job)
        assert states(events.next("jobs")) == [(1, "COMPLETED")]


def test_who_logs_out_is_told_nothing_more(manager: FakeManager, server: Running) -> None:
    job = manager.add_job()
    with server.browser() as client, server.events(client) as events:
        events.next("hello")
        csrf = client.get("/api/v1/session").json()["csrf"]
        client.delete("/api/v1/session", headers={"x-csrf-token": csrf}).raise_for_status()
        manager.run(job)
        with pytest.raises(StopIteration):
            events.next("jobs")


def test_the_cluster_is_told_when_it_changes(manager: FakeManager, server: Running) -> None:
    with server.program() as client, server.events(client) as events:
        event = events.next("cluster")
        assert event.id is None
        assert (event.data["stats"]["jobs"]["pending"], event.data["workers"]) == (0, [])
        manager.add_job()
        assert events.next("cluster").data["stats"]["jobs"]["pending"] == 1


def test_who_comes_back_is_told_what_he_missed(manager: FakeManager, server: Running) -> None:
    first, second = manager.add_job(), manager.add_job()
    with server.program() as client:
        with server.events(client) as events:
            at = events.next("hello").id
            manager.run(first)
            at = events.next("jobs").id
        manager.run(second)
        manager.end(first)
        assert at is not None
        for headers, query in (({"last-event-id": at}, ""), ({}, f"?after={at}")):
            seen: dict[int, str] = {}
            with server.events(client, f"/events{query}", headers=headers) as events:
                while seen != {1: "COMPLETED", 2: "RUNNING"}:
                    seen.update(states(events.next("jobs", "hello")))


def test_who_comes_back_late_is_told_by_the_manager(
    manager: FakeManager, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [manager.add_job() for _ in range(4)]
    for job in jobs[1:]:
        manager.run(job)
    with server.program() as client, server.events(client) as others:
        others.next("hello")
        path = f"/events?after={CLUSTER}-4"
        with server.events(client, path) as events:
            event = events.next("jobs", "hello", "reset")
            assert states(event) == [(2, "RUNNING"), (3, "RUNNING"), (4, "RUNNING")]
            assert event.id == f"{CLUSTER}-7"
            manager.run(jobs[0])
            assert states(events.next("jobs", "hello", "reset")) == [(1, "RUNNING")]
        monkeypatch.setattr(live, "CATCH_UP_JOBS_MAX", 1)
        with server.events(client, path) as events:
            assert events.next("jobs", "hello", "reset").name == "reset"
            assert events.next("jobs", "hello", "reset").name == "hello"


@pytest.mark.parametrize(
    "after", [f"{CLUSTER}-99", "ffffffff-0405-0607-0809-0a0b0c0d0e0f-1", "nonsense", "-", "9" * 99]
)
def test_a_position_that_is_not_of_this_log_is_reset(
    manager: FakeManager, server: Running, after: str
) -> None:
    manager.add_job()
    headers = {"last-event-id": after}
    with server.program() as client, server.events(client, headers=headers) as events:
        assert events.next("hello", "reset", "jobs") == ("reset", None, {})
        assert events.next("hello", "reset", "jobs").name == "hello"


def test_all_viewers_share_one_watch_which_ends_after_them(
    manager: FakeManager, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LINGER_SECONDS", 0.05)
    job = manager.add_job()
    with ExitStack() as stack:
        client = stack.enter_context(server.program())
        streams = [stack.enter_context(server.events(client)) for _ in range(20)]
        for each in streams:
            each.next("hello")
        manager.run(job)
        for each in streams:
            assert states(each.next("jobs")) == [(1, "RUNNING")]
        assert len(manager.called("WatchJobs")) == 1
        assert manager.called("WatchJobs")[0].interval_ms == live.INTERVAL_MS
        assert server.live.is_watching
    wait_until(lambda: not server.live.is_watching, "nobody looks, and nothing is asked")
    asked = len(manager.calls)
    with server.program() as client, server.events(client) as events:
        assert events.next("hello").data == {"lsn": 2}
    assert asked < len(manager.calls)


def test_the_manager_goes_and_comes_and_nothing_is_missed(
    manager: FakeManager, server: Running
) -> None:
    job = manager.add_job()
    with server.program() as client, server.events(client) as events:
        events.next("hello")
        manager.stop()
        event = events.next("manager")
        assert event.data["reachable"] is False
        assert event.data["error"]
        manager.run(job)
        manager.start()
        seen = [events.next("manager", "jobs", "reset", "hello") for _ in range(2)]
        assert {each.name for each in seen} == {"manager", "jobs"}
        back = next(each for each in seen if each.name == "manager")
        assert back.data == {"reachable": True, "error": None}
        assert states(next(each for each in seen if each.name == "jobs")) == [(1, "RUNNING")]


def test_a_page_is_told_where_there_is_no_manager_yet(
    manager: FakeManager, server: Running
) -> None:
    manager.stop()
    with server.program() as client, server.events(client) as events:
        assert events.next().data["reachable"] is False
        manager.start()
        assert events.next("manager").data["reachable"] is True
        assert events.next("hello").data == {"lsn": 0}


def test_a_watch_that_fell_behind_goes_on(manager: FakeManager, server: Running) -> None:
    manager.fail("WatchJobs", grpc.StatusCode.RESOURCE_EXHAUSTED, "fell too far behind")
    job = manager.add_job()
    with server.program() as client, server.events(client) as events:
        events.next("hello")
        manager.run(job)
        assert states(events.next("jobs")) == [(1, "RUNNING")]


def test_so_many_may_look(
    manager: FakeManager, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "VIEWERS_MAX", 1)
    with server.program() as client, server.events(client) as events:
        events.next("hello")
        answer = client.get("/api/v1/events")
        assert (answer.status_code, answer.json()["code"]) == (429, "RESOURCE_EXHAUSTED")


def test_streams_end_when_the_server_does(manager: FakeManager) -> None:
    running = Running(manager.address)
    with ExitStack() as stack:
        with running as server:
            client = stack.enter_context(server.program())
            events = stack.enter_context(server.events(client))
            events.next("hello")
        assert all(each.name == "cluster" for each in events.read_all())


def test_who_does_not_read_finds_the_end_of_it_and_not_all_that_was(
    manager: FakeManager, server: Running
) -> None:
    jobs = [manager.add_job(command=[b"x" * 20_000]) for _ in range(20)]
    host, _, port = server.address.rpartition(":")
    with socket.socket() as slow, server.program() as client, server.events(client) as others:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        slow.sendall(
            f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        others.next("hello")
        rounds = 60
        for number in range(rounds):
            # The other one reads it all.
            for job in jobs:
                job.priority = number
                manager.touch(job)
            while others.next("jobs").data["jobs"][-1]["priority"] < number:
                pass
        slow.settimeout(DEADLINE_SECONDS)
        last = b'"priority":%d,' % (rounds - 1)
        read = b""
        while read.count(last) < len(jobs):
            part = slow.recv(1 << 16)
            assert part
            read += part
    told = sum(read.count(b'"priority":%d,' % number) for number in range(rounds))
    assert told < rounds * len(jobs) / 2


def test_streams_that_are_torn_leave_nothing_open(manager: FakeManager, server: Running) -> None:
    def look() -> None:
        with server.program() as client, server.events(client) as events:
            events.next("hello")

    look()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        look()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "all is closed again")
