"""Clients that know several managers, of which one leads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

import titan
from tests.client.clock import Clock
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager, wait_for_answers
from tests.cluster import free_port
from titan.client import reach, retry
from titan.client.aio_session import AioSession
from titan.client.cursors import OutputCursor, WatchCursor
from titan.client.session import Session
from titan.rpc.v1 import manager_pb2

HEAD_START_SECONDS = reach.HEAD_START_SECONDS


class Pair(NamedTuple):
    """Two managers, of which the first leads to begin with."""

    first: FakeManager
    second: FakeManager

    @property
    def text(self) -> str:
        """As --manager takes it."""
        return f"{self.first.address},{self.second.address}"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Each has its own token; TITAN_MANAGER names both.

    The one that is named first is called first, also where connecting to it takes a while.
    """
    wait_for_answers(monkeypatch)
    monkeypatch.setattr(reach, "HEAD_START_SECONDS", 600.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with FakeManager(tmp_path / "a") as first, FakeManager(tmp_path / "b") as second:
        second.other_leader = first.address
        pair = Pair(first, second)
        monkeypatch.setenv("TITAN_MANAGER", pair.text)
        yield pair


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a machine that does not answer those who connect to it."""
    monkeypatch.setattr(reach, "HEAD_START_SECONDS", HEAD_START_SECONDS)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with contextlib.suppress(TimeoutError):
            # Until nobody else is let in.
            while True:
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0.1)
                waiting.connect(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def free_address() -> str:
    """Where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def test_the_manager_that_leads_is_found_whichever_is_named_first(pair: Pair) -> None:
    for manager in (pair.text, f"{pair.second.address}, {pair.first.address}"):
        with titan.Client(manager) as client:
            assert client.submit(["true"]).id
    assert len(pair.first.jobs) == 2
    assert pair.second.jobs == {}


def test_once_found_the_leader_is_called_alone(pair: Pair) -> None:
    with titan.Client(f"{pair.second.address},{pair.first.address}") as client:
        for _ in range(3):
            client.stats()
    # Where an answer takes long, the other one is asked who leads; that may be told late.
    asked = [
        [each for each in manager.called("GetStats") if not each.allow_stale] for manager in pair
    ]
    assert [len(each) for each in asked] == [3, 1]


def test_a_manager_that_is_down_is_passed_over_at_once(pair: Pair) -> None:
    with titan.Client(f"{free_address()},{pair.first.address}") as client:
        assert client.submit(["true"]).id == 1


def test_a_machine_that_is_down_holds_no_command_up(
    pair: Pair, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 600.0)
    began = time.monotonic()
    with titan.Client(f"{silent},{pair.first.address}") as client:
        assert client.submit(["true"]).id == 1
    assert time.monotonic() - began >= reach.HEAD_START_SECONDS


def test_a_leader_that_nobody_can_connect_to_is_waited_for_until_another_leads(
    pair: Pair, silent: str
) -> None:
    pair.second.other_leader = silent

    def take_over() -> None:
        pair.second.wait(lambda: len(pair.second.called("SubmitJob")) > 1, "a second try")
        pair.second.other_leader = None

    thread = threading.Thread(target=take_over)
    thread.start()
    with titan.Client(f"{silent},{pair.second.address}") as client:
        assert client.submit(["true"]).id == 1
    thread.join()
    assert len({each.request_id for each in pair.second.called("SubmitJob")}) == 1


def test_a_submit_whose_answer_was_lost_goes_to_the_new_leader_under_its_number(
    pair: Pair,
) -> None:
    pair.first.fail("SubmitJob", grpc.StatusCode.UNAVAILABLE, "cut off")
    pair.first.on_submit = lambda job: pair.second.take_over(pair.first)
    with titan.Client() as client:
        assert client.submit(["true"]).id == 1
    assert len(pair.second.jobs) == 1
    numbers = [pair.first.called("SubmitJob"), pair.second.called("SubmitJob")]
    assert len({each.request_id for calls in numbers for each in calls}) == 1


class StandsStill:
    """The first manager takes submits and says nothing more; the second leads once it was asked."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._goes_on = threading.Event()
        self._thread = threading.Thread(target=self._take_over)

    def __enter__(self) -> None:
        self._pair.first.on_submit = self._stand_still
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._goes_on.set()
        self._thread.join()

    def _stand_still(self, _: manager_pb2.Job) -> None:
        self._goes_on.wait(60)

    def _take_over(self) -> None:
        second = self._pair.second
        second.wait(lambda: second.called("GetStats"), "somebody asks who leads")
        second.other_leader = None


def test_a_leader_that_stands_still_is_left_when_another_one_leads(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ATTEMPT_SECONDS", 600.0)
    with StandsStill(pair), titan.Client(retry_for_seconds=600.0) as client:
        assert client.submit(["true"], request_id="01" * 16).id == 1
    (submit,) = pair.second.called("SubmitJob")
    assert submit.request_id == b"\1" * 16


def test_in_a_loop_a_leader_that_stands_still_is_left_when_another_one_leads(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ATTEMPT_SECONDS", 600.0)

    async def story() -> None:
        async with titan.AsyncClient(retry_for_seconds=600.0) as client:
            assert (await client.submit(["true"])).id == 1

    with StandsStill(pair):
        asyncio.run(story())
    assert len(pair.second.called("SubmitJob")) == 1


def test_one_that_only_takes_its_time_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ATTEMPT_SECONDS", 600.0)
    asked = pair.second.called

    def take_time(_: manager_pb2.Job) -> None:
        pair.second.wait(lambda: len(asked("GetStats")) > 1, "it is asked twice who leads")

    pair.first.on_submit = take_time
    with titan.Client() as client:
        assert client.submit(["true"]).id == 1
    assert asked("SubmitJob") == []
    assert all(each.allow_stale for each in asked("GetStats"))


def test_a_submit_waits_while_nobody_leads(pair: Pair) -> None:
    pair.first.other_leader = pair.second.other_leader = ""

    def lead() -> None:
        pair.first.wait(lambda: len(pair.first.called("SubmitJob")) > 2, "three tries")
        pair.second.wait(lambda: len(pair.second.called("SubmitJob")) > 2, "three tries")
        pair.second.other_leader = None

    thread = threading.Thread(target=lead)
    thread.start()
    with titan.Client() as client:
        assert client.submit(["true"]).id == 1
    thread.join()


def test_when_all_are_away_the_error_names_each_and_what_it_said(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    pair.first.stop()
    pair.second.other_leader = ""
    with (
        titan.Client(retry_for_seconds=0.5) as client,
        pytest.raises(titan.ManagerUnreachable) as caught,
    ):
        client.submit(["true"], request_id="00" * 16)
    said = str(caught.value)
    assert f"{pair.first.address}: connection refused" in said
    assert f"{pair.second.address}: a standby, nobody leads" in said
    assert "within 0.5 s" in said
    assert f"--request-id {'00' * 16}" in said


def test_when_nobody_answers_at_all_the_error_comes_at_once(pair: Pair) -> None:
    for each in pair:
        each.stop()
    with titan.Client() as client, pytest.raises(titan.ManagerUnreachable) as caught:
        client.stats()
    assert str(caught.value) == (
        f"none of the managers answers ({pair.first.address}: connection refused; "
        f"{pair.second.address}: connection refused)"
    )


def test_a_list_with_something_else_in_it_is_refused() -> None:
    with pytest.raises(ValueError, match="'b' is not HOST:PORT"):
        titan.Client("127.0.0.1:1,b")


def test_what_asks_for_certificates_is_said_of_each_address() -> None:
    with pytest.raises(ValueError, match=r"10\.1\.2\.3:1 can be reached from other machines"):
        titan.Client("127.0.0.1:1,10.1.2.3:1")


def test_one_that_refuses_the_caller_is_passed_over_where_another_lets_him_in(
    pair: Pair, tmp_path: Path
) -> None:
    pair.first.stop()
    pair.first.start(writes_token=False)
    pair.second.other_leader = None
    with titan.Client() as client:
        assert client.submit(["true"]).id == 1
    pair.second.stop()
    pair.second.start(writes_token=False)
    with titan.Client() as client, pytest.raises(titan.AccessDenied, match="access token"):
        client.submit(["true"])


def test_a_refusal_by_the_leader_is_told_in_its_own_words(pair: Pair) -> None:
    with (
        titan.Client(f"{pair.second.address},{pair.first.address}") as client,
        pytest.raises(titan.NotFound, match="there is no job 9"),
    ):
        client.job(9).show()


@pytest.mark.parametrize("how", ["deposed", "killed"])
def test_a_wait_goes_on_at_the_new_leader(pair: Pair, how: str) -> None:
    job = pair.first.add_job()

    def fail_over() -> None:
        pair.first.wait(lambda: pair.first.called("WatchJobs"), "a watch")
        pair.second.take_over(pair.first)
        if how == "killed":
            pair.first.stop()
        pair.second.wait(lambda: pair.second.called("WatchJobs"), "a watch of the new one")
        pair.second.run(job)
        pair.second.end(job, exit_code=3)

    thread = threading.Thread(target=fail_over)
    thread.start()
    with titan.Client() as client:
        assert client.job(job.job_id).wait(timeout=DEADLINE_SECONDS)["exit_code"] == 3
    thread.join()


def test_output_goes_on_at_the_new_leader_behind_the_last_byte(pair: Pair) -> None:
    job = pair.first.add_job()
    pair.first.run(job)
    pair.first.write(job, b"one\n")
    with Session() as session:
        stream = session.output(OutputCursor(job.job_id, 0, follow=True), patience_seconds=20)
        assert next(stream).data == b"one\n"
        pair.second.take_over(pair.first)
        pair.second.write(job, b"two\n")
        pair.second.end(job)
        assert b"".join(chunk.data for chunk in stream) == b"two\n"
    assert pair.second.called("StreamOutput")[0].stdout_offset == 4


def test_a_watch_that_was_silent_for_long_has_all_its_time_when_the_leader_goes() -> None:
    repeats = retry.Repeats(retry.Policy("a:1,b:2", 30.0), now=0.0, is_stream=True)
    away = retry.Failure(retry.AWAY, "cut off")
    now = 3600.0

    def fail_until_raised() -> None:
        nonlocal now
        while True:
            now += repeats.pause_after(away, now)

    with pytest.raises(titan.ManagerUnreachable):
        fail_until_raised()
    assert 3628.0 < now <= 3630.0


def test_an_endless_wait_tells_once_whom_it_tries_and_what_each_says(pair: Pair) -> None:
    told: list[str] = []
    pair.first.other_leader = pair.second.other_leader = ""

    async def story() -> None:
        async with AioSession(notice=told.append) as session:
            session.retry_for_ever()
            asking = asyncio.create_task(session.stats())

            def has_tried() -> bool:
                # Who leads it is also asked while the first one is slow with its answer.
                asked = pair.second.called("GetStats")
                return len([each for each in asked if not each.allow_stale]) > 2

            await asyncio.to_thread(pair.second.wait, has_tried, "tries")
            pair.second.other_leader = None
            await asking

    asyncio.run(story())
    assert told == [
        "none of the managers answers as the one that leads "
        f"({pair.first.address}: a standby, nobody leads; "
        f"{pair.second.address}: a standby, nobody leads); "
        "trying again until one does (Ctrl-C stops waiting)"
    ]


def test_many_waits_of_one_loop_go_on_at_the_new_leader(pair: Pair) -> None:
    jobs = [pair.first.add_job() for _ in range(5)]

    def fail_over() -> None:
        pair.first.wait(lambda: len(pair.first.called("WatchJobs")) >= 5, "five watches")
        pair.second.take_over(pair.first)
        pair.first.stop()
        for job in jobs:
            pair.second.run(job)
            pair.second.end(job)

    async def story() -> list[str]:
        async with titan.AsyncClient() as client:
            ended = await asyncio.gather(*(client.wait(job.job_id) for job in jobs))
            return [each[0]["state"] for each in ended]

    thread = threading.Thread(target=fail_over)
    thread.start()
    assert asyncio.run(story()) == ["COMPLETED"] * 5
    thread.join()


def test_the_session_says_whom_it_calls_now(pair: Pair) -> None:
    with Session() as session:
        session.stats()
        assert session.address == pair.first.address
        pair.second.take_over(pair.first)
        session.stats()
        assert session.address == pair.second.address


def test_a_watch_goes_on_behind_what_it_has_seen_where_another_task_has_gone_already(
    pair: Pair,
) -> None:
    # Behind which the watch is.
    pair.first.add_job()

    async def story() -> None:
        async with AioSession() as session:
            watch = session.watch(WatchCursor([], 0))
            asking = asyncio.ensure_future(anext(watch))
            assert await asking == []
            pair.second.take_over(pair.first)
            pair.first.stop()
            await session.stats()
            assert session.address == pair.second.address
            job = pair.second.add_job()
            found: list[manager_pb2.Job] = []
            while not found:
                found = await anext(watch)
            assert [each.job_id for each in found] == [job.job_id]
            assert pair.second.called("WatchJobs")[0].after_lsn > 0
            await watch.aclose()

    asyncio.run(story())
