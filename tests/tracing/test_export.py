"""Traces of real jobs, as a collector gets them."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest
from opentelemetry.exporter.otlp.proto.grpc import exporter as library

import wal
from tests.cluster import PYTHON_TITAN, Cluster, wait_until
from tests.tracing.collector import Collector, Received, collecting
from titan.model import TIME_US_MAX
from titan.trace_context import TraceContext
from titan.tracing.exporter import Exporter
from titan.tracing.spans import SpanData

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
# An exporter gives way to all else on the machine: to start takes it long where much else runs.
EXPORT_SECONDS = 120.0
ALL = {"job", "submit", "1 attempt", "1 queued", "1 dispatched", "1 running", "1 reported"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def traced(cluster: Cluster, port: int) -> None:
    cluster.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"


def wait_spans(collector: Collector, job_id: int, names: set[str]) -> dict[str, Received]:
    wait_until(
        lambda: collector.of_job(job_id).keys() >= names,
        f"the spans of job {job_id}",
        EXPORT_SECONDS,
    )
    return collector.of_job(job_id)


@pytest.fixture
def port() -> Iterator[int]:
    """One that is given to nobody else, and where nobody listens before a collector does."""
    with socket.socket() as kept:
        # As gRPC's servers do, which so may have it, too.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


def exporter_of(cluster: Cluster) -> psutil.Process:
    def find() -> psutil.Process | None:
        for process in cluster.find_processes():
            try:
                if "titan.tracing.process" in process.cmdline():
                    return process
            except psutil.Error:
                continue
        return None

    found = wait_until(find, "the exporter runs")
    assert found is not None
    return found


def test_the_spans_of_a_job_are_a_tree_in_the_submitters_trace_that_the_task_goes_on_with(
    cluster: Cluster,
) -> None:
    collector = Collector()
    with collecting(collector) as port:
        traced(cluster, port)
        assert "traces are exported endpoint=" in cluster.start_manager().log
        cluster.start_worker("w1", "--cpus", "2")
        cluster.environment.update(TRACEPARENT=PARENT, TRACESTATE="vendor=x")
        job_id = cluster.submit("--shell", 'echo "$TRACEPARENT $TRACESTATE"; exit 3')
        spans = wait_spans(collector, job_id, ALL)
        told = cluster.ok("logs", str(job_id)).decode()
        shown = cluster.json("show", str(job_id))
    root, attempt, running = spans["job"], spans["1 attempt"], spans["1 running"]
    assert spans.keys() == ALL
    assert {each.trace_id for each in spans.values()} == {TRACE} == {shown["trace_id"]}
    assert {each.trace_state for each in spans.values()} == {"vendor=x"}
    assert root.parent == "00f067aa0ba902b7"
    assert spans["submit"].parent == attempt.parent == root.span_id
    steps = [spans[f"1 {name}"] for name in ("queued", "dispatched", "running", "reported")]
    assert {each.parent for each in steps} == {attempt.span_id}
    assert len({each.span_id for each in spans.values()}) == len(ALL)
    times = [time for each in steps for time in (each.start_ns, each.end_ns)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (attempt.start_ns, attempt.end_ns)
    assert (root.start_ns, root.end_ns) == (attempt.start_ns, attempt.end_ns)
    assert told == f"00-{TRACE}-{running.span_id}-01 vendor=x\n"
    assert root.is_error
    assert attempt.is_error
    assert running.attributes["titan.exit_code"] == 3
    assert running.attributes["titan.worker"] == "w1"
    assert running.attributes["titan.reason"] == "EXIT"
    (resource, *_) = collector.resources
    assert resource["service.name"] == "titan"
    stats = cluster.dump()[0]
    assert resource["service.instance.id"] in str(stats)


def test_jobs_without_a_trace_get_one_and_those_of_an_unsampled_one_are_not_told(
    cluster: Cluster,
) -> None:
    collector = Collector()
    with collecting(collector) as port:
        traced(cluster, port)
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "2")
        unsampled = f"00-{TRACE}-00f067aa0ba902b7-00"
        cluster.environment["TRACEPARENT"] = unsampled
        first = cluster.submit("--shell", 'echo "$TRACEPARENT"')
        cluster.environment["TRACEPARENT"] = "nonsense"
        second = cluster.submit("--array", "0-2", "--shell", 'echo "$TRACEPARENT"')
        spans = wait_spans(collector, second, ALL)
        cluster.ok("wait", str(first))
        told = cluster.ok("logs", str(first)).decode()
        of_tasks = [cluster.ok("logs", f"{second}.{index}").decode() for index in range(3)]
        # One that was exported twice is one.
        wait_until(
            lambda: len({each.span_id for each in collector.spans}) >= 17,
            "three attempts and a job",
            EXPORT_SECONDS,
        )
    assert told.startswith(f"00-{TRACE}-")
    assert told.endswith("-00\n")
    assert collector.of_job(first) == {}
    assert spans["job"].parent == ""
    assert not spans["job"].is_error
    running = {
        each.attributes["titan.task.index"]: each
        for each in collector.spans
        if each.name == "running"
    }
    assert of_tasks == [
        f"00-{spans['job'].trace_id}-{running[index].span_id}-01\n" for index in range(3)
    ]


def test_after_kill_9_of_exporter_and_manager_and_without_a_collector_no_span_is_lost(
    cluster: Cluster, port: int
) -> None:
    collector = Collector()
    traced(cluster, port)
    # Enough for a call by one who gives way to all others, so that not each try is in vain.
    cluster.environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "3"
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    # Nobody takes them yet.
    first = cluster.submit("true")
    cluster.ok("wait", str(first))
    assert cluster.manager is not None
    cluster.manager.wait_log(
        "the collector does not take traces: they wait in the log", EXPORT_SECONDS
    )
    with collecting(collector, port):
        before = wait_spans(collector, first, ALL)
        exporter_of(cluster).kill()
        second = cluster.submit("true")
        cluster.ok("wait", str(second))
        wait_spans(collector, second, ALL)
        third = cluster.submit("true")
        cluster.ok("wait", str(third))
        cluster.kill_manager()
        cluster.start_manager()
        wait_spans(collector, third, ALL)
        again = collector.of_job(first)
    # Whatever came twice came as the same.
    assert again == before
    assert len({each.span_id for each in collector.spans}) == 3 * len(ALL)


def test_a_span_of_a_clock_that_goes_wrong_is_told_and_keeps_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collector = Collector()
    context = TraceContext(bytes(15) + b"t", bytes(7) + b"s", 1)
    with collecting(collector) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        spans = [
            SpanData(context, None, "", "running", 1, end_us, {"titan.job.id": 1})
            for end_us in (TIME_US_MAX, 2)
        ]
        assert Exporter(b"cluster", stop=Event()).export(spans)
    assert [each.end_ns for each in collector.spans] == [(1 << 63) - 1, 2000]


def test_why_a_collector_takes_nothing_is_said_once_and_without_its_password(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = iter(range(3))

    class Away(Event):
        """Tells it to stop after three tries, and lets no time pass."""

        def is_set(self) -> bool:
            return next(tries, None) is None

        def wait(self, timeout: float | None = None) -> bool:
            return False

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ada:hunter2@127.0.0.1:1")
    # The library's own try is one, which may take long where this process gets no core.
    monkeypatch.setattr(library, "_MAX_RETRYS", 1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    context = TraceContext(bytes(15) + b"t", bytes(7) + b"s", 1)
    exporter = Exporter(b"cluster", stop=Away())
    with caplog.at_level(logging.INFO):
        assert not exporter.export([SpanData(context, None, "", "job", 1, 2, {})])
    (complaint,) = (each.getMessage() for each in caplog.records if each.name == "titan.traces")
    assert "does not take traces: they wait in the log: Failed to export" in complaint
    assert "UNAVAILABLE" in complaint
    assert "ada" not in complaint
    assert "hunter2" not in complaint


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "over grpc, not over http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "some", "OTEL_TRACES_SAMPLER=some: there are always_on"),
    ],
)
def test_variables_that_ask_for_what_is_not_there_are_refused_before_anything_is_recorded(
    tmp_path: Path, name: str, value: str, why: str
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", name: value}
    refused = subprocess.run(
        [*PYTHON_TITAN, "manager", "--data-dir", tmp_path, "--listen", "127.0.0.1:0"],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert why in line
    with wal.Reader(tmp_path / "wal", from_lsn=1) as reader:
        assert reader.read(1) == []


def test_where_nobody_exports_a_task_goes_on_with_its_submitters_span(cluster: Cluster) -> None:
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    cluster.environment.update(TRACEPARENT=PARENT)
    job_id = cluster.submit("--shell", 'echo "$TRACEPARENT"')
    cluster.ok("wait", str(job_id))
    assert cluster.ok("logs", str(job_id)).decode() == f"{PARENT}\n"
    own = cluster.submit("--env", "TRACEPARENT=mine", "--shell", 'echo "$TRACEPARENT"')
    del cluster.environment["TRACEPARENT"]
    none = cluster.submit("--shell", 'echo "<$TRACEPARENT>"')
    cluster.ok("wait", str(own), str(none))
    assert cluster.ok("logs", str(own)).decode() == "mine\n"
    assert cluster.ok("logs", str(none)).decode() == "<>\n"
    assert cluster.json("show", str(none))["trace_id"] is None
