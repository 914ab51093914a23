"""Reading SWF: which columns count, and what is done with lines that are odd."""

from __future__ import annotations

import pytest

from tests.simulator.builders import SECOND_US, swf_line
from titan.simulator.swf import (
    Oddity,
    Trace,
    TraceJob,
    read_swf,
    with_exact_limits,
)
from titan.traces.lines import EXAMPLES_MAX, format_seconds

CPUS_MILLI = 8_000


def read(*lines: str) -> Trace:
    return read_swf(lines, cpus_milli_max=CPUS_MILLI)


def only_oddity(trace: Trace) -> tuple[Oddity, str]:
    """The kind of the one odd line, and what is said of it."""
    (kind,) = [kind for kind, count in trace.odd.counts.items() if count]
    assert trace.odd.counts[kind] == 1
    (sentence,) = trace.odd.sentences()
    return kind, sentence


def test_the_columns_of_a_job_are_read() -> None:
    line = " 7   100 20  30 4 -1 -1  5  60 -1 1 12  3 -1 -1 -1 -1 -1\n"
    trace = read(line)
    assert trace.jobs == [TraceJob(7, 100_000_000, 30_000_000, 60_000_000, 5, 12)]
    assert trace.odd.sentences() == []


def test_comments_and_blank_lines_are_no_jobs() -> None:
    trace = read("; Version: 2.2", ";", "", "  \n", ";1 2 3 4 5 6 7 8 9")
    assert (trace.jobs, trace.odd.sentences()) == ([], [])


def test_what_was_requested_goes_before_what_was_allocated() -> None:
    def cpus(**columns: int) -> int:
        (job,) = read(swf_line(**columns)).jobs
        return job.cpus

    assert cpus(allocated=3, requested=2) == 2
    assert cpus(allocated=3, requested=-1) == 3
    assert cpus(allocated=3, requested=0) == 3
    assert cpus(allocated=-1, requested=2) == 2


def test_the_limit_is_the_estimate_or_else_the_run_time() -> None:
    def limit(**columns: int) -> int:
        (job,) = read(swf_line(run=10, **columns)).jobs
        return job.limit_us // SECOND_US

    assert limit(estimate=25) == 25
    assert limit(estimate=-1) == 10
    assert limit(estimate=0) == 10


def test_an_estimate_over_ten_years_is_one_of_ten_years() -> None:
    (job,) = read(swf_line(run=10, estimate=10**15 - 1)).jobs
    assert job.limit_us == 3650 * 86_400 * SECOND_US


def test_exact_limits_are_the_run_times() -> None:
    jobs = read(swf_line(run=10, estimate=25), swf_line(run=0, estimate=5)).jobs
    assert [job.limit_us for job in with_exact_limits(jobs)] == [10 * SECOND_US, 0]


def test_nine_columns_are_enough() -> None:
    (job,) = read("1 0 -1 10 2 -1 -1 -1 -1").jobs
    assert (job.cpus, job.user) == (2, -1)


@pytest.mark.parametrize("user", ["0", "-1", "x", "1.5"])
def test_a_user_without_a_number_is_not_known(user: str) -> None:
    (job,) = read(swf_line(user=user)).jobs
    assert job.user == -1


def test_times_may_have_decimals() -> None:
    (job,) = read(swf_line(submit="1.5", run="0.0000019", estimate="2.25")).jobs
    assert (job.submit_us, job.run_us, job.limit_us) == (1_500_000, 1, 2_250_000)


LEFT_OUT = [
    ("1 0 -1 10 2 -1 -1 -1", Oddity.TOO_FEW_COLUMNS, "has 8, and 9 are needed"),
    ("word", Oddity.TOO_FEW_COLUMNS, "has 1, and 9 are needed"),
    (swf_line(number="x"), Oddity.NOT_A_NUMBER, "has 'x' as its job number"),
    (swf_line(submit="1e3"), Oddity.NOT_A_NUMBER, "has '1e3' as its submit time"),
    (swf_line(run="nan"), Oddity.NOT_A_NUMBER, "has 'nan' as its run time"),
    (swf_line(run="1."), Oddity.NOT_A_NUMBER, "has '1.' as its run time"),
    (swf_line(run="1_0"), Oddity.NOT_A_NUMBER, "has '1_0' as its run time"),
    (swf_line(run="\u0661"), Oddity.NOT_A_NUMBER, "has '\u0661' as its run time"),
    (swf_line(allocated="2.5"), Oddity.NOT_A_NUMBER, "has '2.5' as its allocated processors"),
    (swf_line(requested="?"), Oddity.NOT_A_NUMBER, "has '?' as its requested processors"),
    (swf_line(estimate="--"), Oddity.NOT_A_NUMBER, "has '--' as its requested time"),
    (
        swf_line(number="9" * 50),
        Oddity.NOT_A_NUMBER,
        "has '99999999999999999999…' as its job number",
    ),
    (swf_line(status=2), Oddity.PART_OF_A_JOB, "has the status 2"),
    (swf_line(status=4), Oddity.PART_OF_A_JOB, "has the status 4"),
    (swf_line(run=-1, status=5), Oddity.CANCELLED, "has the run time -1"),
    (swf_line(run=-1, status=0), Oddity.NO_RUN_TIME, "has the run time -1"),
    (swf_line(run="-0.5"), Oddity.NO_RUN_TIME, "has the run time -0.5"),
    (swf_line(submit=-1), Oddity.NO_SUBMIT_TIME, "has the submit time -1"),
    (swf_line(allocated=0), Oddity.NO_PROCESSORS, "requested -1 and was allocated 0"),
    (swf_line(allocated=-1), Oddity.NO_PROCESSORS, "requested -1 and was allocated -1"),
    (swf_line(run=10**9), Oddity.TIME_OUT_OF_RANGE, "comes at 0 s and runs for 1000000000 s"),
    (
        swf_line(submit=10**11),
        Oddity.TIME_OUT_OF_RANGE,
        "comes at 100000000000 s and runs for 10 s",
    ),
    (swf_line(requested=9), Oddity.TOO_LARGE, "needs 9, a worker has 8"),
]


@pytest.mark.parametrize(("line", "kind", "why"), LEFT_OUT)
def test_a_line_of_which_no_job_can_be_made_is_left_out(line: str, kind: Oddity, why: str) -> None:
    trace = read("; a comment", line, swf_line(number=2))
    assert [job.number for job in trace.jobs] == [2]
    found, sentence = only_oddity(trace)
    assert found is kind
    assert sentence.startswith("1 line left out, ")
    assert sentence.endswith(f": line 2 {why}")


def test_a_run_that_was_longer_than_requested_is_cut() -> None:
    trace = read(swf_line(run=11, estimate=10))
    assert [(job.run_us, job.limit_us) for job in trace.jobs] == [(10_000_000, 10_000_000)]
    assert only_oddity(trace) == (
        Oddity.LONGER_THAN_REQUESTED,
        "1 line cut at the requested time, ran longer: line 1 ran 11 s, 10 s were requested",
    )


def test_a_submit_that_goes_back_is_moved_to_its_place() -> None:
    submits = [5, 9, 7, 7, 9]
    trace = read(*(swf_line(number, submit) for number, submit in enumerate(submits)))
    assert [job.number for job in trace.jobs] == [0, 2, 3, 1, 4]
    assert trace.odd.counts[Oddity.SUBMIT_GOES_BACK] == 2
    assert trace.odd.sentences() == [
        "2 lines put in the order of time, submit time goes back: "
        "line 3 is at 7, one before it at 9; line 4 is at 7, one before it at 9"
    ]


def test_a_line_that_is_left_out_moves_no_other() -> None:
    trace = read(swf_line(1, 100, run=-1), swf_line(2, 50))
    assert trace.odd.counts[Oddity.SUBMIT_GOES_BACK] == 0


def test_odd_lines_are_counted_by_kind_and_the_first_few_are_named() -> None:
    lines = [swf_line(run=-1)] * (EXAMPLES_MAX + 4) + ["x"]
    trace = read(*lines)
    assert sum(trace.odd.counts.values()) == len(lines)
    too_few, no_run_time = trace.odd.sentences()
    assert too_few == "1 line left out, too few columns: line 8 has 1, and 9 are needed"
    named = "; ".join(f"line {line} has the run time -1" for line in (1, 2, 3))
    assert no_run_time == f"7 lines left out, no run time: {named}; …"


@pytest.mark.parametrize(
    ("time_us", "text"),
    [(0, "0"), (12_000_000, "12"), (1_500_000, "1.5"), (1, "0.000001"), (-2_500_000, "-2.5")],
)
def test_seconds_are_written_whole_where_they_are(time_us: int, text: str) -> None:
    assert format_seconds(time_us) == text
