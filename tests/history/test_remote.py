"""The history through the manager: the same answers as from the tables."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

import titan
from tests.cluster import Cluster, wait_until
from tests.history.writing import WRITER_SECONDS, find_writers
from titan.rpc import access
from titan.rpc.channel import open_channel
from titan.rpc.history import ATTEMPTS_MAX, BARS_MAX, SLOTS_MAX
from titan.rpc.v1 import history_pb2 as pb2
from titan.rpc.v1 import manager_pb2_grpc


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Nothing of it runs yet."""
    with Cluster(tmp_path / "cluster") as made:
        yield made


def client(cluster: Cluster) -> titan.Client:
    """Calls it, and waits for the history to be there for as long as that may take."""
    return titan.Client(
        cluster.address,
        access_file=cluster.manager_directory / "access.json",
        retry_for_seconds=WRITER_SECONDS,
    )


def ask(
    cluster: Cluster, request: pb2.GetHistoryRequest, *, seconds: float = 60
) -> list[pb2.GetHistoryResponse]:
    """The pages of the answer. Raises RpcError."""
    token = access.find_token(cluster.address, cluster.manager_directory / "access.json")
    with open_channel(cluster.address) as channel:
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        # To connect may take long: it is the answer that is looked at.
        answers = stub.GetHistory(
            request, timeout=seconds, metadata=access.metadata(token), wait_for_ready=True
        )
        return list(answers)


def writer(cluster: Cluster) -> psutil.Process:
    """The process that writes the history."""
    (found,) = find_writers(cluster)
    return found


def test_through_the_manager_and_from_the_tables_the_answers_are_the_same(
    cluster: Cluster, new_url: Callable[[], str]
) -> None:
    url = new_url()
    cluster.start_manager("--history", url)
    cluster.start_worker("w1", "--cpus", "2")
    done = cluster.submit("--name", "three", "--array", "0-2", "--shell", "exit $TITAN_TASK_INDEX")
    running = cluster.submit("--name", "long", "--", "sleep", "600")
    held = [
        cluster.submit("--name", "held", "--hold", *options, "--", "true")
        for options in ((), ("--array", "3-9"))
    ]
    for job in held:
        cluster.ok("cancel", str(job))
    with client(cluster) as asked:
        # The manager may be there before the tables are.
        wait_until(lambda: _answers(asked), "the history answers", WRITER_SECONDS)
        wait_until(lambda: len(asked.history().rows) == 5, "they are there", WRITER_SECONDS)
        wait_until(
            lambda: len(asked.timeline(0)["bars"]["job"]) == 4, "what runs is there", WRITER_SECONDS
        )
        answer = asked.history(name="three", state=["failed"], since="1h", limit=1)
        assert (len(answer.rows), answer.more) == (1, True)
        assert answer.lsn > 3
        assert time.time() - 300 < answer.time <= time.time()
        waited = asked.history(name="held").rows
        nothing = ("attempt", "worker", "start_time", "run_seconds", "cpu_user_seconds",
                   "cpu_system_seconds", "max_rss_bytes", "stdout_path")  # fmt: skip
        assert {row[name] for row in waited for name in nothing} == {None}
        assert sorted((row["job_id"], row["index"] is None, row["tasks"]) for row in waited) == [
            (held[0], False, 1), (held[1], True, 7),
        ]  # fmt: skip
        bars = asked.timeline(time.time() - 600)
        jobs, columns = bars["jobs"], bars["bars"]
        named = [
            (jobs[job]["job_id"], index, bars["states"][state], end is None)
            for job, index, state, end in zip(
                *(columns[name] for name in ("job", "index", "state", "end_time")), strict=True
            )
        ]
        assert sorted(named) == [
            (done, 0, "COMPLETED", False), (done, 1, "FAILED", False), (done, 2, "FAILED", False),
            (running, 0, "RUNNING", True),
        ]  # fmt: skip
        assert bars["workers"] == ["w1"]
        assert not bars["more"]
        assert len(asked.timeline(0, state=["RUNNING"])["bars"]["job"]) == 1
        assert asked.timeline(0, limit=2)["more"]
    for options in (
        (), ("--slowest",), ("--me",), ("--totals", "user"), ("--totals", "worker"),
        ("--totals", "day"), ("--most-failing",), ("--limit", "1"), ("--job", str(done)),
        *(("--job", str(job)) for job in held), ("--state", "cancelled"), ("--worker", "w1"),
        ("--user", "nobody"), ("--since", "1h", "--state", "FAILED", "--source", "titan"),
    ):  # fmt: skip
        from_tables = cluster.titan("history", "--history", url, "--json", *options)
        remote = cluster.titan("history", "--json", *options)
        assert (remote.returncode, remote.stderr) == (0, from_tables.stderr)
        assert json.loads(remote.stdout) == json.loads(from_tables.stdout)
    usage = json.loads(cluster.ok("stats", "--last", "hour", "--json"))
    assert (usage["ended"], usage["failed"]) == (3, 2)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("nothing", {}, "nothing is asked"),
    ("a limit of none", {"attempts": pb2.AttemptsQuestion()}, "from 1 to"),
    ("a negative limit", {"attempts": pb2.AttemptsQuestion(limit=-1)}, "from 1 to"),
    ("a giant limit", {"attempts": pb2.AttemptsQuestion(limit=ATTEMPTS_MAX + 1)}, "from 1 to"),
    ("too many names", {"most_failing": pb2.FailingQuestion(limit=1 << 60)}, "from 1 to"),
    ("no group", {"totals": pb2.TotalsQuestion()}, "'' is no by"),
    ("a bad group", {"totals": pb2.TotalsQuestion(by="x'; DROP")}, "is no by"),
    ("no slots", {"usage": pb2.UsageQuestion(), "since_us": 1, "until_us": 2}, "slots"),
    (
        "too many slots",
        {"usage": pb2.UsageQuestion(slots=SLOTS_MAX + 1), "since_us": 1, "until_us": 2},
        "slots",
    ),
    ("usage of all time", {"usage": pb2.UsageQuestion(slots=1)}, "needs since and until"),
    (
        "usage of a user",
        {"usage": pb2.UsageQuestion(slots=1), "since_us": 1, "until_us": 2, "user": "u"},
        "leave out user",
    ),
    ("too many bars", {"timeline": pb2.TimelineQuestion(limit=BARS_MAX + 1)}, "from 1 to"),
    ("bars of all time", {"timeline": pb2.TimelineQuestion(limit=1)}, "needs since and until"),
    (
        "bars of no time",
        {"timeline": pb2.TimelineQuestion(limit=1), "since_us": 5, "until_us": 5},
        "no length",
    ),
    (
        "a time that ends first",
        {"attempts": pb2.AttemptsQuestion(limit=1), "since_us": 2, "until_us": 1},
        "since is after until",
    ),
    ("a state", {"attempts": pb2.AttemptsQuestion(limit=1), "states": ["RUNNING"]}, "no state"),
    ("a flood", {"attempts": pb2.AttemptsQuestion(limit=1), "states": ["LOST"] * 99}, "at most"),
    ("a source", {"attempts": pb2.AttemptsQuestion(limit=1), "source": "lsf"}, "no source"),
    ("a NUL", {"attempts": pb2.AttemptsQuestion(limit=1), "user": "a\0"}, "NUL"),
]
QUESTIONS = ("attempts", "totals", "most_failing", "usage", "timeline")


def test_what_makes_no_sense_is_refused_and_what_is_extreme_is_answered(
    cluster: Cluster, new_url: Callable[[], str]
) -> None:
    cluster.start_manager("--history", new_url())
    with client(cluster) as asked:
        wait_until(lambda: _answers(asked), "the history answers", WRITER_SECONDS)
    for what, fields, words in WRONG:
        question = {name: value for name, value in fields.items() if name in QUESTIONS}
        chosen = {name: value for name, value in fields.items() if name not in QUESTIONS}
        request = pb2.GetHistoryRequest(filter=pb2.HistoryFilter(**chosen), **question)
        with pytest.raises(grpc.RpcError) as raised:
            ask(cluster, request)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, what
        assert words in (raised.value.details() or ""), what
    largest = 2**63 - 1
    extreme = pb2.HistoryFilter(
        since_us=-largest, until_us=largest, user="\u202e' OR 1=1 --", job_id=-largest
    )
    for request in (
        pb2.GetHistoryRequest(filter=extreme, attempts=pb2.AttemptsQuestion(limit=ATTEMPTS_MAX)),
        pb2.GetHistoryRequest(filter=extreme, timeline=pb2.TimelineQuestion(limit=BARS_MAX)),
        pb2.GetHistoryRequest(filter=extreme, totals=pb2.TotalsQuestion(by="day")),
        pb2.GetHistoryRequest(
            filter=pb2.HistoryFilter(since_us=-largest, until_us=largest),
            usage=pb2.UsageQuestion(slots=SLOTS_MAX),
        ),
    ):
        (page,) = ask(cluster, request)
        assert not page.attempts
        assert not page.timeline.worker


def _answers(asked: titan.Client) -> bool:
    try:
        asked.history()
    except titan.TitanError:
        return False
    return True


def test_without_a_history_or_a_manager_the_answer_says_what_to_do(cluster: Cluster) -> None:
    cluster.start_manager("--history", "none")
    done = cluster.titan("history")
    assert done.returncode == 5
    assert b"start it without --history none" in done.stderr
    cluster.kill_manager()
    for command in (("history",), ("stats", "--last", "day")):
        done = cluster.titan(*command, "--retry-for", "0")
        assert done.returncode == 3
        assert b"--data-dir DIR reads the history where it was written" in done.stderr


def test_a_process_that_dies_is_waited_for_and_one_that_stands_is_told_of(
    cluster: Cluster,
) -> None:
    cluster.start_manager("--history", f"sqlite:///{cluster.root}/history.sqlite")
    cluster.start_worker("w1")
    cluster.titan("run", "true")
    with client(cluster) as asked:
        wait_until(lambda: _answers(asked) and asked.history().rows, "it is there", WRITER_SECONDS)
        first = writer(cluster)
        first.kill()
        # The next one takes a second or two, for which the call is repeated.
        assert len(asked.history().rows) == 1
        assert writer(cluster).pid != first.pid
        os.kill(writer(cluster).pid, signal.SIGSTOP)
        try:
            request = pb2.GetHistoryRequest(attempts=pb2.AttemptsQuestion(limit=1))
            with pytest.raises(grpc.RpcError) as raised:
                ask(cluster, request, seconds=0.5)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            # The manager goes on.
            assert cluster.json("stats")["jobs"]["completed"] == 1
        finally:
            os.kill(writer(cluster).pid, signal.SIGCONT)
        assert len(asked.history().rows) == 1
