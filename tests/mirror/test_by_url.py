"""Looking into a journal by its URL: the same output as of the files that it was copied from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import wal
from tests.cli.conftest import Titan
from tests.mirror.builders import Store, snapshot
from tests.postgresql import PostgreSQL
from tests.waltools.builders import SEGMENT_BYTES, append, history, make_directory
from titan import events as ev
from titan.waltools.copying import copy_log
from titan.waltools.dump import dump_journal
from titan.waltools.journal_files import JournalFiles
from titan.waltools.selection import Selection

RECORDS = 210


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data directory with two snapshots."""
    directory = make_directory(tmp_path / "source", history(90))
    for records in (150, RECORDS):
        snapshot(directory)
        log = wal.Log.open(
            directory / "wal", lock_path=directory / "lock", segment_bytes=SEGMENT_BYTES
        )
        append(log, history(records)[log.last_lsn :])
        log.abandon()
    with wal.Reader(directory / "wal") as reader:
        reader.read(99)
        wal.write_slot(directory / "readers", "history", reader.position)
    return directory


@pytest.fixture
def store(url: str, source: Path) -> Store:
    """The same in a database."""
    copy_log(str(source), url)
    return Store(url)


@pytest.fixture(autouse=True)
def _close(store: Store) -> Iterator[None]:
    yield
    store.close()


def times() -> list[int]:
    return [ev.decode_record(each)[0] for each in history(RECORDS)]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--from", "17", "--to", "40"),
        ("--from", "209"),
        ("--from", "999"),
        ("--limit", "5"),
        ("--event", "JobSubmitted"),
        ("--job", "3"),
        ("--worker", "1"),
        ("--worker", "1", "--from", "100"),
    ],
    ids=" ".join,
)
def test_dump_tells_the_same(
    store: Store, source: Path, titan: Titan, words: tuple[str, ...]
) -> None:
    expected = titan("wal", "dump", *words, str(source))
    assert titan("wal", "dump", *words, store.url) == expected
    assert expected.code == 0


@pytest.mark.parametrize("place", [0, 1, 60, 150, RECORDS - 1])
def test_dump_of_a_span_of_time_tells_the_same(
    store: Store, source: Path, titan: Titan, place: int
) -> None:
    moment = f"{times()[place] / 1e6:.6f}"
    for words in (("--since", moment), ("--until", moment), ("--since", moment, "--until", moment)):
        expected = titan("wal", "dump", *words, str(source))
        assert titan("wal", "dump", *words, store.url) == expected
        assert expected.out


def test_dump_where_the_beginning_is_gone_tells_the_same(
    store: Store, source: Path, titan: Titan
) -> None:
    store.retention.remove_before(91)
    for words in ((), ("--worker", "1"), ("--from", "120")):
        expected = titan("wal", "dump", *words, str(source)).out
        told = titan("wal", "dump", *words, store.url)
        assert told.code == 0
        assert told.out.splitlines() == [
            line for line in expected.splitlines() if json.loads(line)["lsn"] >= 91
        ]


def test_dump_fetches_no_more_than_the_range(store: Store) -> None:
    with JournalFiles(store.url) as files:
        events = list(dump_journal(files, Selection(from_lsn=200)))
        assert [each.first_lsn for each in wal.list_segments(files.places.log)] == [199]
        assert {each["lsn"] for each in events} == set(range(200, RECORDS + 1))
    with JournalFiles(store.url) as files:
        list(dump_journal(files, Selection(since_us=times()[190])))
        assert wal.list_segments(files.places.log)[0].first_lsn > 100


def test_dump_follows_what_is_appended(store: Store) -> None:
    rounds = iter(range(RECORDS, RECORDS + 50, 10))

    def wait() -> bool:
        next(rounds)
        store.append_history(10)
        return True

    with JournalFiles(store.url) as files:
        selection = Selection(from_lsn=RECORDS, to_lsn=RECORDS + 35)
        told = [each["lsn"] for each in dump_journal(files, selection, wait=wait)]
    assert sorted({*map(int, map(str, told))}) == list(range(RECORDS, RECORDS + 36))


def test_stat_tells_the_same_numbers(store: Store, source: Path, titan: Titan) -> None:
    told = json.loads(titan("wal", "stat", "--json", store.url).out)
    expected = json.loads(titan("wal", "stat", "--json", str(source)).out)
    assert told["directory"] == str(store.database)
    for each in (told, expected):
        for name in ("used_bytes", "file_bytes"):
            each["total"].pop(name)  # The headers of more or fewer segments.
    for name in (
        *("cluster_id", "log_id", "epoch", "version", "durable_lsn", "first_lsn", "last_lsn"),
        *("total", "events", "snapshots", "damage"),
    ):
        assert told[name] == expected[name], name
    assert [(each["name"], each["lsn"], each["fault"]) for each in told["readers"]] == [
        ("history", 99, "")
    ]
    out = titan("wal", "stat", store.url)
    assert (out.code, out.err) == (0, "")
    assert f"records:    1 to {RECORDS}" in out.out


def test_verify_of_a_sound_journal_looks_at_everything(store: Store, titan: Titan) -> None:
    result = titan("wal", "verify", store.url)
    assert (result.code, result.err) == (0, "")
    name = str(store.database)
    assert f"OK     rows         {name}, rows: 70 rows, chained, without a gap" in result.out
    assert f"OK     replay       {name}/wal: from the beginning to record {RECORDS}" in result.out
    for lsn in (90, 150):
        path = f"{name}/snapshots/{wal.snapshot_name(lsn)}"
        assert f"OK     snapshot     {path}: record {lsn}, as the replay" in result.out
    assert f"OK     reader       {name}/readers/history.slot: record 99" in result.out
    assert "/tmp" not in result.out
    assert result.out.endswith("Everything is as it was written.\n")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "DELETE FROM titan_journal.journal WHERE first_lsn = 100",
            "row of record 103: expected record 100, found record 103",
        ),
        (
            "UPDATE titan_journal.journal SET body = set_byte(body, 40, 1) WHERE first_lsn = 100",
            "row of record 100: expected chain CRC",
        ),
        (
            "UPDATE titan_journal.journal SET chain = 7 WHERE first_lsn = 100",
            "row of record 100: expected chain CRC 00000007",
        ),
        (
            "UPDATE titan_journal.journal SET body = '' WHERE first_lsn = 100",
            "row of record 100: expected records 100 to 102, found 0 bytes",
        ),
        (
            "UPDATE titan_journal.journal SET term = 9 WHERE first_lsn = 100",
            "row of record 103: expected term 9 or later, found term 1",
        ),
        (
            "UPDATE titan_journal.snapshot_chunk SET chunk = set_byte(chunk, 200, 1)",
            f"{wal.snapshot_name(90)}: damaged",
        ),
        ("UPDATE titan_journal.slot SET chain = 7", "it names another history at record 99"),
        (
            "UPDATE titan_journal.lease SET term = 0",
            "its term 1 is later than that of the lease, 0",
        ),
    ],
)
def test_verify_finds_what_is_wrong(store: Store, titan: Titan, statement: str, found: str) -> None:
    assert store.execute(statement)
    result = titan("wal", "verify", store.url)
    assert result.code == 1
    assert found in "".join(line for line in result.out.splitlines() if line.startswith("WRONG"))
    assert "a copy" in result.out.splitlines()[-1]
    told = json.loads(titan("wal", "verify", "--json", store.url).out)
    assert not told["ok"]


@pytest.mark.parametrize("words", [("queue", "--all"), ("stats",), ("workers",), ("show", "1")])
@pytest.mark.parametrize("at", [None, "1", "95", "150", "210", "time"])
def test_reads_of_any_moment_tell_the_same(
    store: Store, source: Path, titan: Titan, words: tuple[str, ...], at: str | None
) -> None:
    if at == "time":
        at = f"{times()[120] / 1e6:.6f}"
    moment = () if at is None else ("--at", at)
    expected = titan("--json", *words, *moment, "--data-dir", str(source))
    told = titan("--json", *words, *moment, "--data-dir", store.url)
    assert told == expected
    assert expected.code in (0, 4)


def test_reads_of_a_moment_fetch_the_snapshot_before_it_and_the_rows_from_there(
    store: Store,
) -> None:
    with JournalFiles(store.url) as files:
        files.fetch_moment(lsn=95)
        assert wal.find_snapshots(files.places.snapshots) == [90]
        with wal.Reader(files.places.log) as reader:
            assert [record.lsn for record in reader] == list(range(91, 97))
    with JournalFiles(store.url) as files:
        files.fetch_moment(time_us=times()[160])
        assert wal.find_snapshots(files.places.snapshots) == [150]
    # Of one that cannot be used the one before is taken.
    assert store.execute(
        "UPDATE titan_journal.snapshot_chunk SET chunk = set_byte(chunk, 200, 1) FROM"
        " titan_journal.snapshot WHERE snapshot.id = snapshot_chunk.id AND lsn = 150"
    )
    with JournalFiles(store.url) as files:
        files.fetch_moment()
        assert wal.find_snapshots(files.places.snapshots) == [90]


def test_the_story_of_a_job_tells_the_same(store: Store, source: Path, titan: Titan) -> None:
    for words in (("show", "1", "--events"), ("show", "2", "--events", "--json")):
        expected = titan(*words, "--data-dir", str(source))
        assert titan(*words, "--data-dir", store.url) == expected
        assert expected.code == 0


def test_before_what_is_kept_and_after_the_end_it_says_so(
    store: Store, source: Path, titan: Titan
) -> None:
    for at in ("999", "1"):
        if at == "1":
            store.retention.remove_before(120)
        told = titan("stats", "--at", at, "--data-dir", store.url)
        assert told.code != 0
        assert "LSN" in told.err


def test_nothing_is_left_in_temporary_directories(store: Store) -> None:
    with JournalFiles(store.url) as files:
        files.fetch_all()
        root = files.places.root
        assert root.stat().st_mode & 0o077 == 0
    assert not root.exists()


@pytest.mark.parametrize("command", ["stat", "dump", "verify"])
def test_a_database_without_a_journal_is_told(
    postgresql: PostgreSQL, titan: Titan, command: str
) -> None:
    result = titan("wal", command, postgresql.make_database())
    assert (result.code, result.out) == (1, "")
    assert "there is no journal in postgresql://" in result.err
