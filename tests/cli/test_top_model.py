"""What `titan top` makes of answers: rates, bars, order, filter, lines that fit."""

from __future__ import annotations

import pytest

from tests.cli.test_hostile_text import HOSTILE, check_harmless, poison
from titan.cli.queue import HEADINGS
from titan.cli.table import text_width
from titan.cli.top.feed import pause_seconds
from titan.cli.top.model import (
    SAMPLES_MAX,
    Cursor,
    Line,
    Order,
    Rates,
    Snapshot,
    bar,
    filter_jobs,
    job_lines,
    rate_text,
    short_size,
    sparkline,
    summary_lines,
    worker_lines,
)
from titan.cli.top.output_lines import LINE_CHARACTERS_MAX, LINES_MAX, OutputLines
from titan.client.output import OutputChunk
from titan.rpc.v1 import manager_pb2, types_pb2

NOW = 1_000.0


def counts(submitted: int, ended: int) -> manager_pb2.TaskCounts:
    """Of so many tasks, of which these have ended in three ways."""
    failed, cancelled = ended // 3, ended // 4
    return manager_pb2.TaskCounts(
        pending=submitted - ended,
        completed=ended - failed - cancelled,
        failed=failed,
        cancelled=cancelled,
    )


def job(job_id: int = 1, **fields: object) -> manager_pb2.Job:
    """A job of one task that waits."""
    made = manager_pb2.Job(
        job_id=job_id, name="sleep", user="ada", state=types_pb2.PENDING, submit_us=int(NOW * 1e6),
        tasks=manager_pb2.TaskCounts(pending=1),
    )  # fmt: skip
    made.MergeFrom(manager_pb2.Job(**fields))  # type: ignore[arg-type]
    return made


def worker(name: str = "w1", **fields: object) -> manager_pb2.Worker:
    """One with 4 cpus, of which 3 are promised, and 8 GiB."""
    made = manager_pb2.Worker(
        worker_id=name.encode().ljust(16, b"."), name=name, state=types_pb2.HEALTHY,
        capacity=types_pb2.Resources(cpus_milli=4000, memory_bytes=8 << 30),
        free=types_pb2.Resources(cpus_milli=1000, memory_bytes=8 << 30),
        running=3, queued=2, last_heartbeat_us=int((NOW - 2) * 1e6),
        statistics=manager_pb2.NodeStatistics(load_1m=1.5),
    )  # fmt: skip
    made.MergeFrom(manager_pb2.Worker(**fields))  # type: ignore[arg-type]
    return made


def text(line: Line) -> str:
    """Without its styles."""
    return "".join(piece for piece, _ in line)


def test_rates_are_what_came_and_what_ended_between_two_looks() -> None:
    rates = Rates()
    assert rates.means() == (0.0, 0.0)
    for at, (submitted, ended) in enumerate([(10, 0), (20, 5), (20, 11)]):
        rates.take(2.0 * at, counts(submitted, ended))
    assert rates.submitted == [5.0, 0.0]
    assert rates.ended == [2.5, 3.0]
    assert rates.means() == (2.5, 2.75)


def test_rates_are_those_of_the_last_ten_seconds_and_of_some_minutes() -> None:
    rates = Rates()
    for second in range(SAMPLES_MAX + 50):
        rates.take(float(second), counts(1000 * second, 1000 * second if second < 340 else 340_000))
    assert len(rates.ended) == SAMPLES_MAX
    # The last of which something ended was the 340th.
    assert rates.means() == (1000.0, 100.0)


def test_jobs_that_the_manager_forgets_are_no_negative_rate() -> None:
    rates = Rates()
    rates.take(0.0, counts(100, 80))
    rates.take(1.0, counts(50, 30))
    rates.take(2.0, counts(60, 35))
    assert (rates.submitted, rates.ended) == ([10.0], [5.0])
    # A clock that stands still divides by nothing.
    rates.take(2.0, counts(70, 35))
    assert len(rates.ended) == 1


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ([], 4, "    "),
        ([0, 0], 4, "  ▁▁"),
        ([0, 1, 50, 100], 4, "▁▂▅█"),
        ([100, 0, 1], 2, "▁█"),
        ([5], 0, ""),
    ],
)
def test_a_sparkline_shows_the_last_values_the_largest_as_a_full_bar(
    values: list[float], width: int, drawn: str
) -> None:
    assert sparkline(values, width) == drawn


@pytest.mark.parametrize(
    ("part", "whole", "drawn"),
    [
        (0, 10, "░░░░"), (1, 1000, "█░░░"), (5, 10, "██░░"), (999, 1000, "███░"), (10, 10, "████"),
        (20, 10, "████"), (0, 0, "░░░░"),
    ],
)  # fmt: skip
def test_a_bar_is_empty_and_full_only_where_that_is_so(part: int, whole: int, drawn: str) -> None:
    assert bar(part, whole, 4) == drawn


def test_numbers_are_short() -> None:
    assert [rate_text(rate) for rate in (0, 12.34, 99.96, 12_345.6)] == [
        *("0.0/s", "12.3/s", "100/s", "12,346/s")
    ]
    assert [short_size(size) for size in (0, 5, 1536, 25_000_000_000)] == [
        "0",
        "5B",
        "1.5K",
        "23.3G",
    ]


def test_each_column_can_sort_and_the_order_as_it_came_is_one_of_them() -> None:
    seen = [Order()]
    for _ in HEADINGS:
        seen.append(seen[-1].moved(1))
    assert [order.heading for order in seen] == ["", *HEADINGS]
    assert seen[-1].moved(1) == Order()
    assert Order().moved(-1) == seen[-1]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("", [3, 1, 2]), ("JOB", [1, 2, 3]), ("NAME", [2, 3, 1]), ("USER", [3, 2, 1]),
        ("STATE", [3, 2, 1]), ("TASKS", [1, 3, 2]), ("CPUS", [2, 3, 1]), ("MEMORY", [1, 3, 2]),
        ("PRIORITY", [1, 3, 2]), ("AGE", [2, 1, 3]), ("WORKER/REASON", [3, 2, 1]),
    ],
)  # fmt: skip
def test_jobs_are_sorted_by_what_a_column_means(heading: str, expected: list[int]) -> None:
    jobs = [
        job(3, name="b", state=types_pb2.RUNNING, worker="w1", priority=1, submit_us=30,
            resources=types_pb2.Resources(cpus_milli=2000, memory_bytes=5),
            tasks=manager_pb2.TaskCounts(completed=1)),
        job(1, name="c", user="cid", state=types_pb2.FAILED, priority=9, submit_us=20,
            tasks=manager_pb2.TaskCounts(completed=9),
            resources=types_pb2.Resources(cpus_milli=900, memory_bytes=10)),
        job(2, name="A", user="bob", waiting_for="x", submit_us=10, priority=-1,
            resources=types_pb2.Resources(cpus_milli=10_000)),
    ]  # fmt: skip
    jobs[1].tasks.pending = 0
    order = Order(heading)
    assert [each.job_id for each in order.sorted(jobs)] == expected
    assert [each.job_id for each in order.turned().sorted(jobs)] == expected[::-1]


def test_a_filter_wants_all_its_words_anywhere_in_the_line() -> None:
    jobs = [job(1, name="Train"), job(2, user="bob", state=types_pb2.RUNNING, worker="w7"), job(3)]
    for words, expected in [
        ("", [1, 2, 3]), ("  ", [1, 2, 3]), ("train", [1]), ("ADA pend", [1, 3]), ("w7", [2]),
        ("running bob", [2]), ("bob train", []), ("[", []),
    ]:  # fmt: skip
        assert [each.job_id for each in filter_jobs(jobs, words, NOW)] == expected


def test_the_cursor_stays_with_its_row_and_in_view() -> None:
    empty = Cursor()
    empty.follow([], 3)
    assert empty.key is None
    cursor = Cursor()
    cursor.follow(["a", "b", "c", "d", "e"], 3)
    assert (cursor.key, cursor.top) == ("a", 0)
    cursor.move(3, ["a", "b", "c", "d", "e"], 3)
    assert (cursor.key, cursor.top) == ("d", 1)
    # Its row moves up, then goes.
    cursor.follow(["d", "a", "b", "c", "e"], 3)
    assert (cursor.key, cursor.place, cursor.top) == ("d", 0, 0)
    cursor.move(99, ["d", "a", "b", "c", "e"], 3)
    assert (cursor.key, cursor.top) == ("e", 2)
    cursor.follow(["d", "a"], 3)
    assert (cursor.key, cursor.place, cursor.top) == ("a", 1, 0)
    cursor.move(-99, ["d", "a"], 3)
    assert cursor.key == "d"


@pytest.mark.parametrize("width", [200, 80, 60])
def test_lines_fit_the_terminal_and_keep_what_matters_most(width: int) -> None:
    long = "needs more memory than any worker has free"
    jobs = [job(each, name="a-rather-long-name-of-a-job", waiting_for=long) for each in (7, 1234)]
    headings, lines = job_lines(jobs, NOW, width, Order("NAME"))
    shown = [text(line) for line in (headings, *lines)]
    assert max(map(text_width, shown)) <= width
    assert shown[0].split()[0] == "JOB"
    assert {"STATE", "TASKS"} <= set(shown[0].split())
    assert ("NAME▼" in shown[0], long in shown[1]) == (True, width == 200)
    assert ("PENDING", "ansi_yellow") in lines[0]
    assert "needs more me" in shown[1]


def test_the_arrow_turns_with_the_order() -> None:
    headings, _ = job_lines([job()], NOW, 200, Order("CPUS", is_reversed=True))
    assert "CPUS▲" in text(headings)


@pytest.mark.parametrize("width", [120, 80, 60])
def test_workers_have_bars_of_what_is_promised(width: int) -> None:
    headings, lines = worker_lines([worker(), worker("w2", draining=True)], NOW, width)
    shown = [text(line) for line in (headings, *lines)]
    assert max(map(text_width, shown)) <= width
    assert "3/4" in shown[1]
    assert "0/8G" in shown[1]
    assert shown[1].count("█") >= 2
    if width == 120:
        assert shown[1].split()[-4:] == ["3", "2", "1.50", "2s"]
        assert "HEALTHY (draining)" in shown[2]


@pytest.mark.parametrize("width", [120, 80, 60, 20])
def test_the_summary_is_four_lines_that_fit(width: int) -> None:
    stats = manager_pb2.GetStatsResponse(
        started_us=1, now_us=90_000_001, lsn=17, workers={"healthy": 2, "disconnected": 0},
        capacity=types_pb2.Resources(cpus_milli=8000, memory_bytes=1 << 34),
        free=types_pb2.Resources(cpus_milli=2000, memory_bytes=1 << 33),
        jobs=manager_pb2.TaskCounts(running=1), tasks=counts(2000, 12),
    )  # fmt: skip
    rates = Rates()
    rates.take(0.0, counts(10, 0))
    rates.take(1.0, stats.tasks)
    lines = [
        text(line)
        for line in summary_lines(Snapshot(stats, (), (), False), rates, "h:1", width, "14:02:03")
    ]
    assert len(lines) == 4
    if width > 20:
        assert max(map(text_width, lines)) <= width
    assert ("14:02:03" in lines[0]) == (width > 50)
    assert "up 1m30s  record 17" in lines[0]
    assert "0 running 1,988 waiting 4 failed" in lines[1]
    assert "6/8" in lines[2]
    assert "8G/16G" in lines[2]
    assert "workers 2 healthy" in lines[2]
    assert "12.0/s" in lines[3]
    assert "1,990/s" in lines[3]
    assert len(list(summary_lines(None, Rates(), "h:1", width, ""))) == 4


def test_names_of_others_are_escaped_and_never_markup() -> None:
    jobs = [poison(job(name="[red]x[/red]", waiting_for="[bold]y"))]
    workers = [poison(worker("[blink]w"))]
    stats = manager_pb2.GetStatsResponse(workers={HOSTILE: 2})
    snapshot = Snapshot(stats, workers, jobs, False)
    for headings, lines in (
        job_lines(jobs, NOW, 400, Order()),
        worker_lines(workers, NOW, 400),
        ([], list(summary_lines(snapshot, Rates(), f"h{HOSTILE}", 400, ""))),
    ):
        for line in (headings, *lines):
            check_harmless(text(line))
    assert "[red]x[/red]" in text(job_lines(jobs, NOW, 400, Order())[1][0])


def chunk(data: bytes, stream: str = "stdout", *, attempt: int = 1, hole: int = 0) -> OutputChunk:
    """A piece of output; where it was is of no interest here."""
    return OutputChunk(0, attempt, stream, 0, data, hole)


def test_output_is_lines_in_the_order_in_which_they_came() -> None:
    output = OutputLines()
    for data, stream in [(b"one\ntw", "stdout"), (b"bad\n", "stderr"), (b"o\n\nthree", "stdout")]:
        output.take(chunk(data, stream))
    assert [text(line) for line in output.lines()] == ["one", "bad", "two", "", "three"]
    assert output.lines()[1] == [("bad", "ansi_red")]


def test_output_that_is_no_text_or_speaks_to_the_terminal_is_shown_harmless() -> None:
    output = OutputLines()
    # A character that arrives in two pieces is one.
    for data in ("ä".encode()[:1], "ä".encode()[1:] + b"\xff\n", HOSTILE.encode(), b"\n"):
        output.take(chunk(data))
    output.take(chunk(b"\x1b[1;31mred\x1b[0m\tx\n 10%\r 99%\r\n"))
    shown = [text(line) for line in output.lines()]
    assert shown[0] == "ä\ufffd"
    assert shown[-2:] == ["red     x", " 99%"]
    for line in shown:
        check_harmless(line)
    assert any("\\x1b" not in line and "\\u202e" in line for line in shown)


def test_of_output_the_last_lines_are_kept_and_long_ones_broken() -> None:
    output = OutputLines()
    output.take(chunk(b"x" * (2 * LINE_CHARACTERS_MAX + 10)))
    assert [len(text(line)) for line in output.lines()] == [
        *(LINE_CHARACTERS_MAX, LINE_CHARACTERS_MAX, 10)
    ]
    output.take(chunk(b"\n" + b"".join(b"%d\n" % each for each in range(2 * LINES_MAX))))
    assert len(output.lines()) == LINES_MAX
    assert text(output.lines()[-1]) == str(2 * LINES_MAX - 1)


def test_between_attempts_and_tasks_and_where_output_is_missing_a_line_says_so() -> None:
    output = OutputLines()
    output.take(chunk(b"begun"))
    output.take(chunk(b"", hole=1 << 20))
    output.take(chunk(b"again\n", attempt=2))
    output.begin_task("7.2")
    output.take(chunk(b"other", attempt=1))
    assert [text(line) for line in output.lines()] == [
        "begun", "— 1M of its stdout were left out —", "— attempt 2 —", "again", "— 7.2 —", "other",
    ]  # fmt: skip


def test_a_manager_that_searches_long_is_asked_less_often_one_that_is_far_is_not() -> None:
    assert pause_seconds(1.0, 0.3, 0.001) == pytest.approx(0.7)
    assert pause_seconds(1.0, 0.3, 0.2) == pytest.approx(3.8)
    assert pause_seconds(1.0, 60.0, 50.0) == pytest.approx(10.0)
    assert pause_seconds(60.0, 0.5, 0.1) == pytest.approx(59.5)
    assert pause_seconds(1.0, 1.5, 0.0) == 0.0
