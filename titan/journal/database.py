"""The database of a journal: how it is connected to, what it is called, and if it is fit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from titan.journal.errors import JournalRefused, JournalUnavailable
from titan.journal.limit import Limit
from titan.journal.schema import FORMAT, SCHEMA, create_tables
from titan.paths import is_postgresql_url

if TYPE_CHECKING:
    import psycopg

    import wal

CONNECT_SECONDS: Final = 3
# A server that is gone without a word is noticed within these.
SILENCE_SECONDS: Final = 6
_DEFAULTS: Final = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": SILENCE_SECONDS * 1000,
    # Of several hosts, the one that can be written to.
    "target_session_attrs": "read-write",
}
# What a session of ours does not take from the server's configuration. A WARNING is how a wait for
# a standby ends that somebody cancelled: it has to be heard. A commit that is back is durable,
# whatever others in this database make do with; remote_apply waits for more, and stays. Every
# question is by key, which a plan that was made when a table was empty would not know.
_SETTINGS: Final = """
SELECT set_config(name, CASE name
    WHEN 'client_min_messages' THEN 'warning'
    WHEN 'default_transaction_isolation' THEN 'read committed'
    WHEN 'synchronous_commit' THEN 'on'
    WHEN 'plan_cache_mode' THEN 'force_generic_plan'
    WHEN 'jit' THEN 'off'
    WHEN 'enable_seqscan' THEN 'off'
    WHEN 'enable_bitmapscan' THEN 'off'
    ELSE '0' END, false)
FROM pg_catalog.pg_settings
WHERE name IN ('client_min_messages', 'default_transaction_isolation', 'plan_cache_mode', 'jit',
    'enable_seqscan', 'enable_bitmapscan', 'statement_timeout', 'lock_timeout',
    'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')
    OR (name = 'synchronous_commit' AND setting NOT IN ('on', 'remote_apply'))
"""


class Meta(NamedTuple):
    """Whose journal it is."""

    log_id: bytes
    format: int


class Database:
    """A database with a journal in it, or for one. Nothing is connected to before it is asked."""

    def __init__(self, url: str) -> None:
        """`url`: `postgresql://…` as libpq takes it, with several hosts too. Raises JournalRefused.

        What it raises, here and later, does not repeat a password.
        """
        if not is_postgresql_url(url):
            raise JournalRefused("a journal's URL is written as postgresql://HOST/NAME")
        try:
            import psycopg  # noqa: PLC0415 - an extra
            from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415
        except ImportError as error:
            # One that is there without libpq says so on its first line.
            why, *_ = str(error).splitlines() or [""]
            raise JournalRefused(
                f"a journal in PostgreSQL needs psycopg ({why}): "
                "pip install 'titan-scheduler[postgres]'"
            ) from error
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # Its text has parts of the URL. So has the cause, which would be logged.
            raise JournalRefused(
                "a journal's URL is written as postgresql://HOST/NAME: this one libpq can't read"
            ) from None
        settings: dict[str, Any] = {**_DEFAULTS, **given}
        self._conninfo = make_conninfo(**settings)
        self._password = str(given.get("password") or "")
        self.name = _name(given)
        # Of the journal that it was found to have first.
        self._log_id: bytes | None = None

    def __str__(self) -> str:
        """What it is called in sentences: its URL without user, password and settings."""
        return self.name

    def __repr__(self) -> str:
        """The same: a traceback shows it."""
        return f"Database({self.name})"

    def connect(self, purpose: str, first: str = "") -> psycopg.Connection[Any]:
        """A session that commits each statement; its application_name has the purpose.

        `first` is a statement that it begins with. Raises JournalUnavailable; JournalRefused where
        there is no journal, or a newer one.
        """
        import psycopg  # noqa: PLC0415

        connection = self._connect(purpose)
        try:
            with Limit(connection, SILENCE_SECONDS):
                self._meta(connection)
                if first:
                    connection.execute(first)
        except psycopg.Error as error:
            connection.close()
            raise self.failure(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def create(self, base: wal.Position | None = None) -> bytes:
        """Makes the tables of a new journal, and returns its log's id.

        With `base` it is for the copy of a log, of which the rows will go on behind that position.
        Raises JournalRefused where there is one, JournalUnavailable.
        """
        import psycopg  # noqa: PLC0415

        with self._connect("init") as connection:
            try:
                if base is None:
                    return create_tables(connection)
                return create_tables(
                    connection, log_id=base.log_id, base_lsn=base.lsn, base_chain=base.chain
                )
            except psycopg.Error as error:
                raise self.failure(error) from error

    def note_log(self, log_id: bytes) -> None:
        """The caller has made it that log's journal: it is not taken for somebody else's."""
        self._log_id = log_id

    def meta(self) -> Meta:
        """Whose journal it is. Raises JournalUnavailable, JournalRefused."""
        with self._connect("meta") as connection:
            return self._meta(connection)

    def check_settings(self) -> list[str]:
        """What of the server's configuration may cost what was acknowledged, a sentence each.

        Raises JournalUnavailable, JournalRefused.
        """
        with self._connect("settings") as connection:
            rows = connection.execute(
                "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY(%s)",
                (["fsync", "full_page_writes", "synchronous_standby_names", "zero_damaged_pages"],),
            ).fetchall()
        return settings_warnings(dict(rows))

    def failure(self, error: psycopg.Error) -> JournalUnavailable | JournalRefused:
        """What an error of the driver is to those who ask, without a password."""
        import psycopg  # noqa: PLC0415

        text = f"{self.name}: {self._reason(error)}"
        state = error.sqlstate or ""
        if state[:2] in ("28", "3D", "42") or isinstance(error, psycopg.NotSupportedError):
            return JournalRefused(f"the journal in {text}")
        return JournalUnavailable(f"the journal in {text}")

    def _connect(self, purpose: str) -> psycopg.Connection[Any]:
        import psycopg  # noqa: PLC0415

        try:
            connection: psycopg.Connection[Any] = psycopg.connect(
                self._conninfo, autocommit=True, application_name=f"titan {purpose}"
            )
        except psycopg.Error as error:
            raise self.failure(error) from None
        try:
            with Limit(connection, SILENCE_SECONDS):
                connection.execute(_SETTINGS)
        except psycopg.Error as error:
            connection.close()
            raise self.failure(error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _meta(self, connection: psycopg.Connection[Any]) -> Meta:
        import psycopg  # noqa: PLC0415

        try:
            row = connection.execute(f"SELECT log_id, format FROM {SCHEMA}.meta").fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            row = None
        except psycopg.Error as error:
            raise self.failure(error) from error
        if row is None:
            raise JournalRefused(
                f"there is no journal in {self.name}: `titan journal init` makes one"
            )
        log_id, found = row
        if found > FORMAT:
            raise JournalRefused(
                f"the journal in {self.name} has format {found}, a later version's: this Titan"
                f" knows {FORMAT}"
            )
        meta = Meta(bytes(log_id), found)
        if self._log_id not in (None, meta.log_id):
            raise JournalRefused(
                f"the journal in {self.name} is another one by now: what is known of the one before"
                " is true of it no more; start anew"
            )
        self._log_id = meta.log_id
        return meta

    def _reason(self, error: psycopg.Error) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self._password, "***") if self._password else text


def create(url: str) -> bytes:
    """Makes a journal in that database, and returns its log's id.

    Raises JournalRefused, JournalUnavailable.
    """
    return Database(url).create()


def settings_warnings(settings: dict[str, str]) -> list[str]:
    """What of a server's settings may cost what was acknowledged, a sentence each."""
    warnings = []
    if settings.get("fsync") == "off":
        warnings.append("fsync is off: a power loss may cost the whole database")
    if settings.get("full_page_writes") == "off":
        warnings.append("full_page_writes is off: a power loss may tear pages of the database")
    if settings.get("zero_damaged_pages") == "on":
        warnings.append("zero_damaged_pages is on: damage would be passed over in silence")
    if not settings.get("synchronous_standby_names", "").strip():
        warnings.append(
            "synchronous_standby_names is empty: the log is on one server, and a failover to an"
            " asynchronous standby may lose what was acknowledged"
        )
    return warnings


def _name(given: dict[str, Any]) -> str:
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    if len(ports) < len(hosts):
        ports += ports[-1:] * (len(hosts) - len(ports))
    places = [f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)]
    return f"postgresql://{','.join(places)}/{given.get('dbname') or ''}"
