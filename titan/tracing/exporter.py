"""Gives spans to an OpenTelemetry collector, by OTLP over gRPC.

Where it is, and all else of the connection, is in OpenTelemetry's own variables, which its library
reads: OTEL_EXPORTER_OTLP_…, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from threading import Event
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.span import TraceFlags, TraceState

from titan import __version__
from titan.trace_context import TraceContext
from titan.tracing.spans import SpanData

_log = logging.getLogger("titan.traces")

# As OpenTelemetry's own batches; a collector takes messages of 4 MiB.
BATCH_SPANS: Final = 512
RETRY_SECONDS_MIN: Final = 0.5
RETRY_SECONDS_MAX: Final = 15.0
# In the year 2262. A worker's clock may be anywhere, and what cannot be encoded would be tried for
# ever, with all that comes after it.
_NS_MAX: Final = (1 << 63) - 1
# Where it logs what becomes of calls.
_LIBRARY: Final = "opentelemetry.exporter.otlp.proto.grpc.exporter"
# Before a host there may be a password.
_CREDENTIALS: Final = re.compile(r"[^\s/@]+@")


class Exporter:
    """Exports the spans of one cluster."""

    def __init__(self, cluster_id: bytes, *, stop: Event) -> None:
        """Gives up, and what it was given, once `stop` is set. Raises ValueError."""
        self._ids = _Ids()
        self._over = _Over()
        self._stop = stop
        resource = Resource.create({SERVICE_INSTANCE_ID: cluster_id.hex()})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "titan"}))
        # What is traced was decided before it came here.
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._over)
        self._tracer = provider.get_tracer("titan", __version__)
        logging.getLogger(_LIBRARY).addFilter(_complaint)
        self._exporter = OTLPSpanExporter()

    def export(self, spans: Sequence[SpanData]) -> bool:
        """Until the collector has them all; False: it is to stop before."""
        for at in range(0, len(spans), BATCH_SPANS):
            for each in spans[at : at + BATCH_SPANS]:
                self._make(each)
            if not self._send(self._over.take()):
                return False
        return True

    def _send(self, batch: Sequence[ReadableSpan]) -> bool:
        wait_seconds = RETRY_SECONDS_MIN
        is_away = False
        while not self._stop.is_set():
            if self._exporter.export(batch) is SpanExportResult.SUCCESS:
                if is_away:
                    _log.info("the collector takes traces again")
                return True
            if not is_away:
                _log.warning(
                    "the collector does not take traces: they wait in the log: %s",
                    _complaint.text,
                )
            is_away = True
            self._stop.wait(wait_seconds)
            wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)
        return False

    def _make(self, data: SpanData) -> None:
        parent = None
        if data.parent is not None:
            parent = trace.set_span_in_context(
                NonRecordingSpan(_context(data.parent, data.trace_state, is_remote=True))
            )
        self._ids.next = data.context
        span = self._tracer.start_span(
            data.name,
            # Without one it would take whatever span is current.
            context=parent if parent is not None else trace.set_span_in_context(trace.INVALID_SPAN),
            kind=SpanKind.INTERNAL,
            attributes=data.attributes,
            start_time=_ns(data.start_us),
        )
        if data.error is not None:
            span.set_status(Status(StatusCode.ERROR, data.error))
        span.end(_ns(data.end_us))


def _ns(time_us: int) -> int:
    return min(time_us * 1000, _NS_MAX)


def _context(context: TraceContext, trace_state: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int.from_bytes(context.trace_id),
        int.from_bytes(context.span_id),
        is_remote,
        TraceFlags(context.flags),
        TraceState.from_header([trace_state]) if trace_state else None,
    )


class _Complaint(logging.Filter):
    """Keeps what the library said last of a failure, which it says of each try of each batch."""

    text = "it does not say why"

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = _CREDENTIALS.sub("", record.getMessage())
        return False


_complaint: Final = _Complaint()


class _Ids(IdGenerator):
    """Gives the next span the ids that it has to have."""

    def __init__(self) -> None:
        self.next = TraceContext(bytes(16), bytes(8), 0)

    def generate_span_id(self) -> int:
        return int.from_bytes(self.next.span_id)

    def generate_trace_id(self) -> int:
        return int.from_bytes(self.next.trace_id)


class _Over(SpanProcessor):
    """Keeps the spans that have ended until they are taken."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans
