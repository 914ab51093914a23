"""Appending: what is durable, who may not any more, and what nobody knows."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

import wal
from tests.journal.parties import Journal, beside
from tests.postgresql import PostgreSQL
from titan.journal import appender as module
from titan.journal.appender import Appender
from titan.journal.errors import Deposed, InDoubt, JournalFull, JournalUnavailable
from titan.journal.lease import LeaseTable
from titan.journal.rows import Row, encode
from titan.journal.tail import Tail


def test_what_was_appended_is_there_in_order(journal: Journal) -> None:
    ada = journal.leader()
    first = ada.append([b"one", b"", b"three"])
    second = ada.append([bytes(200_000)])
    assert (first.first_lsn, first.last_lsn, second.first_lsn) == (1, 3, 4)
    assert journal.payloads() == [b"one", b"", b"three", bytes(200_000)]
    assert journal.tail.end() == ada.position == wal.Position(ada.position.log_id, 4, second.chain)
    ada.close()


def test_a_row_as_large_as_a_journal_makes_them_is_appended(journal: Journal) -> None:
    ada = journal.leader()
    payloads = [os.urandom(1 << 20)] * 8
    ada.append(payloads)
    assert journal.payloads() == payloads


def test_while_an_append_waits_other_threads_go_on(journal: Journal) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("LOCK TABLE titan_journal.journal")
        with beside(lambda: ada.append([b"one"])) as appended:
            journal.waits("append", "Lock")
            assert not appended.done()
            connection.commit()
            assert appended.result().last_lsn == 1


def test_a_term_goes_on_behind_the_one_before(journal: Journal) -> None:
    journal.leader().append([b"one"])
    bob = journal.leader("bob")
    assert bob.append([b"two"]).term == 2
    assert journal.payloads() == [b"one", b"two"]


def test_who_was_deposed_appends_nothing_and_never_will(journal: Journal) -> None:
    ada = journal.leader()
    ada.append([b"one"])
    journal.take("bob")
    with pytest.raises(Deposed, match="term 2 leads, of bob:50051"):
        ada.append([b"two"])
    with pytest.raises(Deposed):
        ada.append([b"two"])
    assert journal.payloads() == [b"one"]


def test_two_of_the_same_term_never_write_the_same_record(journal: Journal) -> None:
    ada = journal.leader()
    twin = journal.appender(ada.term, ada.position)
    ada.append([b"one"])
    with pytest.raises(Deposed, match="does not end with record 0"):
        twin.append([b"another"])
    assert journal.payloads() == [b"one"]


def test_two_of_the_same_term_at_once_never_write_the_same_record(journal: Journal) -> None:
    """Neither sees the other's row: it is the key that keeps one of them out."""
    ada = journal.leader()
    with journal.transaction() as connection:
        other = encode(1, [b"one", b"two"], ada.position.chain, ada.term)
        _insert(connection, other, ada.position)
        with beside(lambda: ada.append([b"another"])) as appended:
            journal.waits("append", "transactionid")
            connection.commit()
            with pytest.raises(Deposed, match="another term has appended"):
                appended.result()
    assert journal.payloads() == [b"one", b"two"]


def test_a_journal_that_lost_its_end_is_not_written_to(journal: Journal) -> None:
    ada = journal.leader()
    ada.append([b"one"])
    ada.append([b"two"])
    journal.execute("DELETE FROM titan_journal.journal WHERE first_lsn = 2")
    with pytest.raises(Deposed, match="does not end with record 2 any more"):
        ada.append([b"three"])
    assert journal.payloads() == [b"one"]


def test_a_term_that_is_to_begin_waits_for_an_append_under_way(journal: Journal) -> None:
    ada = journal.leader()
    journal.expire()
    with journal.transaction() as connection:
        row = encode(1, [b"one"], ada.position.chain, ada.term)
        _insert(connection, row, ada.position)
        with beside(lambda: journal.lease.try_take("bob", "bob:1", 60)) as taken:
            journal.waits("lease", "transactionid")
            assert not taken.done()
            connection.commit()
            assert taken.result() == 2
    assert journal.payloads() == [b"one"]
    with pytest.raises(Deposed):
        ada.append([b"two"])


@pytest.mark.parametrize("is_committed", [True, False])
def test_an_append_waits_for_a_term_that_is_about_to_begin(
    journal: Journal, *, is_committed: bool
) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("UPDATE titan_journal.lease SET term = term + 1")
        with beside(lambda: ada.append([b"one"])) as appended:
            journal.waits("append", "transactionid")
            assert not appended.done()
            if is_committed:
                connection.commit()
                with pytest.raises(Deposed):
                    appended.result()
            else:
                connection.rollback()
                assert appended.result().last_lsn == 1
    assert journal.payloads() == ([] if is_committed else [b"one"])


def test_an_append_does_not_wait_for_a_renewal_nor_a_renewal_for_it(journal: Journal) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("UPDATE titan_journal.lease SET expires = clock_timestamp()")
        ada.append([b"one"])
        connection.commit()
    with journal.transaction() as connection:
        row = encode(2, [b"two"], ada.position.chain, ada.term)
        _insert(connection, row, ada.position)
        assert journal.lease.renew(ada.term, 60, "ada:1")
        connection.commit()
    assert journal.payloads() == [b"one", b"two"]


def test_a_renewal_in_the_middle_does_not_let_a_new_term_pass_an_append(
    journal: Journal,
) -> None:
    """The row of the lease that the append holds is an older one by then."""
    ada = journal.leader()
    with journal.transaction() as connection:
        row = encode(1, [b"one"], ada.position.chain, ada.term)
        _insert(connection, row, ada.position)
        assert journal.lease.renew(ada.term, 60, "ada:1")
        journal.expire()
        with beside(lambda: journal.lease.try_take("bob", "bob:1", 60)) as taken:
            journal.waits("lease", "transactionid")
            connection.commit()
            assert taken.result() == 2
    assert journal.payloads() == [b"one"]


def test_of_many_that_take_over_and_append_at_once_the_log_is_one(journal: Journal) -> None:
    """Every row follows the one before, and what was told durable is there, once."""

    def lead(name: int) -> list[bytes]:
        told = []
        with (
            closing(LeaseTable(journal.database)) as lease,
            closing(Tail(journal.database)) as tail,
        ):
            for turn in range(12):
                # Of no length: whoever asks next takes it, in the middle of what this one does.
                term = lease.try_take(f"m{name}", "", 0)
                if term is None:
                    continue
                appender = Appender(journal.database, term, tail.end())
                with closing(appender), suppress(Deposed):
                    for number in range(4):
                        payload = b"%d.%d.%d" % (name, turn, number)
                        appender.append([payload])
                        told.append(payload)
        return told

    with ThreadPoolExecutor(3) as threads:
        told = [each for some in threads.map(lead, range(3)) for each in some]
    assert told
    found = journal.payloads()
    assert sorted(found) == sorted(told)
    terms = journal.execute("SELECT term FROM titan_journal.journal ORDER BY first_lsn")
    assert terms == sorted(terms)


def test_an_append_whose_session_is_ended_is_in_doubt(journal: Journal) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("UPDATE titan_journal.lease SET term = term + 1")
        with beside(lambda: ada.append([b"one"])) as appended:
            _signal(journal, "pg_terminate_backend", journal.waits("append", "Lock"))
            with pytest.raises(InDoubt):
                appended.result()
    with pytest.raises(InDoubt):
        ada.append([b"one"])


def test_an_append_that_is_cancelled_is_in_doubt(journal: Journal) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("UPDATE titan_journal.lease SET term = term + 1")
        with beside(lambda: ada.append([b"one"])) as appended:
            _signal(journal, "pg_cancel_backend", journal.waits("append", "Lock"))
            with pytest.raises(InDoubt):
                appended.result()


def test_an_append_that_is_cut_is_in_doubt(journal: Journal) -> None:
    ada = journal.leader()
    with journal.transaction() as connection:
        connection.execute("UPDATE titan_journal.lease SET term = term + 1")
        with beside(lambda: ada.append([b"one"])) as appended:
            journal.waits("append", "Lock")
            ada.cut()
            with pytest.raises(InDoubt):
                appended.result()


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_a_standby_that_is_broken_off_is_in_doubt(
    journal: Journal, request: pytest.FixtureRequest, how: str
) -> None:
    """The row is there and may get lost yet: the server answers INSERT 0 1, and warns."""
    ada = journal.leader()
    request.getfixturevalue("deaf_standby")
    with beside(lambda: ada.append([b"one"])) as appended:
        _signal(journal, how, journal.waits("append", "SyncRep"))
        with pytest.raises(InDoubt):
            appended.result()
    assert journal.payloads() == [b"one"]


def test_a_new_term_waits_for_what_no_standby_has_confirmed(
    journal: Journal, postgresql: PostgreSQL, request: pytest.FixtureRequest
) -> None:
    ada = journal.leader()
    journal.expire()
    request.getfixturevalue("deaf_standby")
    with beside(lambda: ada.append([b"one"])) as appended:
        try:
            journal.waits("append", "SyncRep")
            with beside(lambda: _try_until(journal.lease)) as taken:
                try:
                    journal.waits("lease", "Lock")
                finally:
                    postgresql.set("synchronous_standby_names", "")
        finally:
            postgresql.set("synchronous_standby_names", "")
        assert appended.result().last_lsn == 1
        assert taken.result() == 2


@pytest.mark.parametrize("state", ["53100", "53200", "54000", "55P03", "40P01", "40001"])
def test_what_the_server_has_no_room_for_is_tried_again(journal: Journal, state: str) -> None:
    ada = journal.leader()
    _refuse(journal, state)
    with pytest.raises(JournalFull, match="no luck"):
        ada.append([b"one"])
    with pytest.raises(JournalFull):
        ada.append([b"one"])
    journal.execute("DROP TRIGGER refusing ON titan_journal.journal")
    ada.append([b"one"])
    assert journal.payloads() == [b"one"]


@pytest.mark.parametrize("state", ["57014", "57P03", "08006", "XX000", "25006"])
def test_any_other_error_is_a_doubt(journal: Journal, state: str) -> None:
    ada = journal.leader()
    _refuse(journal, state)
    with pytest.raises(InDoubt, match="no luck"):
        ada.append([b"one"])


def test_any_warning_is_a_doubt(journal: Journal) -> None:
    ada = journal.leader()
    _do_before(journal, "RAISE WARNING 'beware'; RETURN NEW;")
    with pytest.raises(InDoubt, match="beware"):
        ada.append([b"one"])


def test_a_notice_is_none(journal: Journal) -> None:
    ada = journal.leader()
    _do_before(journal, "RAISE NOTICE 'by the way'; RETURN NEW;")
    ada.append([b"one"])


def test_a_server_that_is_killed_leaves_it_in_doubt(
    journal: Journal, postgresql: PostgreSQL
) -> None:
    if not postgresql.is_own:
        pytest.skip("it needs a server of its own")
    ada = journal.leader()
    ada.append([b"one"])
    # It would sync the files of all databases one by one when it starts: only it is killed, not
    # the machine.
    postgresql.set("fsync", "off")
    try:
        postgresql.kill()
        with pytest.raises(InDoubt):
            ada.append([b"two"])
    finally:
        postgresql.start()
        postgresql.set("fsync", "on")
    # The first to use an old connection hears that it broke; the next one has a new one.
    with pytest.raises(JournalUnavailable):
        journal.tail.end()
    assert journal.payloads() == [b"one"]


def test_appends_of_all_sizes_have_one_prepared_statement(journal: Journal) -> None:
    """LSNs and chain CRCs are of one type to the server, however many digits they have."""
    ada = journal.leader()
    for size in (1, 1000, 100_000):
        ada.append([os.urandom(3)] * size)
    found = ada._connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert found == (1,)


def _try_until(lease: LeaseTable) -> int | None:
    """A taking that waits too long gives up, and is tried again."""
    while True:
        with suppress(JournalUnavailable):
            return lease.try_take("bob", "bob:1", 60)


def _insert(connection: psycopg.Connection[Any], row: Row, before: wal.Position) -> None:
    """As an appender does it, in a transaction that is not at its end."""
    values = (row.first_lsn, row.last_lsn, row.chain, row.body, row.term, before.lsn, before.chain)
    psycopg.RawCursor(connection).execute(module._APPEND, values)


def _signal(journal: Journal, how: str, pid: int) -> None:
    journal.execute(f"SELECT {how}(%s)", pid)


def _refuse(journal: Journal, state: str) -> None:
    _do_before(journal, f"RAISE EXCEPTION 'no luck' USING ERRCODE = '{state}';")


def _do_before(journal: Journal, body: str) -> None:
    journal.execute(
        "CREATE FUNCTION titan_journal.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {body} END $$"
    )
    journal.execute(
        "CREATE TRIGGER refusing BEFORE INSERT ON titan_journal.journal"
        " FOR EACH ROW EXECUTE FUNCTION titan_journal.refuse()"
    )
