"""The trace that a submit belongs to."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from titan.client.jobspec import JobSpec
from titan.client.submission import submit_requests
from titan.client.tracing import NO_TRACE, Trace, find_trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    monkeypatch.delenv("TRACESTATE", raising=False)


def test_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_trace() == NO_TRACE
    monkeypatch.setenv("TRACEPARENT", PARENT)
    assert find_trace() == Trace(PARENT, "")
    monkeypatch.setenv("TRACESTATE", "a=b")
    assert find_trace() == Trace(PARENT, "a=b")
    monkeypatch.setenv("TRACESTATE", "what is that")
    assert find_trace() == Trace(PARENT, "")
    monkeypatch.setenv("TRACEPARENT", "what is that")
    monkeypatch.setenv("TRACESTATE", "a=b")
    assert find_trace() == NO_TRACE


def test_the_current_span_comes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", PARENT)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("submits") as span:
        own = span.get_span_context()
        expected = f"00-{own.trace_id:032x}-{own.span_id:016x}-01"
        assert find_trace() == Trace(expected, "")
    state = TraceState([("a", "b")])
    unsampled = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(0), state))
    with trace.use_span(unsampled):
        assert find_trace() == Trace(f"00-{1:032x}-{2:016x}-00", "a=b")
    assert find_trace() == Trace(PARENT, "")


def test_it_is_in_each_request_once() -> None:
    requests = list(
        submit_requests(
            [JobSpec(command=["true"], export="ALL")] * 10_001,
            user="u",
            request_id=b"r" * 16,
            environ={b"TRACEPARENT": PARENT.encode(), b"A": b"a"},
            trace=Trace(PARENT, "a=b"),
        )
    )
    assert [(each.trace_parent, each.trace_state) for each in requests] == [(PARENT, "a=b")] * 2
    assert not requests[0].jobs[0].execution.trace_parent
    # An environment that names it would be another one for each who submits.
    assert [each.name for each in requests[0].environments[0].exported] == [b"A"]
