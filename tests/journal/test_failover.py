"""The journal on a PostgreSQL that fails over to its synchronous standby: nothing is lost.

Real servers, killed and promoted; what appends, reads along and leads finds the new primary by the
one URL of both.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import psycopg
import pytest

import wal
from tests.cluster import wait_until
from tests.postgresql import a_pair, patience
from titan.journal import database
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.errors import Deposed, InDoubt, JournalUnavailable
from titan.journal.lease import LeaseTable
from titan.journal.tail import Tail
from tools.chaos.several.postgresql import Pair

T = TypeVar("T")

LEASE_SECONDS = 1.0
# So many appends are under way at least when their server goes away.
BREAKS = 6
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with patience(), a_pair() as pair:
        database.create(pair.url)
        yield pair


@pytest.fixture(autouse=True)
def _nobody_leads_and_both_are_there(pair: Pair) -> Iterator[None]:
    yield
    pair.wait_synchronous()
    with psycopg.connect(pair.primary.url, autocommit=True) as connection:
        connection.execute("UPDATE titan_journal.lease SET expires = '-infinity', holder = ''")


class Leader(threading.Thread):
    """Takes the lease, appends until anything fails, and begins anew with another term."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self.name = name
        self.acknowledged: dict[int, bytes] = {}
        self.terms: list[int] = []
        self.doubts = 0
        self._database = Database(url)
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            with suppress(JournalUnavailable):
                self._lead()

    def stop(self) -> None:
        self._is_over.set()
        self.join(30)
        assert not self.is_alive()

    def _lead(self) -> None:
        leases, tail = LeaseTable(self._database), Tail(self._database)
        try:
            term = leases.try_take(self.name, f"{self.name}:1", LEASE_SECONDS)
            if term is None:
                tail.wait(leases.read().seconds_left)
                return
            self.terms.append(term)
            appender = Appender(self._database, term, tail.end())
            try:
                self._append(appender, leases)
            finally:
                appender.close()
        finally:
            leases.close()
            tail.close()

    def _append(self, appender: Appender, leases: LeaseTable) -> None:
        renewed = time.monotonic()
        while not self._is_over.is_set():
            payload = f"{self.name} {appender.term} {appender.position.lsn}".encode()
            try:
                row = appender.append([payload])
            except (Deposed, InDoubt) as error:
                self.doubts += isinstance(error, InDoubt)
                return
            self.acknowledged[row.first_lsn] = payload
            if time.monotonic() > renewed + LEASE_SECONDS / 3:
                # Where the database is gone the next append is in doubt.
                with suppress(JournalUnavailable):
                    leases.renew(appender.term, LEASE_SECONDS, f"{self.name}:1")
                renewed = time.monotonic()


def read_all(url: str) -> dict[int, bytes]:
    tail = Tail(Database(url))
    try:
        log_id = tail.end().log_id
        position = wal.Position(log_id, 0, zlib.crc32(log_id))
        found: dict[int, bytes] = {}
        while rows := tail.rows(position):
            for row in rows:
                found |= {lsn: payload for part in row.records() for lsn, payload in part}
            position = wal.Position(position.log_id, rows[-1].last_lsn, rows[-1].chain)
        return found
    finally:
        tail.close()


def test_no_acknowledged_row_is_lost_by_failovers_and_restarts_under_two_leaders(
    pair: Pair,
) -> None:
    leaders = [Leader(pair.url, name) for name in ("a", "b")]

    def wait_more() -> None:
        goal = sum(len(each.acknowledged) for each in leaders) + 30
        wait_until(lambda: sum(len(each.acknowledged) for each in leaders) >= goal, "more")

    for each in leaders:
        each.start()
    try:
        for _ in range(2):
            wait_more()
            pair.fail_over()
            wait_more()
            pair.rebuild_standby()
            wait_more()
            pair.primary.kill()
            pair.primary.start()
            wait_more()
            pair.primary.stop()
            pair.primary.start()
        wait_more()
        # One that met a leader which had only just taken the lease was nobody's doubt.
        while sum(each.doubts for each in leaders) < BREAKS:
            pair.primary.kill()
            pair.primary.start()
            wait_more()
    finally:
        for each in leaders:
            each.stop()
    found = read_all(pair.url)
    assert [*found] == [*range(1, len(found) + 1)]
    for each in leaders:
        assert each.acknowledged.items() <= found.items()
    terms = [term for each in leaders for term in each.terms]
    assert len(terms) == len({*terms})
    assert sum(each.doubts for each in leaders) >= BREAKS
    # Of each term all records follow each other: nobody wrote after another one had begun.
    written = [int(payload.split()[1]) for payload in found.values()]
    assert written == sorted(written)


def test_a_commit_that_is_cancelled_as_it_waits_for_the_standby_is_in_doubt(pair: Pair) -> None:
    leases, tail = LeaseTable(Database(pair.url)), Tail(Database(pair.url))
    term = leases.try_take("a", "a:1", 60)
    assert term is not None
    appender = Appender(Database(pair.url), term, tail.end())
    appender.append([b"before"])
    failures: list[BaseException] = []

    def append() -> None:
        try:
            appender.append([b"in doubt"])
        except InDoubt as error:
            failures.append(error)

    pair.standby.pause()
    try:
        waiting = threading.Thread(target=append)
        waiting.start()
        wait_until(lambda: pair.primary.ask(WAITING) == 1, "the append waits for the standby")
        with pair.primary.connect() as connection:
            connection.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
        waiting.join(60)
        assert not waiting.is_alive()
    finally:
        pair.standby.go_on()
    assert len(failures) == 1
    # It is of no use any more, and so does not acknowledge what comes later either.
    with pytest.raises(InDoubt):
        appender.append([b"after"])
    # A new term finds what became of it: here it was written after all.
    pair.wait_synchronous()
    leases.release(term)
    assert leases.try_take("b", "b:1", 60) == term + 1
    assert read_all(pair.url)[tail.end().lsn] == b"in doubt"
    leases.release(term + 1)
    leases.close()
    tail.close()


def test_who_reads_along_and_who_asks_for_the_lease_find_the_new_primary(pair: Pair) -> None:
    leases, tail = LeaseTable(Database(pair.url)), Tail(Database(pair.url))
    term = leases.try_take("a", "a:1", 60)
    assert term is not None
    appender = Appender(Database(pair.url), term, tail.end())
    appender.append([b"one"])
    after = tail.end()
    pair.fail_over()

    def ask_again(question: Callable[[], T]) -> T:
        while True:
            with suppress(JournalUnavailable):
                return question()

    # The lease goes on where it was, and so does its holder, with a new connection.
    assert ask_again(leases.read)[:3] == (term, "a", "a:1")
    assert ask_again(lambda: leases.renew(term, 60, "a:1"))
    with pytest.raises(InDoubt):
        appender.append([b"two"])
    again = Appender(Database(pair.url), term, ask_again(tail.end))
    again.append([b"three"])
    (row,) = tail.rows(after)
    assert [payload for part in row.records() for _, payload in part] == [b"three"]
    pair.rebuild_standby()
    leases.release(term)
    for each in (appender, again, leases, tail):
        each.close()
