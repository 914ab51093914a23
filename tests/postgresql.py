"""A real PostgreSQL for tests: one that is named, else the system's own programs on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final, NoReturn

import psycopg
import pytest
from psycopg import sql

from tests.cluster import free_port, wait_until
from titan.journal import confirmed, database, lease
from titan.journal.session import Session
from tools.chaos.processes import ChaosError
from tools.chaos.several.postgresql import Pair, find_programs, kill_server, unprivileged

URL_VARIABLE: Final = "TITAN_TEST_POSTGRESQL"
START_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 60.0
_NAMES: Final = count()


class PostgreSQL:
    """A server of the test's own, or one that somebody else runs."""

    def __init__(self) -> None:
        self._url = os.environ.get(URL_VARIABLE, "")
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._made: list[str] = []
        if not self._url:
            self._programs = find_programs()
            self._initialise()
            self.start()

    @property
    def is_own(self) -> bool:
        """Whether it may be killed."""
        return self._directory is not None

    def make_database(self) -> str:
        """A new database, by its URL."""
        name = f"titan_{os.getpid()}_{next(_NAMES)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._made.append(name)
        return self._url.rpartition("/")[0] + f"/{name}"

    def start(self) -> None:
        """Starts it, again after a kill."""
        assert self._directory is not None
        with (self._directory / "log").open("ab") as log_file:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._directory / "data"],
                stdout=log_file,
                stderr=subprocess.STDOUT,
                **unprivileged(),
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self._url, connect_timeout=2).close()
            except psycopg.OperationalError:
                log = (self._directory / "log").read_text()
                assert self._process.poll() is None, log
                assert time.monotonic() < end, log
                # Until it takes connections, or the deadline above.
                time.sleep(0.05)
            else:
                return

    def read_log(self) -> str:
        """What it wrote, if it is the test's own."""
        assert self._directory is not None
        return (self._directory / "log").read_text()

    def set(self, name: str, value: str) -> None:
        """Changes a setting of the whole server; returns when it holds for new sessions."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
            )
            connection.execute("SELECT pg_reload_conf()")
        end = time.monotonic() + START_SECONDS
        while True:
            with psycopg.connect(self._url, autocommit=True) as connection:
                found = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            if found == (value,):
                return
            assert time.monotonic() < end, f"{name} stays {found}"
            # Until the server has read its files, or the deadline above.
            time.sleep(0.02)

    @contextmanager
    def deaf_standby(self) -> Iterator[None]:
        """No commit is confirmed meanwhile: the server waits for a standby that there is not."""
        self.set("synchronous_standby_names", "nobody")
        try:
            self._wait_until_commits_wait()
            yield
        finally:
            self.set("synchronous_standby_names", "")

    def _wait_until_commits_wait(self) -> None:
        """Another process of the server than those that tell a setting makes this one hold."""
        with (
            psycopg.connect(self._url, autocommit=True) as probe,
            psycopg.connect(self._url, autocommit=True) as other,
            ThreadPoolExecutor(1) as threads,
        ):
            pid = (probe.info.backend_pid,)
            question = "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = %s"

            def does_one_wait() -> bool:
                commit = threads.submit(
                    probe.execute, "SELECT pg_logical_emit_message(true, 'titan', '')"
                )
                wait_until(
                    lambda: commit.done() or other.execute(question, pid).fetchone() == (True,),
                    "a commit is over, or waits",
                )
                if waits := not commit.done():
                    other.execute("SELECT pg_cancel_backend(%s)", pid)
                commit.result()
                return waits

            wait_until(does_one_wait, "commits wait for the standby")

    def kill(self) -> None:
        """kill -9 of all of it. Returns when nothing of it is there, as the next one wants it."""
        assert self._process is not None
        kill_server(self._process)
        self._process = None

    def close(self) -> None:
        """Ends it, or removes what was made in another's."""
        if self._directory is None:
            with psycopg.connect(self._url, autocommit=True) as connection:
                for name in self._made:
                    connection.execute(
                        sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                    )
            return
        if self._process is not None:
            # At once: what it would still write is removed below.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self._directory)

    def _initialise(self) -> None:
        # Not in the tests' own directories, which another user can't enter.
        self._directory = Path(tempfile.mkdtemp(prefix="titan-pg-", dir="/tmp"))
        user = unprivileged()
        if "user" in user:
            os.chown(self._directory, user["user"], user["group"])
        subprocess.run(
            [
                *(self._programs / "initdb", "-D", self._directory / "data", "--username=titan"),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **user,
        )
        # As late as can be: nobody else is to take it before the server does.
        port = free_port()
        self._url = f"postgresql://titan@127.0.0.1:{port}/postgres"
        with (self._directory / "data" / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {port}\nshared_buffers = 16MB\n"
                f"unix_socket_directories = ''\nmax_connections = 100\n"
            )


@contextmanager
def patience(seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """For so long an answer of a database is waited for: a manager would give up much sooner.

    What tests do with a database is not about that, unless they say so.
    """
    assert Session.__init__.__kwdefaults__ is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(database._DEFAULTS, "connect_timeout", round(seconds))
        patch.setattr(database, "SILENCE_SECONDS", seconds)
        patch.setitem(Session.__init__.__kwdefaults__, "seconds", seconds)
        for module in (lease, confirmed):
            patch.setattr(module, "LOCK_FIRST", f"SET lock_timeout = {seconds * 800:.0f}")
        yield


def find_or_start() -> PostgreSQL:
    """Skips, loudly, where there is none; in CI there has to be one."""
    try:
        return PostgreSQL()
    except ChaosError as error:
        _skip(
            f"{error}, or name one that may be written to: {URL_VARIABLE}=postgresql://USER@HOST/postgres"
        )


@contextmanager
def a_pair() -> Iterator[Pair]:
    """A primary with a synchronous standby, both this test's own. Skips as `find_or_start` does."""
    try:
        find_programs()
    except ChaosError as error:
        _skip(str(error))
    with Pair() as pair:
        yield pair


def _skip(reason: str) -> NoReturn:
    why = f"NOT TESTED ON POSTGRESQL: {reason}"
    assert not os.environ.get("TITAN_CI"), why
    pytest.skip(why)
