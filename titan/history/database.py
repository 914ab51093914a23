"""Which database: from what `--history` is given to an engine, and the tables' newest form."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import wal
from titan.errors import TitanError

FILE_NAME: Final = "history.sqlite"
VERSION_TABLE: Final = "titan_history_version"
# A lock that is held longer than that is somebody's who left a transaction open.
BUSY_SECONDS: Final = 10
CONNECT_SECONDS: Final = 5


class WriterBusy(Exception):
    """Another process writes into the same file now."""


# What PostgreSQL says while it starts, stops or is gone, and SQLite while its disk is full.
Unavailable = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    WriterBusy,
)


class HistoryRefused(TitanError):
    """The database cannot be used; the text says why."""


def url_of(given: str, data_directory: Path) -> sa.URL:
    """What was given as --history: a URL, or nothing for the file in the data directory.

    Raises HistoryRefused.
    """
    if not given:
        return sa.URL.create("sqlite", database=str(data_directory / FILE_NAME))
    try:
        url = sa.make_url(given)
    except sa.exc.ArgumentError as error:
        # Its text has the URL with the password.
        raise HistoryRefused("--history is no URL: write it as postgresql://HOST/NAME") from error
    kind = url.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise HistoryRefused("--history takes postgresql://HOST/NAME, sqlite:///FILE or none")


def open_for_writing(url: sa.URL) -> sa.Engine:
    """An engine of one connection. Nothing is connected to yet; the file of SQLite is made 0600."""
    if url.get_backend_name() != "sqlite":
        return _postgresql(url)
    assert url.database is not None
    try:
        os.close(os.open(url.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HistoryRefused(f"{url.database} cannot be written: {error.strerror}") from error
    engine = sa.create_engine(url, poolclass=sa.StaticPool, connect_args=_sqlite_arguments())

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        # SQLAlchemy begins transactions, not the driver, which would leave out CREATE TABLE.
        connection.isolation_level = None
        # Readers and the one writer do not wait for each other. FULL: the slot in the log may move
        # on once a commit is back.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def open_for_reading(url: sa.URL) -> sa.Engine:
    """An engine that changes nothing. Raises HistoryRefused where there is no file."""
    if url.get_backend_name() != "sqlite":
        return _postgresql(url, options="-c default_transaction_read_only=on")
    assert url.database is not None
    if not Path(url.database).is_file():
        raise HistoryRefused(
            f"there is no history in {url.database}: does the manager write one there, "
            "or does --history or --data-dir name another?"
        )
    read_only = f"file:{_quoted(url.database)}"
    read_only_url = url.set(database=read_only, query={"mode": "ro", "uri": "true"})
    return sa.create_engine(
        read_only_url, poolclass=sa.StaticPool, connect_args=_sqlite_arguments()
    )


@contextmanager
def writing(engine: sa.Engine, *, patience_seconds: float = 0) -> Iterator[sa.Connection]:
    """A transaction; nobody else of Titan writes into the same file of SQLite meanwhile.

    SQLite before 3.51.3 may lose commits where two write in WAL mode, though it lets one of them
    wait. Raises WriterBusy where another goes on writing, HistoryRefused.
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    lock = _locked(f"{engine.url.database}.lock", time.monotonic() + patience_seconds)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        lock.release()


def _locked(path: str, until: float) -> wal.Lock:
    while True:
        try:
            return wal.Lock(path)
        except wal.Locked as error:
            if time.monotonic() >= until:
                raise WriterBusy(f"another process writes into it: {error}") from error
        except OSError as error:
            raise HistoryRefused(f"{path} cannot be written: {error.strerror}") from error


def migrate(engine: sa.Engine, *, patience_seconds: float = 0) -> None:
    """Makes the tables, or brings older ones up to date. Raises HistoryRefused, Unavailable."""
    with writing(engine, patience_seconds=patience_seconds) as connection:
        config = Config()
        config.set_main_option("script_location", _SCRIPTS)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise HistoryRefused(
                f"a later version of Titan has made the history's tables: {error}"
            ) from error


def check_form(connection: sa.Connection) -> None:
    """Refuses tables of another version. Raises HistoryRefused."""
    found = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()
    wanted = _newest_form()
    if found is None:
        raise HistoryRefused("there is no history yet: nothing was written there so far")
    if found != wanted:
        raise HistoryRefused(
            f"the history's tables have the form {found}, this version of Titan reads {wanted}; "
            "`titan history run` brings older ones up to date"
        )


@cache
def _newest_form() -> str | None:
    return ScriptDirectory(_SCRIPTS).get_current_head()


def reason_of(error: BaseException) -> str:
    """What a driver said, in a line and without what SQLAlchemy adds of statements and rows."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())


def round_down(number: Any, dialect: str) -> sa.ColumnElement[int]:
    """A positive number without its fraction: a cast does that in SQLite alone."""
    return sa.cast(number if dialect == "sqlite" else sa.func.floor(number), sa.BigInteger)


def _postgresql(url: sa.URL, options: str = "") -> sa.Engine:
    arguments: dict[str, Any] = {"application_name": "titan history"}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = CONNECT_SECONDS
    if options:
        arguments["options"] = options
    try:
        return sa.create_engine(url, pool_size=1, max_overflow=0, connect_args=arguments)
    except ModuleNotFoundError as error:
        raise HistoryRefused(
            "PostgreSQL needs psycopg: pip install 'titan-scheduler[history]'"
        ) from error


def _sqlite_arguments() -> dict[str, Any]:
    return {"timeout": BUSY_SECONDS, "check_same_thread": False}


def _quoted(path: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only here

    return quote(str(Path(path).absolute()))


_SCRIPTS: Final = str(Path(__file__).parent / "migrations")
