"""Two PostgreSQL servers on loopback: a primary, and a standby without which it commits nothing.

As an administrator runs them who wants no commit to be lost: the primary answers a commit once the
standby has it on its disk. When the primary is gone the standby is promoted, and what the old one
was becomes the standby of the new one. Both listen on 127.0.0.1 without passwords.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

import psycopg

from tools.chaos.processes import ChaosError, descendants, free_ports, is_alive, send

USER: Final = "titan"
DATABASE: Final = "titan"
START_SECONDS: Final = 60.0
# Nobody waits for one that is not there: it refuses at once.
CONNECT_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.02
_SETTINGS: Final = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 100
# Whoever follows it later than it has begun finds all that it needs.
wal_keep_size = 512MB
# What is lost with a connection is noticed within seconds.
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_retrieve_retry_interval = 200ms
"""


class PostgreSQLServer:
    """One of the two. `name`: how it calls itself to a primary that it follows."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.name = name
        self.port = port
        self._directory = directory
        self._data = directory / name
        self._programs = find_programs()
        self._unprivileged = unprivileged()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database, whatever it is now."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def log(self) -> str:
        """What it said."""
        return self._log_path.read_text() if self._log_path.exists() else ""

    def is_running(self) -> bool:
        """Whether its first process is there, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def initialise(self) -> None:
        """An empty one with an empty database, not started. Raises ChaosError."""
        self._run(
            *("initdb", "-D", str(self._data), f"--username={USER}", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def copy_of(self, primary: PostgreSQLServer) -> None:
        """Becomes a standby of that one, from nothing, not started. Raises ChaosError."""
        assert not self.is_running(), f"{self.name} runs"
        shutil.rmtree(self._data, ignore_errors=True)
        self._run(
            *("pg_basebackup", "-D", str(self._data), "-R", "--checkpoint=fast", "--no-sync"),
            *("-d", f"host=127.0.0.1 port={primary.port} user={USER} application_name={self.name}"),
        )
        # It would commit nothing once it is promoted: who follows it then is not there yet.
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")

    def start(self) -> None:
        """Until it takes connections. Raises ChaosError."""
        assert not self.is_running(), f"{self.name} runs"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data, "-p", str(self.port)),
                    *("-c", f"cluster_name={self.name}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **self._unprivileged,
            )
        _wait(self._takes_connections, f"{self.name} does not start, see {self._log_path}")

    def kill(self) -> None:
        """kill -9 of all its processes; none of them does anything afterwards."""
        if self._process is None:
            return
        kill_server(self._process)
        self._process = None

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends it in order, as `pg_ctl stop` does: clients are told and cut off."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ChaosError(f"{self.name} did not stop, see {self._log_path}") from None
        self._process = None

    def pause(self) -> None:
        """SIGSTOP of all its processes: it stands still and does not know."""
        assert self._process is not None
        for pid in (self._process.pid, *descendants(self._process.pid)):
            send(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            for pid in (self._process.pid, *descendants(self._process.pid)):
                send(pid, signal.SIGCONT)

    def promote(self) -> None:
        """A standby becomes a primary. Returns once it can be written to."""
        with self.connect() as connection:
            connection.execute(f"SELECT pg_promote(true, {START_SECONDS:.0f})")
        _wait(lambda: not self.is_standby(), f"{self.name} was not promoted")

    def is_standby(self) -> bool:
        """Whether it follows another one. Raises psycopg.OperationalError."""
        return bool(self.ask("SELECT pg_is_in_recovery()"))

    def ask(self, question: str, database: str = "postgres") -> Any:
        """The first column of the first row. Raises psycopg.Error."""
        with self.connect(database) as connection:
            row = connection.execute(question.encode()).fetchone()
            return row[0] if row else None

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """To this one, each statement by itself. Raises psycopg.OperationalError."""
        return psycopg.connect(
            f"postgresql://{USER}@127.0.0.1:{self.port}/{database}",
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
        )

    @property
    def _log_path(self) -> Path:
        return self._directory / f"{self.name}.log"

    def _takes_connections(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise ChaosError(f"{self.name} ended as it started:\n{self.log[-2000:]}")
        with suppress(psycopg.OperationalError):
            self.connect().close()
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._unprivileged,
        )
        if done.returncode:
            raise ChaosError(f"{program} failed: {done.stderr.strip()}")


class Pair:
    """Both, from the first start to the end. A context manager that leaves nothing."""

    def __init__(self) -> None:
        # Not below a directory that another user can't enter.
        self._directory = Path(tempfile.mkdtemp(prefix="titan-pg-", dir="/tmp"))
        user = unprivileged()
        if "user" in user:
            os.chown(self._directory, user["user"], user["group"])
        names = ("pg1", "pg2")
        ports = free_ports(len(names))
        self.servers = [
            PostgreSQLServer(name, self._directory, port)
            for name, port in zip(names, ports, strict=True)
        ]
        self.primary, self.standby = self.servers

    @property
    def url(self) -> str:
        """Of both: a client finds the one that it can write to. It stays the same for ever."""
        return url_of([each.port for each in self.servers])

    def start(self) -> None:
        """Both from nothing, with an empty database. Raises ChaosError."""
        self.primary.initialise()
        self.primary.start()
        with self.primary.connect() as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        self.rebuild_standby()

    def rebuild_standby(self) -> None:
        """Whatever the other one was, it follows the primary, which waits for it from now on."""
        self.standby.kill()
        self.standby.copy_of(self.primary)
        self.standby.start()
        # Before, everybody would wait for one who is not there yet.
        _wait(self._is_followed, f"{self.standby.name} does not follow {self.primary.name}")
        self._set_synchronous(self.standby.name)
        self.wait_synchronous()

    def fail_over(self) -> None:
        """The standby is promoted, after the primary was killed; who was it stays away.

        Until `rebuild_standby` the new one commits alone.
        """
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def is_synchronous(self) -> bool:
        """Whether the primary waits for a standby that is there."""
        with suppress(psycopg.Error):
            question = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            return bool(self.primary.ask(question))
        return False

    def wait_synchronous(self) -> None:
        """Until that. Raises ChaosError."""
        _wait(self.is_synchronous, f"{self.standby.name} does not follow {self.primary.name}")

    def keep_logs(self, directory: Path) -> None:
        """Copies there what the servers said."""
        for each in self.servers:
            (directory / f"{each.name}.log").write_text(each.log)

    def close(self) -> None:
        """Ends both, and removes what they held."""
        for each in self.servers:
            each.kill()
        shutil.rmtree(self._directory)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _is_followed(self) -> bool:
        question = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        return bool(self.primary.ask(question))

    def _set_synchronous(self, names: str) -> None:
        with self.primary.connect() as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.execute("SELECT pg_reload_conf()")


def url_of(ports: Sequence[int]) -> str:
    """Of the one behind these ports on loopback that can be written to."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{USER}@{hosts}/{DATABASE}?target_session_attrs=read-write"


def find_programs() -> Path:
    """Where initdb and postgres are. Raises ChaosError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.insert(0, Path(on_path).resolve())
    if not found:
        raise ChaosError("there is no PostgreSQL here: apt-get install postgresql")
    return found[0].parent


def unprivileged() -> dict[str, Any]:
    """As whom it runs: it refuses to run as root."""
    if os.geteuid() != 0:
        return {"cwd": "/"}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
    raise ChaosError("there is no user that PostgreSQL could run as")


def kill_server(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of a server and all its processes; returns when there is none. Raises ChaosError."""
    # What is stopped begins nothing between the look and the kill.
    process.send_signal(signal.SIGSTOP)
    children = descendants(process.pid)
    for pid in (process.pid, *children):
        send(pid, signal.SIGKILL)
    process.wait()
    # One that was writing to the disk ends when that is done, and no server starts before.
    _wait(lambda: not any(map(is_alive, children)), "a PostgreSQL server outlives a kill -9")


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ChaosError(otherwise)
        time.sleep(_POLL_SECONDS)
