"""The benchmarks run, at small sizes, and give what they promise. Their numbers are not judged."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import wal
from titan.manager.recovery import recover
from titan.rpc.v1 import task_pb2, types_pb2, worker_pb2
from titan.state.invariants import check_invariants
from tools.bench import __main__ as bench
from tools.bench import fake_workers, peers
from tools.bench.crowd import JOBS_PER_RECORD, SIZES, USERS, write_crowd
from tools.bench.growth import draw
from tools.bench.history import write_history
from tools.bench.processes import BenchError
from tools.bench.replay import replay_all
from tools.bench.result import Curve, Result, alternate, said_before, table
from tools.chaos.processes import ChaosError
from tools.chaos.several.postgresql import find_programs

ROWS = {
    "a": 1, "l": 1, "m": 1, "n": 1, "b": 1, "c": 4, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 2,
    "j": 4, "o": 2, "p": 2, "q": 2, "r": 6, "s": 2,
    "t": 4, "u": 6, "v": 4, "w": 2, "x": 2,
}  # fmt: skip
# What these may take is a number.
BOUNDED = {"h", "i", "n", "o", "q", "r", "s", "t"}
# Of parts u and w some rows have.
SOME_BOUNDS = {"20,000 events/s", "0.3 s", "50 ms"}


@pytest.fixture
def open_directory() -> Iterator[str]:
    """One that the user of a PostgreSQL can enter, as the tests' own can't be."""
    try:
        find_programs()
    except ChaosError as error:
        if os.environ.get("TITAN_CI"):
            raise
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {error}")
    with tempfile.TemporaryDirectory(prefix="titan-bench-", dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield name


@pytest.mark.parametrize("part", ROWS)
def test_a_part_measures_itself_and_its_floor(
    part: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    file = tmp_path / "results.json"
    where = ["--directory", request.getfixturevalue("open_directory")] if part == "x" else []
    assert bench.main(["--quick", "--only", part, "--json", str(file), *where]) == 0
    results = json.loads(file.read_text())["results"]
    assert [each["part"] for each in results] == [part] * ROWS[part]
    printed = capsys.readouterr().out
    for each in results:
        assert len(each["values"]) == 1
        # A 99th percentile stands beside the median of its own round.
        is_alone = part in BOUNDED or "p99" in each["what"] or each["floor"] in SOME_BOUNDS
        assert len(each["floors"]) == (1 if is_alone else 2)
        assert each["ratio"] == each["ratios"][0]
        # A line through what was measured may go anywhere: a machine that stands still for a moment
        # turns it round.
        assert each["ratio"] > 0 or "by a line through" in each["what"]
        assert each["what"] in printed


def test_a_part_that_fails_does_not_take_what_the_others_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_directory: Path, **_how: object) -> list[Result]:
        raise BenchError("it did not come up")

    monkeypatch.setitem(bench.PARTS, "a", fail)
    file = tmp_path / "results.json"
    assert bench.main(["--quick", "--only", "a,h", "--json", str(file)]) == 1
    assert [each["part"] for each in json.loads(file.read_text())["results"]] == ["h"]
    told = capsys.readouterr()
    assert "(a) it did not come up" in told.err
    assert "log for a heartbeat" in told.out


def test_a_ratio_is_to_the_floors_on_both_sides_of_its_round() -> None:
    numbers = iter([10.0, 8.0, 30.0, 20.0, 50.0])
    assert alternate(2, lambda: next(numbers), lambda: next(numbers)) == (
        (8.0, 20.0),
        (10.0, 30.0, 50.0),
        (0.4, 0.5),
    )


def test_the_table_shows_medians_and_what_is_wanted() -> None:
    result = Result(
        part="a", what="things", unit="things/s", values=(900.0, 1000.0, 1100.0), floor="nothing",
        floors=(2000.0, 2000.0), ratios=(0.45, 0.5, 0.55), must="≥ 0.3",
        details={"extra": 12.5},
    )  # fmt: skip
    text = table([result])
    for each in ("1,000 things/s", "2,000 things/s", "0.45 – 0.55", "≥ 0.3", "extra 12.5"):
        assert each in text


def test_the_table_shows_what_a_run_before_said_of_the_same_row(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    arguments = ["--quick", "--only", "h", "--json", str(file), "--before", str(file)]
    assert bench.main(arguments) == 0, "nothing was there before"
    said = said_before(json.loads(file.read_text()))
    ((key, text),) = said.items()
    assert key[0] == "h"
    assert text.startswith("2.")
    result = Result(
        part=key[0], what=key[1], unit="bytes", values=(5.0,), floor=key[2], floors=(20.0,),
        ratios=(0.25,), must="",
    )  # fmt: skip
    assert text in table([result], said)
    other = replace(result, what="another row")
    assert text not in table([other], said)


def test_curves_are_drawn_beside_the_numbers(tmp_path: Path) -> None:
    curve = Curve(
        name="growth", title="t", x_label="things (count)", y_label="time (s)",
        series={"measured": [(0, 1.0), (10, 2.0), (100, 3.0)]}, line=[(0, 1.0), (200, 5.0)],
        line_label="fitted", bound=4.0, bound_label="must", logarithmic=True,
    )  # fmt: skip
    result = Result(
        part="z", what="w", unit="s", values=(1.0,), floor="f", floors=(1.0,), ratios=(1.0,),
        must="", curve=curve,
    )  # fmt: skip
    (said,) = draw([result, replace(result, curve=None)], tmp_path / "numbers.json")
    picture = tmp_path / "numbers-growth.png"
    assert said == f"drawn: {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_fake_worker_hands_back_what_waits_for_it_or_did_not_come() -> None:
    told: list[worker_pb2.ReportTaskStatusRequest] = []

    class Manager:
        """Takes one batch of reports, and says nothing of it."""

        async def ReportTaskStatus(  # noqa: N802  (gRPC's names)
            self, request: worker_pb2.ReportTaskStatusRequest, **_: object
        ) -> None:
            told.append(request)
            await asyncio.Event().wait()

    async def scenario() -> None:
        worker = fake_workers._Worker(1, "127.0.0.1:1")
        worker._stub = Manager()  # type: ignore[assignment]  # of it one method is called
        keys = [types_pb2.AttemptKey(job_id=number, attempt=1) for number in (1, 2, 3)]
        batch = task_pb2.StartTaskRequest(dispatch_seq=1)
        for number, class_id in enumerate((7, 8)):
            batch.specs.add(job_id=keys[number].job_id, class_id=class_id)
            batch.starts.add(spec=number, attempt=1)
        # The first runs, and the second waits.
        batch.slots.add(class_id=7, slots=1)
        worker.start(batch)
        # A batch was lost, and the third task with it.
        wishes = task_pb2.StopTaskRequest(dispatch_seq=3)
        for key in keys:
            wishes.stops.add(key=key, mode=task_pb2.STOP_RECALL)
        worker.stop(wishes)
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await worker.report()
        await worker._channel.close()

    asyncio.run(scenario())
    (batch,) = told
    ended, recalled = worker_pb2.REPORT_ENDED, worker_pb2.REPORT_RECALLED
    # Of what has ended already only the end counts, which comes first.
    assert [(each.key.job_id, each.kind) for each in batch.reports] == [
        (1, ended), (1, recalled), (2, recalled), (3, recalled),
    ]  # fmt: skip


@pytest.mark.timeout(peers.RUN_SECONDS_MAX + 60)
@pytest.mark.parametrize("peer", [peers.HYPERQUEUE, peers.DASK], ids=lambda each: each.module)
def test_a_peer_runs_its_tasks_in_one_directory_of_its_own(
    peer: peers.Peer, tmp_path: Path
) -> None:
    if not peer.is_there:
        assert not os.environ.get("TITAN_CI"), f"{peer.module} is not installed"
        pytest.skip(f"{peer.module} is not installed: pip install '.[peers]' brings it")
    assert peers.tasks_per_second(peer, tmp_path, 10) > 0
    assert len(list(tmp_path.iterdir())) == 1
    assert peers.why_absent(peer, quick=False) == ()


def test_a_peer_that_is_not_installed_is_left_out_with_a_note() -> None:
    absent = peers.Peer("Nothing", "no_such_module_at_all", "anything")
    (note,) = peers.why_absent(absent, quick=False)
    assert "pip install" in note


def test_a_history_is_the_same_each_time_and_replays(tmp_path: Path) -> None:
    counts = [write_history(tmp_path / name, 3_000) for name in ("1", "2")]
    assert counts[0] == counts[1] >= 3_000
    logs = [list(wal.Reader(tmp_path / name)) for name in ("1", "2")]
    assert logs[0] == logs[1]
    with wal.Log.open(tmp_path / "1") as log:
        replay_all(log)


def test_a_crowd_is_what_a_manager_finds_at_its_start(tmp_path: Path) -> None:
    ended, waiting = 250, USERS * JOBS_PER_RECORD
    write_crowd(tmp_path / "m", ended, waiting)
    recovered = recover(tmp_path / "m")
    state = recovered.state
    recovered.log.abandon()
    assert recovered.snapshot_lsn == state.lsn
    check_invariants(state)
    assert (state.jobs.ended_count, len(state.live_jobs)) == (ended, waiting)
    waiting_classes = {job.job_class.class_id for job in state.live_jobs.values()}
    assert len(waiting_classes) == USERS * SIZES
    assert not any(worker.attempts for worker in state.workers.values())


@pytest.mark.parametrize("arguments", [["--only", "z"], ["--rounds", "0"], ["--events", "-1"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(arguments)
