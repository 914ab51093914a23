"""The file of the host's journal: what was written is read, what was torn is cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.builders import key
from titan.model import Reason, ReportKind, State
from titan.worker.host import journal as host_journal
from titan.worker.host.journal import Entry, Header, HostJournal, JournalError, read
from titan.worker.host.records import (
    AcknowledgedRecord,
    ClusterRecord,
    DirectRecord,
    EndRecord,
    ForgottenRecord,
    IntentRecord,
    ProcessRecord,
    Record,
)
from titan.worker.messages import Report

HEADER = Header(
    *(host_journal.FORMAT, b"I" * 16, "a-boot-id", (("/sys/fs/cgroup", 2),)),
    *(77, 88, 5),
)
RECORDS: list[Record] = [
    ClusterRecord(b"C" * 16),
    IntentRecord(key()),
    ProcessRecord(key(), 1234, 99),
    EndRecord(
        Report(
            *(2, ReportKind.ENDED, key(), State.COMPLETED, Reason.EXIT, 0, None),
            *(1_000, 2_000, 30, 40, 4096, ""),
        )
    ),
    EndRecord(Report(3, ReportKind.RECALLED, key(index=1), end_us=5)),
    ForgottenRecord(key(index=2)),
    AcknowledgedRecord(2),
    DirectRecord(key(-1), (b"a", b"\xff"), b"/\xfe"),
]
GOLDEN = Path(__file__).parent / "golden"


def write(path: Path) -> list[int]:
    """Write all records; where each frame ends, in bytes."""
    journal = HostJournal(path)
    journal.rewrite(HEADER, RECORDS[:1], 10)
    ends = []
    for number, record in enumerate(RECORDS[1:]):
        ends.append(path.stat().st_size)
        journal.append(record, 20 + number)
        journal.flush()
    journal.close()
    return [*ends, path.stat().st_size]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "host.journal"
    write(path)
    ticks = [10, *range(20, 27)]
    assert read(path) == (HEADER, list(map(Entry, ticks, RECORDS)))


def test_no_file_is_no_journal(tmp_path: Path) -> None:
    assert read(tmp_path / "host.journal") is None


def test_a_journal_cut_anywhere_gives_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "host.journal"
    ends = write(path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        if whole:
            found = read(path)
            assert found is not None
            assert [entry.record for entry in found[1]] == RECORDS[:whole]


def test_a_flipped_bit_is_never_read_as_something_else(tmp_path: Path) -> None:
    path = tmp_path / "host.journal"
    write(path)
    content = path.read_bytes()
    for offset in range(len(content)):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << (offset % 8)
        path.write_bytes(damaged)
        try:
            found = read(path)
        except JournalError:
            continue
        assert found is not None
        header, entries = found
        assert header == HEADER
        assert [entry.record for entry in entries] == RECORDS[: len(entries)]
        assert len(entries) < len(RECORDS)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host.journal"
    HostJournal(path).rewrite(HEADER._replace(format=2), [], 0)
    with pytest.raises(JournalError, match="has format 2, this version knows 1"):
        read(path)


def test_a_rewrite_replaces_all_and_drops_what_was_not_flushed(tmp_path: Path) -> None:
    path = tmp_path / "host.journal"
    journal = HostJournal(path)
    journal.rewrite(HEADER, RECORDS, 1)
    journal.append(RECORDS[0], 2)
    journal.rewrite(HEADER, RECORDS[:2], 3)
    journal.append(RECORDS[2], 4)
    journal.flush()
    journal.close()
    assert read(path) == (HEADER, list(map(Entry, [3, 3, 4], RECORDS[:3])))
    assert [entry.name for entry in tmp_path.iterdir()] == ["host.journal"]


@pytest.mark.parametrize(("name", "starts"), [("host.journal.1", 0), ("host.journal.1.starts", 5)])
def test_the_format_is_the_one_of_version_1(name: str, starts: int) -> None:
    """Each golden file was written once: what it holds must be read for ever."""
    ticks = [10, *range(20, 27)]
    header = HEADER._replace(starts=starts)
    assert read(GOLDEN / name) == (header, list(map(Entry, ticks, RECORDS)))


def test_what_is_written_today_is_the_newest_golden_file(tmp_path: Path) -> None:
    write(tmp_path / "host.journal")
    newest = GOLDEN / "host.journal.1.starts"
    assert (tmp_path / "host.journal").read_bytes() == newest.read_bytes()
