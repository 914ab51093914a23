"""What is read in the files of other schedulers, and what is odd there."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.history.import_files import RAN, T0, read_mini_slurm, read_swf, row, write_mini_slurm
from tests.simulator.builders import swf_line
from titan.history.database import HistoryRefused
from titan.history.imported import ImportedJob
from titan.history.mini_slurm import NEEDED, OPTIONAL, Oddity
from titan.history.swf import Oddity as SwfOddity
from titan.history.swf import find_start


def test_a_job_of_mini_slurm_has_what_its_row_says(tmp_path: Path) -> None:
    killed = row(2, status="FAILED", return_code=-9, user=None, nodes=None, command="a 'b")
    cancelled = row(3, status="CANCELLED", start_time=None, end_time=None, return_code=None)
    failed = row(4, status="FAILED", return_code=3)
    path = write_mini_slurm(tmp_path / "m.db", [RAN, killed, cancelled, failed])
    jobs, odd = read_mini_slurm(path)
    assert odd.sentences() == []
    assert jobs[0] == ImportedJob(
        number=1, name="python", user="ada", command=("/bin/sh", "-c", RAN["command"]),
        worker="node1,node2", cpus=2.0, memory_bytes=512 << 20, priority=3,
        time_limit_seconds=None, state="COMPLETED", reason="EXIT", exit_code=0, signal=None,
        submit=T0 + 0.25, start=T0 + 10.25, wait_seconds=10.0, end=T0 + 30.25,
        cpu_user_seconds=8.0, cpu_system_seconds=2.0, max_rss_bytes=0, stdout_path="/l/1.out",
        stderr_path="/l/1.err",
    )  # fmt: skip
    told = [(job.state, job.reason, job.exit_code, job.signal) for job in jobs[1:]]
    assert told == [
        ("FAILED", "SIGNAL", None, 9),
        ("CANCELLED", "CANCELLED", None, None),
        ("FAILED", "EXIT", 3, None),
    ]
    assert (jobs[1].user, jobs[1].worker, jobs[1].name) == ("unknown", "mini-slurm", "a")
    assert (jobs[2].start, jobs[2].wait_seconds, jobs[2].end) == (None, None, T0 + 0.25)


def test_columns_that_only_later_versions_have_may_be_absent(tmp_path: Path) -> None:
    table = f"CREATE TABLE jobs ({', '.join(NEEDED)})"
    path = write_mini_slurm(tmp_path / "m.db", [{name: RAN[name] for name in NEEDED}], table)
    ((job,), odd) = read_mini_slurm(path)
    assert odd.sentences() == []
    assert (job.user, job.memory_bytes, job.priority, job.reason) == ("unknown", 0, 0, None)
    assert set(OPTIONAL).isdisjoint(NEEDED)


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"status": "RUNNING", "end_time": None}, Oddity.NOT_ENDED, "is RUNNING"),
        ({"status": "PENDING"}, Oddity.NOT_ENDED, "is PENDING"),
        ({"status": "TIMEOUT"}, Oddity.UNKNOWN_STATUS, "has 'TIMEOUT'"),
        ({"status": None}, Oddity.UNKNOWN_STATUS, "has 'None'"),
        ({"end_time": None}, Oddity.NO_TIME, "ended at None"),
        ({"submit_time": None}, Oddity.NO_TIME, "has no submit time"),
        ({"start_time": "soon"}, Oddity.NOT_A_NUMBER, "has 'soon' as its start_time"),
        ({"end_time": float("inf")}, Oddity.NOT_A_NUMBER, "has 'inf' as its end_time"),
        ({"end_time": 1e300}, Oddity.OUT_OF_RANGE, "has 1e+300 as its end_time"),
        ({"cpus": 0}, Oddity.OUT_OF_RANGE, "has 0 cpus"),
        ({"cpus": b"2"}, Oddity.NOT_A_NUMBER, "as its cpus"),
        ({"return_code": 2**40}, Oddity.OUT_OF_RANGE, "as its return_code"),
    ],
)
def test_an_odd_job_of_mini_slurm_is_left_out_and_named(
    tmp_path: Path, changes: dict[str, Any], kind: Oddity, why: str
) -> None:
    jobs, odd = read_mini_slurm(
        write_mini_slurm(tmp_path / "m.db", [row(1), row(2, **changes), row(3)])
    )
    assert [job.number for job in jobs] == [1, 3]
    assert {each for each, count in odd.counts.items() if count} == {kind}
    (sentence,) = odd.sentences()
    assert sentence.startswith("1 job left out")
    assert why in sentence


def test_what_is_not_mini_slurms_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database at all, and long enough for a header of one " * 20)
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE tasks (id)").connection.close()
    columns = write_mini_slurm(
        tmp_path / "columns.db", [{"id": 1, "status": "x"}], "CREATE TABLE jobs (id, status, cpus)"
    )
    for path, sentence in (
        (text, f"{text} is no database of SQLite"),
        (other, "it has no table jobs"),
        (columns, "no column command, submit_time, start_time, end_time"),
        (tmp_path / "absent", "there is no file"),
    ):
        with pytest.raises(HistoryRefused, match=sentence):
            read_mini_slurm(path)
    assert not (tmp_path / "absent").exists()


def test_a_job_of_a_workload_has_what_its_line_says() -> None:
    (job, cancelled, bare), odd = read_swf(
        "12 100 50.5 3600 8 900.5 2048 16 7200 4096 0 3 1 7 1 2 -1 -1",
        "13 100 60 -1 -1 -1 -1 4 -1 -1 5 3 1 -1 1 -1 -1 -1",
        "14 5 -1 10 2 -1 -1 -1 -1",
    )
    assert odd.sentences() == []
    assert job == ImportedJob(
        number=12, name="app-7", user="user-3", command=(), worker="partition-2", cpus=16.0,
        memory_bytes=4096 * 1024 * 16, priority=0, time_limit_seconds=7200.0, state="FAILED",
        reason=None, exit_code=None, signal=None, submit=T0 + 100.0, start=T0 + 150.5,
        wait_seconds=50.5, end=T0 + 3750.5, cpu_user_seconds=900.5 * 8, cpu_system_seconds=0.0,
        max_rss_bytes=2048 * 1024 * 8, stdout_path=None, stderr_path=None,
    )  # fmt: skip
    assert (cancelled.state, cancelled.start, cancelled.end) == ("CANCELLED", None, T0 + 160.0)
    assert (bare.state, bare.name, bare.user, bare.worker) == ("UNKNOWN", "swf", "unknown", "swf")
    assert (bare.start, bare.wait_seconds, bare.end) == (T0 + 5.0, None, T0 + 15.0)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("1 2 3", SwfOddity.TOO_FEW_COLUMNS),
        (swf_line(number=3, run="x"), SwfOddity.NOT_A_NUMBER),
        (swf_line(number=-1), SwfOddity.NO_JOB_NUMBER),
        (swf_line(number=1), SwfOddity.SAME_JOB_NUMBER),
        (swf_line(number=3, status=3), SwfOddity.PART_OF_A_JOB),
        (swf_line(number=3, run=-1), SwfOddity.NO_RUN_TIME),
        (swf_line(number=3, submit=-1), SwfOddity.NO_SUBMIT_TIME),
        (swf_line(number=3, allocated=0), SwfOddity.NO_PROCESSORS),
        (swf_line(number=3, submit=10**11), SwfOddity.OUT_OF_RANGE),
        (swf_line(number=3, allocated=10**10), SwfOddity.OUT_OF_RANGE),
    ],
)
def test_an_odd_line_of_a_workload_is_left_out_and_named(line: str, kind: SwfOddity) -> None:
    jobs, odd = read_swf("; a comment", swf_line(1), line, swf_line(2))
    assert [job.number for job in jobs] == [1, 2]
    assert {each for each, count in odd.counts.items() if count} == {kind}
    (sentence,) = odd.sentences()
    assert "line 3 " in sentence


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("; UnixStartTime: 843465600", 843_465_600),
        (";UnixStartTime:12 ", 12),
        ("; UnixStartTime: 0", None),
        ("; UnixStartTime: soon", None),
        ("; EndTime: 12", None),
    ],
)
def test_when_a_workload_begins_is_in_a_comment(line: str, start: int | None) -> None:
    assert find_start(line) == start
