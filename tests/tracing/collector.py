"""An OpenTelemetry collector for tests: takes spans over OTLP and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


class Received(NamedTuple):
    """A span as it came."""

    trace_id: str
    span_id: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    is_error: bool
    trace_state: str


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What came, in order, with repeats; and of whom it told."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.resources: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self._lock:
            for resource in request.resource_spans:
                self.resources.append(_values(resource.resource.attributes))
                for scope in resource.scope_spans:
                    self.spans += map(_received, scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_job(self, job_id: int) -> dict[str, Received]:
        """By name, and attempts' by the number of the attempt before it."""
        found = {}
        with self._lock:
            for each in self.spans:
                if each.attributes["titan.job.id"] == job_id:
                    attempt = each.attributes.get("titan.task.attempt")
                    found[f"{attempt} {each.name}" if attempt else each.name] = each
        return found


@contextmanager
def collecting(collector: Collector, port: int = 0) -> Iterator[int]:
    """Serves it there; the port."""
    server = grpc.server(ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def _received(span: trace_pb2.Span) -> Received:
    return Received(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _values(span.attributes),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        span.trace_state,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
