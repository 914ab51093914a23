"""Which trace a job belongs to, and what its spans are called. Pure.

A trace context is what the W3C's Trace Context recommendation (https://www.w3.org/TR/trace-context/)
has programs hand on, and a task finds in its environment as TRACEPARENT and TRACESTATE:

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    |  trace id, 16 bytes               parent span, 8   flags, 1: sampled

Spans are not named by random numbers but by hashes of what they are about, so that the task host,
which tells a task its span, and the exporter, which reads the log and may read it twice, name them
alike without a word between them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

SAMPLED: Final = 1
STATE_LENGTH_MAX: Final = 512
_STATE_MEMBERS_MAX: Final = 32
_VERSION: Final = "00"
# What a later version has behind it becomes part of a variable, and of each job that has it.
_PARENT: Final = re.compile(
    "([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,256})?"
)
# A key, with or without a tenant before an @, and a value; both of printable ASCII.
_MEMBER: Final = re.compile(
    "[a-z0-9][a-z0-9_*/-]{0,240}(@[a-z][a-z0-9_*/-]{0,13})?=[ -+\\--<>-~]{0,255}[!-+\\--<>-~]"
)
_NAME: Final = struct.Struct(">QqqiB")


class Span(IntEnum):
    """The spans of a job. Their numbers are in their ids and never change."""

    JOB = 0
    SUBMIT = 1
    ATTEMPT = 2
    QUEUED = 3
    DISPATCHED = 4
    RUNNING = 5
    REPORTED = 6


class TraceContext(NamedTuple):
    """A trace, the span in it that what follows belongs to, and flags."""

    trace_id: bytes
    span_id: bytes
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether somebody keeps the trace."""
        return bool(self.flags & SAMPLED)

    def header(self) -> str:
        """As TRACEPARENT has it."""
        return f"{_VERSION}-{self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"


def parse_parent(text: str) -> TraceContext | None:
    """What a TRACEPARENT says; None where that is no trace context.

    One of a later version may go on behind what is known of it.
    """
    found = _PARENT.fullmatch(text)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == _VERSION and rest is not None):
        return None
    context = TraceContext(bytes.fromhex(trace_id), bytes.fromhex(span_id), int(flags, 16))
    return context if any(context.trace_id) and any(context.span_id) else None


def is_state(text: str) -> bool:
    """Whether that may be a TRACESTATE: a list of key=value, each key once; or nothing."""
    if len(text) > STATE_LENGTH_MAX:
        return False
    members = [each.strip(" \t") for each in text.split(",")]
    members = [each for each in members if each]
    keys = {each.partition("=")[0] for each in members}
    return (
        len(members) <= _STATE_MEMBERS_MAX
        and len(keys) == len(members)
        and all(map(_MEMBER.fullmatch, members))
    )


def span_id_of(epoch: int, job_id: int, span: Span, index: int = 0, attempt: int = 0) -> bytes:
    """The id of a span of a job, or of one of its attempts."""
    return _hash(_NAME.pack(epoch, job_id, index, attempt, span), 8)


def trace_id_of(epoch: int, job_id: int) -> bytes:
    """The id of the trace of a job that was submitted outside of any."""
    return _hash(_NAME.pack(epoch, job_id, 0, 0, Span.JOB), 16)


class Sampler(NamedTuple):
    """Which jobs are traced, as OTEL_TRACES_SAMPLER says."""

    has_parents: bool = True
    """Whether the decision of who submitted it counts, where there is one."""
    ratio: float = 1.0
    """Of all others so many."""

    def samples(self, context: TraceContext | None, trace_id: bytes) -> bool:
        """Whether the job of that trace is traced; `context` is what it was submitted in."""
        if self.has_parents and context is not None:
            return context.is_sampled
        # As OpenTelemetry's samplers have it, so that all programs choose alike.
        return int.from_bytes(trace_id[8:]) < round(self.ratio * (1 << 64))

    def context_of(self, trace_parent: str, epoch: int, job_id: int) -> TraceContext:
        """In which trace a job runs, which was submitted with that TRACEPARENT or without."""
        parent = parse_parent(trace_parent)
        trace_id = trace_id_of(epoch, job_id) if parent is None else parent.trace_id
        flags = 0 if parent is None else parent.flags & ~SAMPLED
        root = span_id_of(epoch, job_id, Span.JOB)
        return TraceContext(trace_id, root, flags | self.samples(parent, trace_id))


_SAMPLERS: Final = {
    "always_on": Sampler(False, 1.0),
    "always_off": Sampler(False, 0.0),
    "traceidratio": Sampler(False),
    "parentbased_always_on": Sampler(True, 1.0),
    "parentbased_always_off": Sampler(True, 0.0),
    "parentbased_traceidratio": Sampler(True),
}


def sampler_of(environ: Mapping[str, str]) -> Sampler:
    """As OTEL_TRACES_SAMPLER and its _ARG say. Raises ValueError with a sentence."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    sampler = _SAMPLERS.get(name)
    if sampler is None:
        raise ValueError(f"OTEL_TRACES_SAMPLER={name}: there are {', '.join(_SAMPLERS)}")
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    if not name.endswith("traceidratio") or not argument:
        return sampler
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG={argument}: it is a number from 0 to 1")
    return sampler._replace(ratio=ratio)


def _hash(data: bytes, size_bytes: int) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415 - it loads OpenSSL, and few have a trace

    return blake2b(data, digest_size=size_bytes, person=b"titan-traces").digest()
