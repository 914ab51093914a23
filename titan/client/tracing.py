"""The trace that whoever submits is in: that of his OpenTelemetry span, or of his environment."""

from __future__ import annotations

import os
import sys
from typing import Final, NamedTuple

from titan.trace_context import SAMPLED, TraceContext, is_state, parse_parent


class Trace(NamedTuple):
    """As TRACEPARENT and TRACESTATE; empty: none."""

    parent: str = ""
    state: str = ""


NO_TRACE: Final = Trace()
TRACE_VARIABLES: Final = (b"TRACEPARENT", b"TRACESTATE")


def find_trace() -> Trace:
    """The trace of this moment; what is malformed is none, as W3C's Trace Context asks for."""
    return _find_current() or _find_inherited()


def _find_current() -> Trace | None:
    """That of the current span, in a program that uses OpenTelemetry; no other is made to."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    flags = SAMPLED if context.trace_flags.sampled else 0
    parent = TraceContext(context.trace_id.to_bytes(16), context.span_id.to_bytes(8), flags)
    state = context.trace_state.to_header()
    return Trace(parent.header(), state if is_state(state) else "")


def _find_inherited() -> Trace:
    parent = os.environ.get("TRACEPARENT", "").strip()
    if parse_parent(parent) is None:
        return NO_TRACE
    state = os.environ.get("TRACESTATE", "")
    return Trace(parent, state if is_state(state) else "")
