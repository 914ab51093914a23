"""Making a journal, and being told why a database is none."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.journal.parties import Journal
from tests.postgresql import PostgreSQL
from titan.journal import appender, tail
from titan.journal.database import Database, create, settings_warnings
from titan.journal.errors import JournalRefused, JournalUnavailable
from titan.journal.lease import LeaseTable
from titan.journal.schema import SCHEMA


def test_a_journal_is_made_once(journal: Journal) -> None:
    assert journal.database.meta() == (journal.log_id, 1)
    with pytest.raises(JournalRefused, match="a journal is not made twice"):
        create(journal.url)
    assert journal.database.meta().log_id == journal.log_id


def test_of_many_that_make_it_at_once_one_does(postgresql: PostgreSQL) -> None:
    url = postgresql.make_database()

    def make(_: int) -> bytes:
        try:
            return create(url)
        except JournalRefused:
            return b""

    with ThreadPoolExecutor(4) as threads:
        made = [each for each in threads.map(make, range(4)) if each]
    assert made == [Database(url).meta().log_id]


def test_a_database_without_one_says_what_makes_it(postgresql: PostgreSQL) -> None:
    database = Database(postgresql.make_database())
    with pytest.raises(JournalRefused, match="`titan journal init` makes one"):
        database.meta()
    with pytest.raises(JournalRefused, match="`titan journal init` makes one"):
        database.connect("test")


def test_one_of_a_later_version_is_refused(journal: Journal) -> None:
    journal.execute("UPDATE titan_journal.meta SET format = 2")
    with pytest.raises(JournalRefused, match="format 2, a later version's: this Titan knows 1"):
        journal.database.connect("test")


def test_one_that_takes_no_writes_is_not_there_now(journal: Journal) -> None:
    """It may be a standby that is about to take over."""
    name = journal.url.rpartition("/")[2]
    journal.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(JournalUnavailable, match="session is read-only"):
        journal.database.connect("test")


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """One where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_of_several_hosts_the_one_that_answers_is_taken(
    journal: Journal, refusing_port: int
) -> None:
    given = psycopg.conninfo.conninfo_to_dict(journal.url)
    hosts = f"127.0.0.1:{refusing_port},{given['host']}:{given['port']}"
    database = Database(
        f"postgresql://titan@{hosts}/{given['dbname']}?target_session_attrs=read-write"
    )
    assert database.meta().log_id == journal.log_id
    assert database.name == f"postgresql://{hosts}/{given['dbname']}"


def test_no_error_has_the_password(postgresql: PostgreSQL, refusing_port: int) -> None:
    place = f"127.0.0.1:{refusing_port}/titan"
    unreachable = Database(f"postgresql://ada:geheim@{place}")
    assert str(unreachable) == f"postgresql://{place}"
    assert "geheim" not in repr(unreachable)
    with pytest.raises(JournalUnavailable, match="Connection refused") as told:
        unreachable.connect("test")
    assert "geheim" not in str(told.value)
    assert place in str(told.value)
    there = psycopg.conninfo.conninfo_to_dict(postgresql.make_database())
    missing = Database(f"postgresql://titan:geheim@{there['host']}:{there['port']}/nothing")
    with pytest.raises(JournalUnavailable, match="does not exist") as told:
        missing.connect("test")
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://u:geheim@h/n", "geheim", "postgresql://u:geheim@h/%zz", "postgresql://u:geheim@["],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(JournalRefused, match="postgresql://HOST/NAME") as told:
        Database(url)
    assert "geheim" not in str(told.value)
    assert told.value.__cause__ is None


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(JournalRefused, match=r"pip install 'titan-scheduler\[postgres\]'"):
        Database("postgresql://h/n")


def test_a_driver_without_libpq_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available.\\nTried: a')")
    monkeypatch.delitem(sys.modules, "psycopg")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(JournalRefused, match=r"psycopg \(no pq wrapper available\.\): pip install"):
        Database("postgresql://h/n")


def test_the_package_is_imported_without_the_driver() -> None:
    program = """
import importlib, pkgutil, sys
sys.modules["psycopg"] = None
import titan.journal
for each in pkgutil.iter_modules(titan.journal.__path__):
    importlib.import_module(f"titan.journal.{each.name}")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_user_that_may_not_read_it_is_told_so(journal: Journal) -> None:
    name = f"guest_{journal.log_id.hex()[:8]}"
    journal.execute(f"CREATE ROLE {name} LOGIN")
    try:
        given = psycopg.conninfo.conninfo_to_dict(journal.url)
        guest = Database(f"postgresql://{name}@{given['host']}:{given['port']}/{given['dbname']}")
        with pytest.raises(JournalRefused, match="permission denied"):
            guest.connect("test")
    finally:
        journal.execute(f"DROP ROLE {name}")


def test_a_connection_made_again_is_to_the_same_journal(journal: Journal) -> None:
    """Else what is known of one would be done to another: rows removed, a lease taken."""
    leases = LeaseTable(journal.database)
    assert leases.try_take("the test", "", 60) == 1
    with psycopg.connect(journal.url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        create(journal.url)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(JournalUnavailable):
        leases.renew(1, 60, "")
    with pytest.raises(JournalRefused, match="another one by now"):
        leases.renew(1, 60, "")
    leases.close()


def test_a_session_is_ours_whatever_the_server_is_set_to(journal: Journal) -> None:
    name = journal.url.rpartition("/")[2]
    # They hold for a session until it has set its own: not so short that they matter before.
    for setting, value in (
        ("client_min_messages", "error"),
        ("statement_timeout", "'1min'"),
        ("lock_timeout", "'1min'"),
        ("idle_session_timeout", "'1min'"),
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "serializable"),
    ):
        journal.execute(f"ALTER DATABASE {name} SET {setting} = {value}")
    found = journal.execute(
        "SELECT current_setting('client_min_messages'), current_setting('statement_timeout'),"
        " current_setting('lock_timeout'), current_setting('idle_session_timeout'),"
        " current_setting('synchronous_commit'), current_setting('transaction_isolation')"
    )
    assert found == [("warning", "0", "0", "0", "on", "read committed")]
    journal.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    assert journal.execute("SHOW synchronous_commit") == [("remote_apply",)]


def test_rows_are_found_by_key_though_the_table_was_empty_when_it_was_first_asked(
    journal: Journal,
) -> None:
    ada = journal.leader()
    for kind, query, parameters in (
        (psycopg.Cursor, tail._ROWS, (0, 1000)),
        (psycopg.Cursor, tail._END, ()),
        (psycopg.Cursor, tail._PLACE, {"lsn": 1}),
        (psycopg.Cursor, tail._FIRST, ()),
        (psycopg.RawCursor, appender._APPEND, (1, 1, 1, b"one", 1, 0, 1)),
    ):
        with journal.database.connect("test") as connection:
            found = kind(connection).execute(f"EXPLAIN {query}", parameters).fetchall()
        plan = "\n".join(line for (line,) in found)
        for line in plan.splitlines():
            assert "Seq Scan" not in line or "on meta" in line or "on lease" in line, plan
        assert "Index" in plan
    ada.append([b"one"])


def test_a_server_that_may_lose_commits_is_warned_of(journal: Journal) -> None:
    (warning,) = journal.database.check_settings()
    assert "synchronous_standby_names is empty" in warning
    sound = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_standby_names": "ANY 1 (a, b)",
        "zero_damaged_pages": "off",
    }
    assert settings_warnings(sound) == []
    for name, value in (
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_standby_names", ""),
        ("zero_damaged_pages", "on"),
    ):
        (warning,) = settings_warnings({**sound, name: value})
        assert warning.startswith(name)
