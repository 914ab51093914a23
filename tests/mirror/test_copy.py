"""`titan journal copy`: a cluster's log from files into a database and back; what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wal
from tests.cli.conftest import Titan
from tests.cluster import REPOSITORY
from tests.mirror.builders import SEGMENT_BYTES, Store, digest_of, frames_of, snapshot, state_of
from tests.postgresql import PostgreSQL
from tests.waltools.builders import append, history, make_directory
from titan import paths
from titan.journal.errors import JournalRefused
from titan.journal.mark import read_mark
from titan.journal.prepare import MirrorAhead, prepare_mirror
from titan.manager import directory as data_directory
from titan.manager.directory import DirectoryRefused
from titan.snapshots import snapshot_directory
from titan.waltools import copying
from titan.waltools.copy_database import HOLDER
from titan.waltools.copy_ends import CopyRefused
from titan.waltools.copying import copy_log


def opened(directory: Path) -> wal.Log:
    return wal.Log.open(
        directory / "wal", lock_path=directory / "lock", segment_bytes=SEGMENT_BYTES
    )


def extend(directory: Path, records: int) -> None:
    """Adds the next so many records of the history."""
    log = opened(directory)
    append(log, history(log.last_lsn + records)[log.last_lsn :])
    log.abandon()


def cut(directory: Path, lsn: int) -> None:
    """Removes what a snapshot stands for, as retention does."""
    wal.remove_segments_before(directory / "wal", lsn + 1)


def put_slot(directory: Path, name: str, lsn: int) -> wal.Position:
    with wal.Reader(directory / "wal") as reader:
        reader.read(lsn)
        wal.write_slot(directory / "readers", name, reader.position)
        return reader.position


@pytest.fixture
def target(url: str) -> Iterator[Store]:
    """A database without a journal."""
    made = Store(url)
    yield made
    made.close()


def test_a_clusters_log_comes_into_a_database_and_back(target: Store, tmp_path: Path) -> None:
    source, back = make_directory(tmp_path / "source"), tmp_path / "back"
    snapshot(source)
    extend(source, 60)
    position = put_slot(source, "history", 99)
    told: list[str] = []
    done = copy_log(str(source), target.url, told.append)
    assert done[:3] == (1, 210, 210)
    assert (done.snapshots, done.slots) == (1, 1)
    assert "snapshot 1 of 1" in told
    assert target.frames() == frames_of(source)
    assert target.slots.read() == [wal.Slot("history", position)]
    assert target.lease.read().seconds_left == 0
    assert copy_log(target.url, str(back)) == done
    assert frames_of(back) == frames_of(source)
    assert digest_of(back) == digest_of(source) == state_of(210)
    name = wal.snapshot_name(150)
    assert (back / "snapshots" / name).read_bytes() == (source / "snapshots" / name).read_bytes()
    slots = wal.read_slots(back / "readers", on_warning=pytest.fail)
    assert slots == [wal.Slot("history", position)]
    assert paths.read_json(back / "titan.json") == paths.read_json(source / "titan.json")
    data_directory.prepare(back)
    # The reader goes on from its slot.
    with wal.Reader(back / "wal", position=position) as reader:
        assert [record.lsn for record in reader] == list(range(100, 211))


def test_a_log_without_its_beginning_is_copied_with_the_snapshot_that_leads_in(
    target: Store, tmp_path: Path
) -> None:
    source, back = make_directory(tmp_path / "source"), tmp_path / "back"
    snapshot(source)
    extend(source, 60)
    cut(source, 150)
    first = wal.list_segments(source / "wal")[0].first_lsn
    assert 1 < first <= 151
    assert copy_log(str(source), target.url).first_lsn == first
    assert target.base().lsn == first - 1
    copy_log(target.url, str(back))
    assert frames_of(back) == frames_of(source)
    assert digest_of(back) == state_of(210)


def test_an_empty_log_is_copied_too(target: Store, tmp_path: Path) -> None:
    source, back = make_directory(tmp_path / "source", ()), tmp_path / "back"
    copy_log(str(source), target.url)
    copy_log(target.url, str(back))
    assert frames_of(back) == []
    assert digest_of(back) == state_of(0)
    data_directory.prepare(back)
    extend(source, 9)
    copy_log(str(source), target.url)
    copy_log(target.url, str(back))
    assert digest_of(back) == state_of(9)


def test_a_journal_that_was_just_made_takes_the_log_up(store: Store, tmp_path: Path) -> None:
    source = make_directory(tmp_path / "source")
    copy_log(str(source), store.url)
    assert store.frames() == frames_of(source)
    assert store.tail.end().log_id == opened_id(source)


def opened_id(directory: Path) -> bytes:
    with wal.Reader(directory / "wal") as reader:
        return reader.log_id


def test_what_is_there_is_gone_on_with(target: Store, tmp_path: Path) -> None:
    source, back = make_directory(tmp_path / "source"), tmp_path / "back"
    done = None
    for records in (0, 30, 1, 0):
        if records:
            extend(source, records)
        if records > 1:
            snapshot(source)
        done = copy_log(str(source), target.url)
        assert done.last_lsn == copy_log(target.url, str(back)).last_lsn
        assert target.frames() == frames_of(source) == frames_of(back)
    assert done is not None
    assert done[2:] == (0, 0, 0, 0, [])


def test_a_directory_in_use_is_refused_on_either_side(target: Store, tmp_path: Path) -> None:
    source = make_directory(tmp_path / "source")
    copy_log(str(source), target.url)
    lock = wal.Lock(source / "lock")
    for origin, goal in ((str(source), target.url), (target.url, str(source))):
        with pytest.raises(CopyRefused, match=r"is in use by process .* stop the manager"):
            copy_log(origin, goal)
    lock.release()
    assert target.lease.read().seconds_left == 0


def test_a_journal_that_is_led_is_refused_on_either_side(target: Store, tmp_path: Path) -> None:
    source = make_directory(tmp_path / "source")
    copy_log(str(source), target.url)
    term = target.lease.try_take("a manager", "db:50051", 60)
    for origin, goal in ((str(source), target.url), (target.url, str(tmp_path / "back"))):
        with pytest.raises(CopyRefused, match=r"is led by db:50051, for .* stop all managers"):
            copy_log(origin, goal)
    assert target.lease.read().term == term
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("side", ["database", "directory"])
def test_another_log_or_history_is_never_written_over(
    target: Store, tmp_path: Path, side: str
) -> None:
    source, other = make_directory(tmp_path / "source"), make_directory(tmp_path / "other", seed=4)
    goal = str(tmp_path / "goal") if side == "directory" else target.url
    copy_log(str(source), goal)
    with pytest.raises(CopyRefused, match="has another log"):
        copy_log(str(other), goal)
    # The same log, gone on with in another way.
    branch = make_directory(tmp_path / "branch", history()[:120])
    with pytest.raises(
        CopyRefused, match=r"ends with record 150, and .* before it, with record 120"
    ):
        copy_log(str(branch), goal)
    log = opened(branch)
    append(log, history(171)[121:])
    log.abandon()
    with pytest.raises(CopyRefused, match="ends with record 150 of another history"):
        copy_log(str(branch), goal)
    assert frames_in(goal, target) == frames_of(source)
    assert target.lease.read().seconds_left == 0 if side == "database" else True
    copy_log(str(source), goal)


def frames_in(place: str, target: Store) -> list[tuple[int, int, int, bytes]]:
    return target.frames() if place == target.url else frames_of(Path(place))


def test_a_target_behind_what_the_source_keeps_is_refused(target: Store, tmp_path: Path) -> None:
    source = make_directory(tmp_path / "source", history()[:12])
    copy_log(str(source), target.url)
    extend(source, 138)
    snapshot(source)
    extend(source, 60)
    cut(source, 150)
    with pytest.raises(CopyRefused, match="ends with record 12, and what follows it is not kept"):
        copy_log(str(source), target.url)


@pytest.mark.parametrize("what", ["nothing", "foreign", "worker", "damaged", "no-snapshot"])
def test_what_is_no_sound_place_is_refused(target: Store, tmp_path: Path, what: str) -> None:
    source, goal = make_directory(tmp_path / "source"), tmp_path / "goal"
    if what == "nothing":
        with pytest.raises(CopyRefused, match="is no data directory with a log"):
            copy_log(str(tmp_path / "absent"), target.url)
        return
    if what == "foreign":
        goal.mkdir()
        (goal / "thesis.tex").write_text("")
        with pytest.raises(CopyRefused, match="is not empty and is no data directory of Titan"):
            copy_log(str(source), str(goal))
        return
    if what == "worker":
        goal.mkdir()
        paths.write_json(goal / "titan.json", {"role": "worker", "format": 1})
        with pytest.raises(CopyRefused, match="is the data directory of a worker"):
            copy_log(str(source), str(goal))
        return
    if what == "damaged":
        path = Path(wal.list_segments(source / "wal")[1].path)
        data = bytearray(path.read_bytes())
        data[300] ^= 1
        path.write_bytes(data)
        with pytest.raises(CopyRefused, match=r"is damaged: .* `titan wal verify"):
            copy_log(str(source), target.url)
    else:
        snapshot(source)
        extend(source, 60)
        cut(source, 150)
        path = snapshot_directory(source) / wal.snapshot_name(150)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CopyRefused, match="no usable snapshot leads there"):
            copy_log(str(source), target.url)
    with pytest.raises(JournalRefused, match="there is no journal"):
        target.database.meta()


def test_a_damaged_snapshot_of_a_database_is_left_out_unless_it_is_needed(
    target: Store, titan: Titan, tmp_path: Path
) -> None:
    source = make_directory(tmp_path / "source")
    for records in (30, 30):
        snapshot(source)
        extend(source, records)
    copy_log(str(source), target.url)
    statement = (
        "UPDATE titan_journal.snapshot_chunk SET chunk = set_byte(chunk, 200, 1) FROM"
        " titan_journal.snapshot WHERE snapshot.id = snapshot_chunk.id AND lsn = %s"
    )
    assert target.execute(statement, 180) == 1
    done = titan("journal", "copy", target.url, str(tmp_path / "back"))
    assert done.code == 0
    assert "the snapshot at record 180" in done.err
    assert wal.find_snapshots(tmp_path / "back" / "snapshots") == [150]
    assert digest_of(tmp_path / "back") == state_of(210)
    target.retention.remove_before(151)
    assert target.execute(statement, 150) == 1
    with pytest.raises(CopyRefused, match="no usable snapshot leads there"):
        copy_log(target.url, str(tmp_path / "other"))
    with pytest.raises(DirectoryRefused):
        data_directory.prepare(tmp_path / "other")


class Stopped(Exception):
    """As Ctrl-C."""


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_copying_into_a_database_that_was_stopped_is_gone_on_with_and_nobody_leads_before(
    target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    source = make_directory(tmp_path / "source")
    snapshot(source)
    stop_in_batch(monkeypatch, after)
    with pytest.raises(Stopped):
        copy_log(str(source), target.url)
    monkeypatch.undo()
    assert target.tail.end().lsn == 3 * after
    assert target.lease.read().holder == HOLDER
    assert target.lease.try_take("a manager", "", 8) is None
    with pytest.raises(CopyRefused, match="is led by titan journal copy"):
        copy_log(target.url, str(tmp_path / "back"))
    copy_log(str(source), target.url)
    assert target.frames() == frames_of(source)
    assert target.lease.try_take("a manager", "", 8)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_copying_into_a_directory_that_was_stopped_is_gone_on_with_and_no_manager_starts_before(
    target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    source, back = make_directory(tmp_path / "source"), tmp_path / "back"
    snapshot(source)
    copy_log(str(source), target.url)
    stop_in_batch(monkeypatch, after)
    with pytest.raises(Stopped):
        copy_log(target.url, str(back))
    monkeypatch.undo()
    assert target.lease.read().seconds_left == 0
    mark = read_mark(back)
    assert mark is not None
    assert mark.is_partial
    with pytest.raises(DirectoryRefused, match=f"titan journal copy URL {back}"):
        data_directory.prepare(back)
    with pytest.raises(CopyRefused, match="stopped before its end"):
        copy_log(str(back), target.url)
    copy_log(target.url, str(back))
    assert digest_of(back) == digest_of(source)
    assert read_mark(back) is None
    data_directory.prepare(back)


def stop_in_batch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Copies batches of one frame, and is stopped before that one."""
    monkeypatch.setattr(copying, "BATCH_BYTES", 1)
    count = 0

    for name in ("DatabaseTarget", "DirectoryTarget"):
        kind = getattr(copying, name)
        add = kind.add

        def counted(self: object, frames: object, add: object = add) -> None:
            nonlocal count
            if count == number:
                raise Stopped
            count += 1
            assert callable(add)
            add(self, frames)

        monkeypatch.setattr(kind, "add", counted)


def test_ctrl_c_ends_the_command_and_what_is_there_can_be_gone_on_with(
    target: Store, tmp_path: Path
) -> None:
    source = make_directory(tmp_path / "source", history(3_000))
    # Of the thousand batches it leaves the last ones for when it was interrupted, however late.
    code = (
        "import sys, time\n"
        "from tests.postgresql import patience\n"
        "from titan.waltools import copying\n"
        "from titan.cli.main import main\n"
        "copying.BATCH_BYTES = 1\n"
        "add, count = copying.DatabaseTarget.add, 0\n"
        "def add_most(target, frames):\n"
        "    global count\n"
        "    count += 1\n"
        "    while count > 900:\n"
        "        time.sleep(1)\n"
        "    add(target, frames)\n"
        "copying.DatabaseTarget.add = add_most\n"
        "with patience():\n"
        "    sys.exit(main(['journal', 'copy', *sys.argv[1:]]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(source), target.url],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    while not reached(target):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert 0 < target.tail.end().lsn < 3_000
    assert target.lease.try_take("a manager", "", 8) is None
    copy_log(str(source), target.url)
    assert target.frames() == frames_of(source)


def reached(target: Store) -> bool:
    try:
        return target.tail.end().lsn > 30
    except JournalRefused:
        return False


def test_a_copy_of_a_mirror_puts_back_what_the_database_has_lost(
    store: Store, tmp_path: Path
) -> None:
    mirror = tmp_path / "manager"
    store.append_history(60)
    prepare_mirror(store.database, mirror, segment_bytes=SEGMENT_BYTES)
    store.lose_rows_after(45)
    with pytest.raises(MirrorAhead):
        prepare_mirror(store.database, mirror, segment_bytes=SEGMENT_BYTES)
    assert copy_log(str(mirror), store.url).records == 15
    prepare_mirror(store.database, mirror, segment_bytes=SEGMENT_BYTES)
    assert store.frames() == frames_of(mirror)
    assert digest_of(mirror) == state_of(60)


def test_the_command_tells_what_it_did_and_why_not(
    target: Store, titan: Titan, tmp_path: Path
) -> None:
    source = make_directory(tmp_path / "source")
    done = titan("journal", "copy", str(source), target.url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("The copy has records 1 to 150; new: 150 records (")
    again = titan("journal", "copy", "--json", str(source), target.url)
    assert json.loads(again.out)["records"] == 0
    assert target.lease.try_take("a manager", "db:50051", 60)
    refused = titan("journal", "copy", str(source), target.url)
    assert (refused.code, refused.out) == (1, "")
    assert "stop all managers first" in refused.err


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["frames", "snapshot", "cut", "restart", "copy", "slot"]),
            st.integers(1, 40),
        ),
        min_size=3,
        max_size=14,
    ),
)
def test_any_history_comes_through_with_the_same_frames_and_state(
    postgresql: PostgreSQL,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    steps: list[tuple[str, int]],
) -> None:
    """Directory to database to directory, also on the way, whatever was removed or added before."""
    random, directory = Random(seed), tmp_path_factory.mktemp("any")
    source, back = make_directory(directory / "source", (), seed=seed % 7), directory / "back"
    target = Store(postgresql.make_database())
    log, taken = opened(source), 0
    copies = 0
    for what, amount in [*steps, ("copy", 1)]:
        if what == "frames":
            payloads = list(history(log.last_lsn + amount)[log.last_lsn :])
            while payloads:
                count = random.randint(1, len(payloads))
                for payload in payloads[:count]:
                    log.append(payload)
                assert log.flush()
                del payloads[:count]
        elif what == "slot" and log.last_lsn:
            put_slot(source, f"reader-{amount % 3}", log.last_lsn)
        elif what == "snapshot" and log.last_lsn > taken:
            taken = snapshot(source)
        elif what == "cut" and taken and not copies:
            cut(source, taken)
        elif what == "restart":
            end = random.choice([wal.Log.close, wal.Log.abandon])
            end(log)
            log = reopened(source)
        elif what == "copy":
            log.abandon()
            copy_log(str(source), target.url)
            copy_log(target.url, str(back))
            copies += 1
            assert target.frames() == frames_of(source) == frames_of(back)
            assert digest_of(back) == digest_of(source) == state_of(digest_of(source)[0])
            assert slots_of(back) == slots_of(source)
            log = reopened(source)
    log.abandon()
    target.close()


def reopened(directory: Path) -> wal.Log:
    first = wal.list_segments(directory / "wal")[0].first_lsn
    with wal.Reader(directory / "wal") as reader:
        base = reader.position
    return wal.Log.open(
        directory / "wal",
        lock_path=directory / "lock",
        segment_bytes=SEGMENT_BYTES,
        after=base if first > 1 else None,
    )


def slots_of(directory: Path) -> dict[str, wal.Position]:
    return dict(wal.read_slots(directory / "readers", on_warning=pytest.fail))
