"""Reading along: all rows in order, from any place, or a word about what is wrong."""

from __future__ import annotations

import os
import signal
import time

import pytest

import wal
from tests.journal.parties import Journal, beside
from tests.postgresql import PostgreSQL
from titan.journal.errors import JournalUnavailable
from titan.journal.retention import RetentionTable
from titan.journal.session import Session


def test_an_empty_journal_ends_before_record_1(journal: Journal) -> None:
    end = journal.tail.end()
    assert (end.log_id, end.lsn) == (journal.log_id, 0)
    assert journal.tail.first_lsn() == 1
    assert journal.tail.rows(end) == []


def test_rows_come_in_order_and_no_more_bytes_than_wanted(journal: Journal) -> None:
    ada = journal.leader()
    start = ada.position
    appended = [ada.append([bytes(1000)] * count) for count in (1, 1, 1, 9, 1)]
    assert journal.tail.rows(start) == appended
    # A body has four bytes more for each record. One row comes at least, however large it is.
    assert journal.tail.rows(start, 2 * 1004) == appended[:2]
    assert journal.tail.rows(start, 1) == appended[:1]
    third = wal.Position(start.log_id, 3, appended[2].chain)
    assert journal.tail.rows(third, 1) == appended[3:4]
    assert journal.tail.rows(ada.position) == []


def test_a_notification_wakes_whoever_waits(journal: Journal) -> None:
    ada = journal.leader()
    end = journal.tail.end()
    journal.tail.wait(0)  # What was told of the new term.
    with beside(lambda: journal.tail.wait(60)) as waited:
        time_asked = time.monotonic()
        ada.append([b"one"])
        waited.result()
    assert time.monotonic() - time_asked < 20
    assert len(journal.tail.rows(end)) == 1


def test_what_is_notified_before_the_wait_is_not_lost(journal: Journal) -> None:
    ada = journal.leader()
    journal.tail.wait(0)
    journal.tail.end()
    ada.append([b"one"])
    time_asked = time.monotonic()
    journal.tail.end()
    journal.tail.wait(60)
    assert time.monotonic() - time_asked < 20


def test_a_lease_that_is_free_wakes_whoever_waits(journal: Journal) -> None:
    term = journal.take()
    journal.tail.wait(0)
    with beside(lambda: journal.tail.wait(60)) as waited:
        time_asked = time.monotonic()
        journal.lease.release(term)
        waited.result()
    assert time.monotonic() - time_asked < 20


def test_rows_that_are_gone_are_told_so(journal: Journal) -> None:
    ada = journal.leader()
    start = ada.position
    rows = [ada.append([b"one", b"two"]) for _ in range(5)]
    retention = journal.closed_at_end(RetentionTable(journal.database))
    assert retention.remove_before(6) == 2
    assert journal.tail.first_lsn() == 5
    with pytest.raises(wal.RecordsGone, match="record 1 is gone, the oldest kept is 5"):
        journal.tail.rows(start)
    with pytest.raises(wal.RecordsGone):
        journal.tail.rows(wal.Position(start.log_id, 2, rows[0].chain))
    assert journal.tail.rows(wal.Position(start.log_id, 4, rows[1].chain)) == rows[2:]


def test_another_place_than_the_journal_has_is_a_mismatch(journal: Journal) -> None:
    ada = journal.leader()
    start = ada.position
    row = ada.append([b"one", b"two"])
    ada.append([b"three"])
    place = wal.Position(start.log_id, 2, row.chain)
    for other, sentence in (
        (place._replace(chain=row.chain ^ 1), "chain CRC"),
        (place._replace(lsn=1), "in its middle"),
        (place._replace(lsn=9), "an end at record 3"),
        (ada.position._replace(chain=5), "chain CRC"),
        (ada.position._replace(log_id=bytes(16)), "log id"),
        (start._replace(chain=start.chain ^ 1), "chain CRC"),
    ):
        with pytest.raises(wal.PositionMismatch, match=sentence):
            journal.tail.rows(other)
        with pytest.raises(wal.PositionMismatch, match=sentence):
            journal.tail.check_place(other)


DAMAGE = [
    ("DELETE FROM titan_journal.journal WHERE first_lsn = 2", "record 2"),
    ("UPDATE titan_journal.journal SET body = body || '\\x00' WHERE first_lsn = 2", "lengths"),
    ("UPDATE titan_journal.journal SET chain = 7 WHERE first_lsn = 2", "chain CRC"),
    ("UPDATE titan_journal.journal SET last_lsn = 3 WHERE first_lsn = 2", "row of record 2"),
    ("UPDATE titan_journal.journal SET term = 0 WHERE first_lsn = 3", "term 1 or later"),
    ("UPDATE titan_journal.journal SET term = 9 WHERE first_lsn = 2", "term 9 or later"),
]


@pytest.mark.parametrize(("change", "sentence"), DAMAGE, ids=range(len(DAMAGE)))
def test_a_row_that_was_changed_is_damage(journal: Journal, change: str, sentence: str) -> None:
    ada = journal.leader()
    start = ada.position
    for _ in range(4):
        ada.append([b"one"])
    journal.execute(change)
    with pytest.raises(wal.Damaged, match=sentence):
        journal.tail.rows(start)


def test_a_server_that_stands_still_is_not_waited_for_for_ever(
    journal: Journal, postgresql: PostgreSQL
) -> None:
    if not postgresql.is_own:
        pytest.skip("it needs a server of its own")
    session = journal.closed_at_end(Session(journal.database, "test"))
    ((pid,),) = session.execute("SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(JournalUnavailable, match=r"no answer for 0\.5 s"):
            session.execute("SELECT 1", seconds=0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert session.execute("SELECT 1") == [(1,)]
