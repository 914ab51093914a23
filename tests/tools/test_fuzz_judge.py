"""Whether the fuzzer's judge finds what it is there for."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import wait_until
from titan.rpc.v1 import manager_pb2, task_pb2, worker_pb2
from tools.fuzz import http2, raw, seeds
from tools.fuzz.judge import (
    DESCRIPTORS_MORE_MAX,
    GROWTH_BYTES_MAX,
    MIB,
    PEAK_BYTES_MAX,
    THREADS_MORE_MAX,
    TLS_BYTES,
    Sample,
    judge_drift,
    judge_honest,
    judge_log,
    judge_process,
    judge_worker,
    sample,
)
from tools.fuzz.link import Link
from tools.fuzz.messages import Maker
from tools.fuzz.people import People

BEFORE = Sample(pid=1, rss_bytes=50 * MIB, descriptors=20, threads=10)
LINE = "2026-11-29T16:15:34.347Z"
SERVED = {"submit": 0.01, "job": 0.1, "stats": 0.01}

# Takes a connection after the other, keeps each, and a mebibyte with it.
LEAKY_SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
kept = []
while True:
    kept.append((listener.accept(), b"x" * (1 << 20)))
"""


@pytest.mark.parametrize(
    ("after", "peak_bytes", "found"),
    [
        (BEFORE, 0, []),
        (BEFORE._replace(rss_bytes=BEFORE.rss_bytes + GROWTH_BYTES_MAX), PEAK_BYTES_MAX, []),
        (None, 0, ["m has ended"]),
        (BEFORE._replace(pid=2), 0, ["m is another process: 1 before, 2 now"]),
        (
            BEFORE._replace(rss_bytes=BEFORE.rss_bytes + GROWTH_BYTES_MAX + MIB), 0,
            ["m has 257 MiB more than before, over the bound of 256 MiB"],
        ),
        (BEFORE, PEAK_BYTES_MAX + MIB, ["m had 1025 MiB, over the bound of 1024 MiB"]),
        (
            BEFORE._replace(descriptors=21 + DESCRIPTORS_MORE_MAX), 0,
            ["m has 45 descriptors open, and had 20"],
        ),
        (BEFORE._replace(threads=11 + THREADS_MORE_MAX), 0, ["m has 27 threads, and had 10"]),
    ],
)  # fmt: skip
def test_a_server_that_grew_ended_or_kept_what_was_open_is_found(
    after: Sample | None, peak_bytes: int, found: list[str]
) -> None:
    assert judge_process("m", BEFORE, after, peak_bytes) == found


def test_connections_within_tls_may_take_what_they_do_and_no_more() -> None:
    peak_bytes = PEAK_BYTES_MAX + 1_000 * TLS_BYTES
    assert judge_process("m", BEFORE, BEFORE, peak_bytes, tls_connections=1_000) == []
    (found,) = judge_process("m", BEFORE, BEFORE, peak_bytes, tls_connections=900)
    assert "over the bound of 1080 MiB" in found


@pytest.mark.parametrize(
    ("mebibytes", "found"),
    [
        ([200] * 100, []),
        ([*range(100, 150), *range(100, 196)], []),
        # The last of a run that is too short to tell.
        ([*[100] * 50, *[900] * 49], []),
        ([100 + number for number in range(200)],
         ["m had 100 MiB more in the second half than in the first, over the bound of 96 MiB"]),
    ],
)  # fmt: skip
def test_a_server_that_has_more_and_more_is_found(mebibytes: list[int], found: list[str]) -> None:
    assert judge_drift("m", [each * MIB for each in mebibytes]) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{LINE} INFO a worker registered\n{LINE} WARNING a call without the access token", 0),
        (f"{LINE} ERROR Unexpected [DecodeError]\n  Traceback\n    File", 1),
        (f"{LINE} CRITICAL the log failed", 1),
        (f"{LINE} INFO x\nTraceback (most recent call last):", 1),
        (f"{LINE} INFO x\nfatal: memory allocation", 1),
        (f"{LINE} INFO \x1b[2J", 1),
    ],
)
def test_lines_that_no_healthy_server_writes_are_found(text: str, found: int) -> None:
    assert len(judge_log("m", text)) == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([SERVED] * 3, []),
        ([], ["the honest user was not served once"]),
        ([SERVED, {"fault": "Refused: x", "seconds": 1.0}], ["the honest user: Refused: x"]),
        (
            [*[SERVED] * 9, {**SERVED, "submit": 21.0}],
            ["the honest user waited 21.0 s for an answer"],
        ),
        (
            [{**SERVED, "submit": 3.0, "stats": 3.0}],
            ["the honest user waited 3.0 s for an answer, mostly"],
        ),
    ],
)
def test_an_honest_user_who_was_not_served_is_found(
    lines: list[dict[str, object]], found: list[str]
) -> None:
    assert judge_honest(lines) == found


def test_an_honest_worker_that_was_given_up_is_found_and_one_of_the_fuzzer_s_is_not() -> None:
    events = [
        {"event": "WorkerRegistered", "worker": 1, "name": "w1", "lsn": 2},
        {"event": "WorkerRegistered", "worker": 2, "name": "fuzz0", "lsn": 3},
        {"event": "WorkerLost", "worker": 2, "lsn": 4},
    ]
    assert judge_worker(events, "w1") == []
    events.append({"event": "WorkerUnhealthy", "worker": 1, "lsn": 5})
    assert judge_worker(events, "w1") == ["w1: WorkerUnhealthy at LSN 5"]


@pytest.fixture
def leaky_server() -> Iterator[tuple[int, int]]:
    """Its pid and its port."""
    with subprocess.Popen(
        [sys.executable, "-c", LEAKY_SERVER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def test_a_server_that_leaks_connections_and_memory_is_found(
    leaky_server: tuple[int, int],
) -> None:
    pid, port = leaky_server
    before = sample(pid)
    count = GROWTH_BYTES_MAX // MIB + 20
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"x")
    full = before.descriptors + count
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= full, "all are kept")
    found = judge_process("leaky", before, sample(pid), 0)
    assert len(found) == 2
    assert "MiB more than before" in found[0]
    assert "descriptors open" in found[1]


def test_the_same_seed_makes_the_same_messages_and_bytes() -> None:
    descriptor = manager_pb2.SubmitJobRequest.DESCRIPTOR

    def drawn(seed: int) -> list[bytes]:
        maker = Maker(random.Random(seed))
        messages = [maker.message(descriptor) for _ in range(20)]
        messages += [maker.mutated(seeds.submit()) for _ in range(20)]
        data = [each.SerializeToString(deterministic=True) for each in messages]
        return [*data, *(maker.damaged(each) for each in data)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_every_method_has_messages_of_its_own_kind() -> None:
    maker = Maker(random.Random(1))
    for services in seeds.SERVICES.values():
        for service in services:
            for method in service.methods:
                for message in (
                    seeds.sensible(method, [1], b"s"),
                    maker.message(method.input_type),
                ):
                    assert message.DESCRIPTOR.full_name == method.input_type.full_name


def test_what_would_harm_the_honest_user_or_the_machine_is_taken_away() -> None:
    cancel = manager_pb2.CancelJobRequest(
        jobs=[manager_pb2.JobSelector(job_id=5)], filter=manager_pb2.JobFilter(all=True)
    )
    seeds.tame(cancel, [])
    assert (cancel.jobs[0].job_id, cancel.filter.user) == (-1, "f")
    start = task_pb2.StartTaskRequest(specs=[task_pb2.TaskSpec(command=[b"rm", b"-rf"])])
    start.specs[0].execution.stdout = b"/etc/passwd"
    seeds.tame(start, [])
    assert start.specs[0].command[0] == b"/bin/true"
    assert start.specs[0].execution.stdout == b""
    worker = worker_pb2.RegisterWorkerRequest(name=seeds.WORKER, worker_id=b"i" * 16)
    seeds.tame(worker, [])
    assert worker.name != seeds.WORKER
    assert len(worker.worker_id) != 16
    submit = seeds.submit()
    seeds.tame(submit, [])
    assert [each.label for each in submit.jobs[0].scheduling.constraints] == [seeds.LABEL]


def test_a_frame_has_its_length_kind_flags_and_stream() -> None:
    made = http2.frame(http2.HEADERS, http2.END_HEADERS, 5, b"abc")
    assert made == b"\0\0\3" + b"\1" + b"\4" + b"\0\0\0\5" + b"abc"
    assert http2.fields(((b"a", b"b" * 200),)) == b"\0\1a\x7f\x49" + b"b" * 200


def test_a_call_of_http2_carries_what_proves_it() -> None:
    block = http2.call("/s/m", (("authorization", "Bearer t"),), scheme="https")
    assert b"\x0dauthorization\x08Bearer t" in block
    assert b":scheme\x05https" in block
    assert b"authorization" not in http2.call("/s/m")


def test_a_hello_of_tls_is_what_a_server_takes_for_one(tmp_path: Path) -> None:
    people = People(tmp_path / "tls")
    (target, *_) = people.targets("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    with Link(target) as link:
        hello = link.begin()
    # A record of a handshake, and all of it (RFC 8446, 5.1 and 4).
    assert (hello[0], hello[5]) == (22, 1)
    assert len(hello) == 5 + int.from_bytes(hello[3:5])


def test_windows_let_no_more_be_sent_than_the_other_side_takes() -> None:
    windows = raw._Windows(2)
    sent = sum(windows.take(1) + windows.take(3) for _ in range(100))
    # The connection's window is that of one stream.
    assert sent == http2.WINDOW_BYTES - 2 * len(http2.message(b""))
