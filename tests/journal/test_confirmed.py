"""What managers bring into their copies: no row that may yet be lost."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.journal.parties import Journal, beside
from titan.journal.confirmed import HOLD_SECONDS, ConfirmedTail
from titan.journal.database import Database
from titan.journal.errors import InDoubt, JournalUnavailable
from titan.journal.rows import Row


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tail(journal: Journal, clock: Clock) -> Iterator[ConfirmedTail]:
    made = ConfirmedTail(journal.database, monotonic=clock)
    yield made
    made.close()


def lsns(rows: list[Row]) -> list[int]:
    return [row.last_lsn for row in rows]


def test_the_newest_row_waits_for_the_next(journal: Journal, tail: ConfirmedTail) -> None:
    ada = journal.leader()
    start = ada.position
    ada.append([b"one"])
    assert tail.rows(start) == []
    ada.append([b"two"])
    assert lsns(tail.rows(start)) == [1]
    # However few come at a time, those that are sure come.
    assert lsns(tail.rows(start, 1)) == [1]
    ada.append([b"three"])
    assert lsns(tail.rows(start)) == [1, 2]
    assert not journal.execute(
        "SELECT FROM pg_stat_activity WHERE application_name = 'titan follow'"
        " AND query LIKE '%%emit_message%%'"
    )


def test_where_nothing_follows_a_commit_confirms_it(
    journal: Journal, tail: ConfirmedTail, clock: Clock
) -> None:
    ada = journal.leader()
    start = ada.position
    ada.append([b"one"])
    assert tail.rows(start) == []
    clock.now += 2 * HOLD_SECONDS
    assert lsns(tail.rows(start)) == [1]
    # It stays confirmed, and the next one is another matter.
    assert lsns(tail.rows(start)) == [1]
    ada.append([b"two"])
    assert lsns(tail.rows(start)) == [1]


def test_a_row_whose_wait_for_a_standby_was_broken_off_does_not_come(
    journal: Journal, tail: ConfirmedTail, clock: Clock, request: pytest.FixtureRequest
) -> None:
    """It is to be seen, and a failover to the standby would take it back."""
    ada = journal.leader()
    start = ada.position
    journal.tail.end()  # Connected, as a session that is made now waits for the standby, too.
    assert tail.rows(start) == []
    request.getfixturevalue("deaf_standby")
    with beside(lambda: ada.append([b"one"])) as appended:
        journal.execute("SELECT pg_cancel_backend(%s)", journal.waits("append", "SyncRep"))
        with pytest.raises(InDoubt):
            appended.result()
    assert lsns(journal.tail.rows(start)) == [1]
    assert tail.rows(start) == []
    clock.now += 10
    with beside(lambda: tail.rows(start)) as read:
        journal.execute("SELECT pg_cancel_backend(%s)", journal.waits("follow", "SyncRep"))
        with pytest.raises(JournalUnavailable, match="canceling wait"):
            read.result()
    assert tail.end().lsn == 1


def test_whoever_took_the_lease_has_all_that_is_there(
    journal: Journal, tail: ConfirmedTail
) -> None:
    ada = journal.leader()
    start = ada.position
    ada.append([b"one"])
    assert tail.rows(start) == []
    journal.expire()
    assert tail.lease.try_take("bob", "", 60) is not None
    tail.note_taken()
    assert lsns(tail.rows(start)) == [1]


def test_but_only_on_the_connection_that_it_was_taken_on(
    journal: Journal, tail: ConfirmedTail
) -> None:
    """Another one may be to another server, of which nobody knows what it has."""
    start = journal.tail.end()
    assert tail.lease.try_take("bob", "", 60) is not None
    tail.note_taken()
    assert tail.rows(start) == []
    journal.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'titan follow' AND datname = current_database()"
    )
    for _ in range(3):
        with pytest.raises(JournalUnavailable):
            tail.rows(start)


def test_a_user_without_any_privilege_of_the_server_can_confirm(
    journal: Journal, clock: Clock
) -> None:
    role = f"plain_{journal.log_id.hex()[:8]}"
    with psycopg.connect(journal.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA titan_journal TO {role}")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA titan_journal TO {role}")
    ada = journal.leader()
    start = ada.position
    ada.append([b"one"])
    tail = ConfirmedTail(Database(journal.url.replace("titan@", f"{role}@")), monotonic=clock)
    assert tail.rows(start) == []
    clock.now += 2 * HOLD_SECONDS
    assert lsns(tail.rows(start)) == [1]
    tail.close()
    with psycopg.connect(journal.url, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
