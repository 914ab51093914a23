"""Making a data directory the copy of a journal: every state in which either of them may be."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

import wal
from tests.cli.conftest import Titan
from tests.mirror.builders import SEGMENT_BYTES, Store, digest_of, frames_of, snapshot, state_of
from tests.postgresql import PostgreSQL
from tests.waltools.builders import make_directory
from titan.journal.errors import JournalRefused, JournalUnavailable
from titan.journal.mark import read_mark
from titan.journal.prepare import MirrorAhead, prepare_mirror
from titan.journal.session import Session
from titan.manager import directory as data_directory
from titan.manager.directory import DirectoryRefused
from titan.snapshots import snapshot_directory


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the copy is to be."""
    return tmp_path / "manager"


def prepare(store: Store, directory: Path) -> None:
    """As a start does."""
    data_directory.prepare(directory, is_shared=True)
    prepare_mirror(store.database, directory, segment_bytes=SEGMENT_BYTES)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "journal.json")
    }


def test_an_empty_directory_becomes_a_copy_of_an_empty_journal(store: Store, copy: Path) -> None:
    prepare(store, copy)
    assert frames_of(copy) == []
    with wal.Reader(copy / "wal") as reader:
        assert reader.position == store.tail.end()
    mark = read_mark(copy)
    assert mark is not None
    assert (mark.log_id, mark.journal) == (store.tail.end().log_id, str(store.database))
    assert digest_of(copy) == state_of(0)


def test_an_empty_directory_becomes_a_copy_of_all_rows(store: Store, copy: Path) -> None:
    store.append_history(150)
    prepare(store, copy)
    assert frames_of(copy) == store.frames()
    assert len(wal.list_segments(copy / "wal")) > 1
    assert digest_of(copy) == state_of(150)


def test_a_copy_is_gone_on_with(store: Store, copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    for records in (1, 20, 0, 60, 40):
        if records:
            store.append_history(records)
        prepare(store, copy)
        assert frames_of(copy) == store.frames()
    prepare(store, copy)
    first = wal.list_segments(copy / "wal")[0].path
    before = Path(first).stat()
    prepare(store, copy)
    assert Path(first).stat().st_mtime_ns == before.st_mtime_ns
    assert digest_of(copy) == state_of(121)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_manager_on_files_does_not_start_on_a_copy(store: Store, copy: Path) -> None:
    prepare(store, copy)
    with pytest.raises(DirectoryRefused, match="start this one with --journal"):
        data_directory.prepare(copy)
    data_directory.prepare(copy, is_shared=True)


def test_a_copy_is_not_repaired_but_fetched_anew(store: Store, copy: Path, titan: Titan) -> None:
    store.append_history(30)
    prepare(store, copy)
    before = contents(copy)
    result = titan("wal", "repair", "--yes", str(copy))
    assert result.code == 1
    assert (
        "fetches anew what is damaged. Nothing was changed. If that database is lost" in result.err
    )
    assert contents(copy) == before


@pytest.mark.parametrize("is_shared", [True, False])
def test_what_a_start_leaves_that_came_to_no_journal_is_in_nobodys_way(
    copy: Path, *, is_shared: bool
) -> None:
    copy.mkdir()
    for name in ("lock", "access.json", ".access.json.77", ".journal.json.77"):
        (copy / name).touch()
    data_directory.prepare(copy, is_shared=is_shared)
    (copy / "wal").mkdir()
    with pytest.raises(DirectoryRefused, match=r"it has no titan\.json"):
        data_directory.prepare(copy, is_shared=is_shared)


def test_where_rows_were_removed_the_oldest_snapshot_that_leads_on_is_fetched(
    store: Store, copy: Path, tmp_path: Path
) -> None:
    store.append_history(60)
    prepare(store, tmp_path / "other")
    for records in (30, 30, 20):
        snapshot(tmp_path / "other")
        store.append_history(records)
        prepare(store, tmp_path / "other")
    assert store.send_snapshots(tmp_path / "other") == [60, 90, 120]
    assert store.retention.remove_before(80)
    assert store.tail.first_lsn() == 79
    prepare(store, copy)
    assert wal.find_snapshots(snapshot_directory(copy)) == [90, 120]
    assert frames_of(copy) == [frame for frame in store.frames() if frame[0] > 90]
    assert digest_of(copy) == state_of(140)


def test_a_snapshot_that_cannot_be_used_is_passed_over_with_a_warning(
    store: Store, copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.append_history(30)
    prepare(store, tmp_path / "other")
    for records in (30, 30):
        snapshot(tmp_path / "other")
        store.append_history(records)
        prepare(store, tmp_path / "other")
    assert store.send_snapshots(tmp_path / "other") == [30, 60]
    store.retention.remove_before(31)
    statement = (
        "UPDATE titan_journal.snapshot_chunk SET chunk = set_byte(chunk, 100, 7) FROM"
        " titan_journal.snapshot WHERE snapshot.id = snapshot_chunk.id AND lsn = %s"
    )
    assert store.execute(statement, 30)
    prepare(store, copy)
    assert wal.find_snapshots(snapshot_directory(copy)) == [60]
    assert frames_of(copy)[0][0] == 61
    assert digest_of(copy) == state_of(90)
    assert "cannot be used" in caplog.text
    shutil.rmtree(copy)
    assert store.execute(statement, 60)
    with pytest.raises(JournalRefused, match="begins with record 31, and no snapshot"):
        prepare(store, copy)


def test_a_snapshot_of_another_history_is_passed_over_with_a_warning(
    store: Store, copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a leader brought it that had not heard yet that the database has lost records."""
    store.append_history(150)
    prepare(store, copy)
    snapshot(copy)
    assert store.send_snapshots(copy) == [150]
    store.lose_rows_after(120)
    store.append([b"another history"] * 60)
    prepare(store, tmp_path / "new")
    assert frames_of(tmp_path / "new") == store.frames()
    assert wal.find_snapshots(snapshot_directory(tmp_path / "new")) == []
    assert "a snapshot of the journal cannot be used" in caplog.text


def test_a_copy_behind_what_is_kept_is_begun_anew(
    store: Store, copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.append_history(30)
    prepare(store, copy)
    store.append_history(60)
    prepare(store, tmp_path / "other")
    snapshot(tmp_path / "other")
    store.append_history(10)
    store.send_snapshots(tmp_path / "other")
    store.retention.remove_before(91)
    prepare(store, copy)
    assert frames_of(copy) == store.frames()
    assert frames_of(copy)[0][0] == 91
    assert digest_of(copy) == state_of(100)
    assert "ends before what is kept of it" in caplog.text
    assert not list(copy.glob("replaced-*"))  # The database was ahead of all of it.


def test_a_copy_that_ends_just_where_what_is_kept_begins_is_gone_on_with(
    store: Store, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.append_history(30)
    prepare(store, copy)
    store.append_history(30)
    store.retention.remove_before(31)
    assert store.tail.first_lsn() == 31
    prepare(store, copy)
    assert frames_of(copy)[0][0] == 1
    assert digest_of(copy) == state_of(60)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_damaged_copy_is_set_aside_and_fetched_anew(
    store: Store, copy: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    store.append_history(150)
    prepare(store, copy)
    paths = [Path(each.path) for each in wal.list_segments(copy / "wal")]
    path = paths[0 if place == "first" else -1]
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    path.write_bytes(damaged)
    prepare(store, copy)
    assert frames_of(copy) == store.frames()
    assert digest_of(copy) == state_of(150)
    assert "is damaged and is fetched anew" in caplog.text
    assert (copy / "replaced-1" / "wal" / path.name).read_bytes() == damaged


def test_a_copy_without_its_segments_is_fetched_anew(store: Store, copy: Path) -> None:
    store.append_history(30)
    prepare(store, copy)
    for each in wal.list_segments(copy / "wal"):
        Path(each.path).unlink()
    prepare(store, copy)
    assert frames_of(copy) == store.frames()


def test_a_torn_tail_of_a_copy_is_cut_off_and_fetched_again(store: Store, copy: Path) -> None:
    store.append_history(30)
    prepare(store, copy)
    (copy / "wal" / "durable").unlink()  # As after a power loss.
    path = Path(wal.list_segments(copy / "wal")[-1].path)
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[:-5] + bytes(5))
    prepare(store, copy)
    assert frames_of(copy) == store.frames()
    assert list((copy / "wal").glob("torn-*"))


def test_a_copy_that_is_ahead_is_left_alone_and_says_what_is_lost(store: Store, copy: Path) -> None:
    store.append_history(30)
    prepare(store, copy)
    before = contents(copy)
    store.lose_rows_after(24)
    for _ in range(2):
        with pytest.raises(MirrorAhead) as caught:
            prepare(store, copy)
        text = str(caught.value)
        assert "ends with record 30" in text
        assert "with record 24" in text
        assert f"titan journal copy {copy} URL" in text
        assert f"move {copy} away" in text
        assert contents(copy) == before


def test_a_copy_of_a_history_that_was_lost_is_left_alone(store: Store, copy: Path) -> None:
    store.append_history(30)
    prepare(store, copy)
    before = contents(copy)
    store.lose_rows_after(21)
    store.append_history(60, row_records=2)  # Another term went on with what was left.
    with pytest.raises(MirrorAhead, match="ends with record 30 of another history"):
        prepare(store, copy)
    assert contents(copy) == before


def test_a_copy_in_a_middle_of_a_row_is_of_another_history(store: Store, copy: Path) -> None:
    store.append_history(30)
    prepare(store, copy)
    store.lose_rows_after(27)
    store.append_history(10, row_records=5)
    with pytest.raises(MirrorAhead, match="another history"):
        prepare(store, copy)


def test_a_reader_that_is_ahead_of_the_database_shows_that_it_has_lost_something(
    store: Store, copy: Path
) -> None:
    store.append_history(30)
    prepare(store, copy)
    with wal.Reader(copy / "wal") as reader:
        reader.read()
        wal.write_slot(copy / "readers", "history", reader.position)
    prepare(store, copy)
    store.lose_rows_after(24)
    shutil.rmtree(copy / "wal")
    with pytest.raises(MirrorAhead, match=r"the reader history of .* has read up to record 30"):
        prepare(store, copy)


def test_another_journals_copy_is_refused_and_left_alone(
    store: Store, copy: Path, tmp_path: Path
) -> None:
    make_directory(copy)
    before = contents(copy)
    with pytest.raises(JournalRefused, match="name another --data-dir"):
        prepare(store, copy)
    assert contents(copy) == before
    assert read_mark(copy) is None
    # Damage of what may be another's is no reason to take it away.
    path = next(iter(sorted((copy / "wal").glob("*.wal"))))
    path.write_bytes(b"x" * 64 + path.read_bytes()[64:])
    with pytest.raises(JournalRefused, match="nothing says that it is a copy"):
        prepare(store, copy)


def test_a_directory_in_use_is_refused(store: Store, copy: Path) -> None:
    store.append_history(10)
    prepare(store, copy)
    lock = wal.Lock(copy / "lock")
    with pytest.raises(JournalRefused, match="is in use by process"):
        prepare(store, copy)
    lock.release()
    prepare(store, copy)


def test_a_copy_far_behind_fetches_the_newest_snapshot_too(
    store: Store, copy: Path, tmp_path: Path
) -> None:
    store.append_history(3)
    prepare(store, copy)
    store.append_history(140)
    prepare(store, tmp_path / "other")
    for records in (3, 3):
        snapshot(tmp_path / "other")
        store.append_history(records)
        prepare(store, tmp_path / "other")
    assert store.send_snapshots(tmp_path / "other") == [143, 146]
    prepare(store, copy)
    assert wal.find_snapshots(snapshot_directory(copy)) == [146]
    assert digest_of(copy) == state_of(149)


@pytest.mark.parametrize("left", ["mark", "snapshot", "begun", "part"])
def test_a_preparation_that_was_killed_is_finished_by_the_next(
    store: Store, copy: Path, tmp_path: Path, left: str
) -> None:
    store.append_history(60)
    prepare(store, tmp_path / "other")
    snapshot(tmp_path / "other")
    store.send_snapshots(tmp_path / "other")
    store.append_history(60)
    store.retention.remove_before(61)
    prepare(store, copy)
    whole = frames_of(copy)
    if left == "mark":
        shutil.rmtree(copy / "snapshots")
    if left in ("mark", "snapshot"):
        shutil.rmtree(copy / "wal")
    else:
        log_directory = copy / "wal"
        with wal.Reader(log_directory) as reader:
            position = reader.position
        shutil.rmtree(log_directory)
        wal.begin(log_directory, position, segment_bytes=SEGMENT_BYTES)
        if left == "part":
            log = wal.Log.open(log_directory, after=position, segment_bytes=SEGMENT_BYTES)
            for row in store.tail.rows(position)[:7]:
                assert log.write_frame(row.packed())
            log.abandon()
    prepare(store, copy)
    assert frames_of(copy) == whole
    assert digest_of(copy) == state_of(120)


def test_what_no_standby_has_confirmed_is_nothing_to_have_a_copy_of(
    store: Store, copy: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not postgresql.is_own:
        pytest.skip("it needs a server of its own")
    store.append_history(10)
    prepare(store, copy)
    store.append_history(5)
    before = contents(copy / "wal")
    with postgresql.deaf_standby(), monkeypatch.context() as patch:
        # To connect may take longer: that is told in other words.
        assert Session.__init__.__kwdefaults__ is not None
        patch.setitem(Session.__init__.__kwdefaults__, "seconds", 3)
        with pytest.raises(JournalUnavailable, match="no answer for 3 s"):
            prepare(store, copy)
    assert contents(copy / "wal") == before
    prepare(store, copy)
    assert digest_of(copy) == state_of(15)
