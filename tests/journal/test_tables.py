"""What else stands beside the rows: what may go of them, readers, managers, secrets."""

from __future__ import annotations

import pytest

import wal
from tests.journal.parties import Journal
from titan.journal import retention as retention_module
from titan.journal.members import MemberTable
from titan.journal.retention import RetentionTable
from titan.journal.secrets import SecretTable
from titan.journal.slots import SlotTable


def test_whole_rows_go_and_the_last_one_stays(journal: Journal) -> None:
    table = journal.closed_at_end(RetentionTable(journal.database))
    assert table.remove_before(100) == 0
    ada = journal.leader()
    for _ in range(4):
        ada.append([b"one", b"two", b"three"])
    assert table.remove_before(1) == 0
    # Record 5 is in the middle of a row.
    assert table.remove_before(5) == 1
    assert journal.tail.first_lsn() == 4
    assert table.remove_before(7) == 1
    assert table.remove_before(7) == 0
    assert table.remove_before(10**9) == 1
    assert (journal.tail.first_lsn(), journal.tail.end()) == (10, ada.position)
    # What is left is proved to follow what went, and is gone on with.
    assert journal.start().lsn == 9
    ada.append([b"four"])
    assert journal.payloads() == [b"one", b"two", b"three", b"four"]


def test_many_rows_go_in_parts(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    part = retention_module._REMOVE.replace("LIMIT 1000", "LIMIT 3")
    monkeypatch.setattr(retention_module, "_REMOVE", part)
    ada = journal.leader()
    for _ in range(11):
        ada.append([b"one"])
    table = journal.closed_at_end(RetentionTable(journal.database))
    assert table.remove_before(10) == 9
    assert journal.payloads() == [b"one", b"one"]


def test_a_place_that_went_with_all_rows_before_is_still_gone_on_from(journal: Journal) -> None:
    ada = journal.leader()
    first = ada.append([b"one"])
    second = ada.append([b"two"])
    journal.closed_at_end(RetentionTable(journal.database)).remove_before(2)
    place = wal.Position(journal.log_id, 1, first.chain)
    journal.tail.check_place(place)
    assert journal.tail.rows(place) == [second]


def test_slots_are_made_moved_and_removed(journal: Journal) -> None:
    table = journal.closed_at_end(SlotTable(journal.database))
    assert table.read() == []
    places = [wal.Position(journal.log_id, lsn, 2**32 - lsn) for lsn in range(3)]
    table.write("traces", places[0])
    table.write("history", places[1])
    table.write("traces", places[2])
    assert table.read() == [wal.Slot("history", places[1]), wal.Slot("traces", places[2])]
    table.remove("history")
    table.remove("history")
    assert table.read() == [wal.Slot("traces", places[2])]


def test_managers_say_how_far_they_are(journal: Journal) -> None:
    table = journal.closed_at_end(MemberTable(journal.database))
    table.seen("b:1", 3)
    table.seen("a:1", 4)
    table.seen("b:1", 5)
    journal.execute(
        "UPDATE titan_journal.manager SET seen_at = seen_at - interval '1 h' WHERE address = 'a:1'"
    )
    found = table.list()
    assert [each[:2] for each in found] == [("a:1", 4), ("b:1", 5)]
    assert found[0].seconds_ago > 3000 > found[1].seconds_ago >= 0
    table.remove("a:1")
    assert [each.address for each in table.list()] == ["b:1"]


def test_secrets_are_written_all_or_none(journal: Journal) -> None:
    table = journal.closed_at_end(SecretTable(journal.database, 0))
    assert table.write({})
    assert table.write({b"a" * 16: b"sealed", b"b" * 16: b"\0" * 5000})
    assert table.list() == {b"a" * 16: 6, b"b" * 16: 5000}
    assert table.read(b"a" * 16) == b"sealed"
    assert table.heads(1) == {b"s": 1, b"\0": 1}
    assert table.remove(b"a" * 16)
    assert table.remove(b"a" * 16)
    assert table.read(b"a" * 16) is None
    assert table.read(b"b" * 16) == b"\0" * 5000


def test_secrets_are_changed_by_the_term_that_leads_alone(journal: Journal) -> None:
    table = journal.closed_at_end(SecretTable(journal.database, 0))
    assert table.write({b"a" * 16: b"sealed"})
    journal.execute("UPDATE titan_journal.lease SET term = 1")
    assert not table.write({b"b" * 16: b"late"})
    assert not table.remove(b"a" * 16)
    assert table.list() == {b"a" * 16: 6}
