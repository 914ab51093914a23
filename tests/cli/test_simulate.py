"""`titan simulate` on the command line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Process, Titan
from tests.simulator.builders import swf_line
from titan.scheduling import ORDERS
from titan.simulator.swf import Oddity

# On 4 cpus: the second waits for 40 s, the third runs beside the first.
LINES = [
    "; MaxProcs: 4",
    swf_line(11, 0, 50, allocated=3, estimate=60),
    swf_line(12, 10, 20, requested=4, estimate=30),
    swf_line(13, 15, 10, requested=1, estimate=10),
]
FIELDS = {
    "trace", "workers", "cpus", "order", "policy", "estimates", "users", "jobs", "utilisation",
    "wait_mean_seconds", "wait_p95_seconds", "wait_max_seconds", "bounded_slowdown_mean",
    "makespan_seconds", "odd_lines", "real_seconds", "jobs_per_second",
    "simulated_seconds_per_second",
}  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.swf"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture(scope="module")
def matplotlib_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where matplotlib keeps its list of fonts, not at the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        yield


def test_the_result_is_shown_in_words(titan: Titan, trace: Path) -> None:
    result = titan("simulate", "--cpus", "4", str(trace))
    assert (result.code, result.err) == (0, "")
    *lines, last = result.out.splitlines()
    assert lines == [
        "jobs:         3",
        "cluster:      1 worker of 4 cpus",
        f"scheduler:    order {ORDERS[0]}, policy round-robin-then-bin-packing",
        "estimates:    user",
        "utilisation:  85.71 %",
        "wait, mean:   13.333 s",
        "wait, p95:    40.000 s",
        "wait, max:    40.000 s",
        "slowdown:     1.667, bounded by 10 s, mean",
        "makespan:     70.000 s (1m10s)",
    ]
    assert re.fullmatch(
        r"simulated in: \d+\.\d\d s: \d+ jobs/s, \S+ times as fast as real time", last
    )


def test_json_has_every_field_always(titan: Titan, trace: Path, tmp_path: Path) -> None:
    found = json.loads(titan("simulate", "--cpus", "4", "--json", str(trace)).out)
    assert found.keys() == FIELDS
    assert found["odd_lines"] == {str(kind): 0 for kind in Oddity}
    assert (found["jobs"], found["utilisation"]) == (3, 240 / 280)
    assert (found["wait_mean_seconds"], found["wait_max_seconds"]) == (40 / 3, 40)
    assert found["bounded_slowdown_mean"] == pytest.approx(5 / 3)
    assert found["real_seconds"] > 0
    assert found["simulated_seconds_per_second"] == pytest.approx(70 / found["real_seconds"])
    # Nothing takes time in this one.
    trace.write_text(swf_line(run=0))
    nothing = json.loads(titan("simulate", "--cpus", "4", "--json", str(trace)).out)
    assert nothing.keys() == FIELDS
    assert (nothing["makespan_seconds"], nothing["utilisation"]) == (0, 0)


def test_workers_policy_and_estimates_are_taken(titan: Titan, trace: Path) -> None:
    arguments = ("--cpus", "4.5", "--workers", "2", "--policy", "spread", "--estimates", "exact")
    found = json.loads(titan("simulate", *arguments, "--users", "trace", "--json", str(trace)).out)
    assert (found["workers"], found["cpus"], found["policy"]) == (2, 4.5, "spread")
    assert (found["estimates"], found["users"]) == ("exact", "trace")
    assert found["wait_max_seconds"] == 0


def test_the_schedule_is_written(titan: Titan, trace: Path, tmp_path: Path) -> None:
    trace.write_text(trace.read_text() + swf_line(14, "20.5", "1.25", allocated=4))
    written = tmp_path / "jobs.csv"
    assert titan("simulate", "--cpus", "4", "--schedule", str(written), str(trace)).code == 0
    with written.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["job", "submit", "start", "end"],
        ["11", "0", "0", "50"],
        ["12", "10", "50", "70"],
        ["13", "15", "15", "25"],
        ["14", "20.5", "70", "71.25"],
    ]


def test_a_gzipped_trace_is_read_whatever_it_is_called(
    titan: Titan, trace: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "trace.swf.gz"
    packed.write_bytes(gzip.compress(trace.read_bytes()))
    other = tmp_path / "other"
    other.write_bytes(packed.read_bytes())
    for path in (packed, other):
        assert titan("simulate", "--cpus", "4", str(path)).out.startswith("jobs:         3\n")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_dash_is_stdin(trace: Path, pack: Callable[[bytes], bytes]) -> None:
    command = [sys.executable, "-m", "titan.cli", "simulate", "--cpus", "4", "--json", "-"]
    done = subprocess.run(command, input=pack(trace.read_bytes()), capture_output=True, check=True)
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert (found["trace"], found["jobs"]) == ("-", 3)


def test_a_closed_stdin_is_told() -> None:
    command = f"exec {sys.executable} -m titan.cli simulate --cpus 4 - <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"titan: .*Bad file descriptor.*\n", done.stderr)


def test_odd_lines_are_named_on_stderr_and_counted(titan: Titan, trace: Path) -> None:
    odd = ["1 2 3", swf_line(run=-1, status=5), swf_line(requested=5), swf_line(submit="\x1b[2J")]
    trace.write_text("\n".join([*odd, *LINES, swf_line(9, 1, 7, estimate=6)]))
    result = titan("simulate", "--cpus", "4", "--json", str(trace))
    assert result.code == 0
    assert result.err.splitlines() == [
        "titan: 1 line left out, too few columns: line 1 has 3, and 9 are needed",
        "titan: 1 line left out, not a number: line 4 has '\\x1b[2J' as its submit time",
        "titan: 1 line left out, cancelled before it ran: line 2 has the run time -1",
        "titan: 1 line left out, more cpus than a worker has: line 3 needs 5, a worker has 4",
        "titan: 1 line cut at the requested time, ran longer: line 9 ran 7 s, 6 s were requested",
        "titan: 1 line put in the order of time, submit time goes back: "
        "line 9 is at 1, one before it at 15",
    ]
    counts = json.loads(result.out)["odd_lines"]
    assert {name for name, count in counts.items() if count == 1} == {
        "too_few_columns", "not_a_number", "cancelled", "too_large", "longer_than_requested",
        "submit_goes_back",
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [b"", b"; only a comment\n", swf_line(run=-1).encode(), bytes(range(256)) * 20, b"\xff" * 9999],
    ids=["empty", "comment", "cancelled", "binary", "no text"],
)
def test_a_file_without_a_usable_job_is_an_error_that_says_so(
    titan: Titan, trace: Path, content: bytes
) -> None:
    trace.write_bytes(content)
    result = titan("simulate", "--cpus", "4", "--json", str(trace))
    assert (result.code, result.out) == (1, "")
    assert result.err.endswith(f"titan: {trace} has no job that could be simulated\n")


def test_a_damaged_gzip_file_is_told(titan: Titan, trace: Path) -> None:
    whole = gzip.compress(trace.read_bytes())
    for content in (whole[:-9], whole[:12], whole[:20] + b"\0\0\0\0" + whole[24:], whole[:3]):
        trace.write_bytes(content)
        result = titan("simulate", "--cpus", "4", str(trace))
        assert (result.code, result.out) == (1, "")
        assert f"titan: {trace} is gzipped, and damaged or cut off: " in result.err


def test_a_file_that_is_not_there_is_told(titan: Titan, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.swf", tmp_path):
        result = titan("simulate", "--cpus", "4", str(path))
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(rf"titan: .*'{re.escape(str(path))}'\n", result.err)


def test_files_that_cannot_be_written_are_told_before_anything_is_read(
    titan: Titan, tmp_path: Path
) -> None:
    place = str(tmp_path / "nowhere" / "jobs.csv")
    result = titan("simulate", "--cpus", "4", "--schedule", place, str(tmp_path / "absent"))
    assert (result.code, result.out) == (1, "")
    assert place in result.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["trace"], "--cpus"),
        (["--cpus", "4"], "TRACE"),
        (["--cpus", "0", "trace"], "0 cpus"),
        (["--cpus", "4", "--workers", "0", "trace"], "--workers"),
        (["--cpus", "4", "--order", "random", "trace"], "--order"),
        (["--cpus", "4", "--policy", "random", "trace"], "--policy"),
        (["--cpus", "4", "--plot", "picture.gif", "trace"], ".png, .svg, .pdf"),
        (["--cpus", "4", "--manager", "x", "trace"], "--manager"),
    ],
)
def test_wrong_usage_is_told(titan: Titan, arguments: list[str], why: str) -> None:
    result = titan("simulate", *arguments)
    assert (result.code, result.out) == (2, "")
    assert why in result.err


@pytest.mark.usefixtures("matplotlib_directory")
def test_a_picture_is_drawn(titan: Titan, trace: Path, tmp_path: Path) -> None:
    magics = {"a.png": b"\x89PNG\r\n\x1a\n", "A.PNG": b"\x89PNG\r\n\x1a\n", "a.pdf": b"%PDF-"}
    for name, magic in magics.items():
        picture = tmp_path / name
        result = titan("simulate", "--cpus", "4", "--plot", str(picture), str(trace))
        assert (result.code, result.err) == (0, "")
        assert "utilisation:  85.71 %" in result.out
        assert picture.read_bytes().startswith(magic)


@pytest.mark.usefixtures("matplotlib_directory")
def test_the_axes_of_a_picture_are_labelled(titan: Titan, trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    assert titan("simulate", "--cpus", "4", "--plot", str(picture), str(trace)).code == 0
    drawn = picture.read_text()
    for text in (
        "utilisation (% of cpus)",
        "queue depth (jobs waiting)",
        "time since the first submit (seconds)",
        f"3 jobs on 1 worker of 4 cpus, order {ORDERS[0]}",
    ):
        assert text in drawn


@pytest.mark.usefixtures("matplotlib_directory")
def test_a_picture_that_cannot_be_written_costs_no_result(
    titan: Titan, trace: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "nowhere" / "a.png")
    result = titan("simulate", "--cpus", "4", "--plot", place, str(trace))
    assert result.code == 1
    assert "makespan:" in result.out
    assert place in result.err


def test_without_matplotlib_it_says_what_to_install(
    titan: Titan, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    picture = tmp_path / "a.png"
    result = titan("simulate", "--cpus", "4", "--plot", str(picture), str(trace))
    assert (result.code, result.out) == (1, "")
    assert result.err.endswith("install titan-scheduler[plot]\n")
    assert not picture.exists()
    assert titan("simulate", "--cpus", "4", str(trace)).code == 0


def test_without_a_picture_matplotlib_is_not_loaded(trace: Path) -> None:
    code = (
        "import sys; from titan.cli.main import main; "
        f"main(['simulate', '--cpus', '4', {str(trace)!r}]); "
        "print(sorted({'matplotlib', 'numpy', 'grpc', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_progress_is_shown_on_a_terminal_and_goes_with_the_end(
    spawn: Callable[..., Process], trace: Path
) -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = spawn("simulate", "--cpus", "4", str(trace), stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # Once the other side is gone.
        while part := os.read(ours, 4096):
            seen += part
    os.close(ours)
    result = process.end()
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("jobs:         3\n")
    text = seen.decode()
    assert re.search(r"simulating .*/3", text)
    # The cursor is given back.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
