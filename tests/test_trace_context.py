"""Trace contexts: what is one, which jobs are traced, and what spans are called."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from titan.checks import check_execution
from titan.errors import InvalidJob
from titan.model import Execution, Resources
from titan.trace_context import (
    Sampler,
    Span,
    TraceContext,
    is_state,
    parse_parent,
    sampler_of,
    span_id_of,
    trace_id_of,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
CONTEXT = TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1)


def test_a_context_comes_back_as_it_is_handed_on() -> None:
    assert parse_parent(PARENT) == CONTEXT
    assert CONTEXT.header() == PARENT
    # A later version may say more, of which nothing is known.
    assert parse_parent(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be") == CONTEXT


@pytest.mark.parametrize(
    "text",
    [
        "",
        PARENT.upper(),
        f"{PARENT} ",
        f"{PARENT}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"0-{TRACE}-{SPAN}-01",
        # No variable of a task can hold the first, and the second is for a terminal.
        f"cc-{TRACE}-{SPAN}-01-\0",
        f"cc-{TRACE}-{SPAN}-01-\x1b[2J",
        f"cc-{TRACE}-{SPAN}-01-é",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)
def test_what_is_no_context_is_none(text: str) -> None:
    assert parse_parent(text) is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("", True),
        ("vendor=x", True),
        ("a=1, b=2 ,,c_d*/-@t=3", True),
        ("0tenant@v=with space", True),
        ("a", False),
        ("A=1", False),
        ("a=1,a=2", False),
        ("a=x=y", False),
        ("a=é", False),
        ("a=b\nc", False),
        (",".join(f"k{number}=v" for number in range(32)), True),
        (",".join(f"k{number}=v" for number in range(33)), False),
        ("a=" + "x" * 500, False),
    ],
)
def test_a_state_is_a_list_of_members(text: str, is_one: bool) -> None:
    assert is_state(text) is is_one


def test_ids_differ_by_all_that_they_are_about_and_never_change() -> None:
    ids = {
        span_id_of(epoch, job, span, index, attempt)
        for epoch in (1, (1 << 63) + 1)
        for job in (1, 2)
        for span in Span
        for index in (0, 9_999_999)
        for attempt in (1, 2)
    }
    assert len(ids) == 2 * 2 * len(Span) * 2 * 2
    assert {len(each) for each in ids} == {8}
    # Two versions of Titan may read one log.
    assert span_id_of(7, 42, Span.RUNNING, 3, 1).hex() == "22d8d202b957a1db"
    assert trace_id_of(7, 42).hex() == "885c9270ccdf71f072ce5c5c2731d10b"


def test_who_submitted_decides_unless_the_sampler_does_not_ask() -> None:
    unsampled = CONTEXT._replace(flags=0)
    default, always, never = (sampler_of({"OTEL_TRACES_SAMPLER": name} if name else {})
                              for name in ("", "always_on", "always_off"))  # fmt: skip
    assert default == Sampler()
    assert default.samples(CONTEXT, CONTEXT.trace_id)
    assert not default.samples(unsampled, CONTEXT.trace_id)
    assert default.samples(None, CONTEXT.trace_id)
    assert always.samples(unsampled, CONTEXT.trace_id)
    assert not never.samples(CONTEXT, CONTEXT.trace_id)


def test_a_ratio_chooses_as_opentelemetry_does() -> None:
    variables = {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.3",
    }
    ours, theirs = sampler_of(variables), TraceIdRatioBased(0.3)
    chosen = 0
    for job_id in range(500):
        trace_id = trace_id_of(1, job_id)
        result = theirs.should_sample(None, int.from_bytes(trace_id), "")
        is_chosen = ours.samples(None, trace_id)
        assert is_chosen == (result.decision is Decision.RECORD_AND_SAMPLE)
        chosen += is_chosen
    assert 100 < chosen < 200


@pytest.mark.parametrize(
    ("name", "argument", "sentence"),
    [
        ("sometimes", "", "OTEL_TRACES_SAMPLER=sometimes: there are always_on, "),
        ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG=2: it is a number from 0 to 1"),
        ("traceidratio", "nan", "OTEL_TRACES_SAMPLER_ARG=nan"),
    ],
)
def test_a_sampler_that_is_none_is_refused(name: str, argument: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        sampler_of({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})


def test_a_job_runs_in_its_submitters_trace_below_its_own_span_or_in_one_of_its_own() -> None:
    root = span_id_of(7, 42, Span.JOB)
    assert Sampler().context_of(PARENT, 7, 42) == CONTEXT._replace(span_id=root)
    assert Sampler().context_of("", 7, 42) == TraceContext(trace_id_of(7, 42), root, 1)
    assert Sampler(ratio=0.0).context_of("", 7, 42).flags == 0


def test_a_job_with_a_context_that_is_none_is_refused() -> None:
    check_execution(Execution(trace_parent=PARENT, trace_state="a=b"), Resources(1000))
    for wrong in (Execution(trace_parent="00-1"), Execution(trace_state="a\nb")):
        with pytest.raises(InvalidJob, match=r"^its trace (parent|state) is none as W3C's"):
            check_execution(wrong, Resources(1000))
