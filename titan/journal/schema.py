"""The tables of the journal, and who may read what stands in them: format 1.

    meta      one row: the format, the log's id, and the position behind which the first row stands
    journal   a row for each flush, in order, without gaps
    lease     one row: who leads, in which term, and until when by the database's clock
    snapshot, snapshot_chunk   files of snapshots, as they are
    slot      where readers of the log are
    secret    values of secrets, sealed
    manager   which managers there are, and how far each has read

Only `term` of the lease is in a unique index besides its key. So a statement that has the lease
FOR KEY SHARE goes on beside one that changes `expires`, and waits for, or keeps waiting, one that
changes `term`. That is what keeps the rows of two terms apart.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any, Final

from titan.journal.errors import JournalRefused

if TYPE_CHECKING:
    import psycopg

SCHEMA: Final = "titan_journal"
FORMAT: Final = 1
# What is notified when a row was appended, and when the lease changed hands or is free.
CHANNEL: Final = "titan_journal"
LOG_ID_BYTES: Final = 16

# A body is not compressed: it costs the server time at each commit, and the log's records little
# space. The lease changes every few seconds in its one page, which is to stay one.
_STATEMENTS: Final = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.meta (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    format integer NOT NULL,
    log_id bytea NOT NULL CHECK (octet_length(log_id) = {LOG_ID_BYTES}),
    base_lsn bigint NOT NULL,
    base_chain bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE {SCHEMA}.journal (
    first_lsn bigint PRIMARY KEY,
    last_lsn bigint NOT NULL,
    term bigint NOT NULL,
    chain bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body bytea NOT NULL,
    CHECK (first_lsn > 0 AND last_lsn >= first_lsn)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    toast.autovacuum_vacuum_scale_factor = 0.02
);
ALTER TABLE {SCHEMA}.journal ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE {SCHEMA}.lease (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    term bigint NOT NULL UNIQUE,
    holder text NOT NULL,
    address text NOT NULL,
    expires timestamptz NOT NULL
) WITH (
    fillfactor = 10,
    autovacuum_vacuum_threshold = 100,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0
);
CREATE TABLE {SCHEMA}.snapshot (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lsn bigint NOT NULL,
    chain bigint NOT NULL,
    size_bytes bigint NOT NULL DEFAULT 0,
    is_whole boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX snapshot_whole ON {SCHEMA}.snapshot (lsn) WHERE is_whole;
CREATE TABLE {SCHEMA}.snapshot_chunk (
    id bigint NOT NULL REFERENCES {SCHEMA}.snapshot ON DELETE CASCADE,
    number integer NOT NULL,
    chunk bytea NOT NULL,
    PRIMARY KEY (id, number)
);
ALTER TABLE {SCHEMA}.snapshot_chunk ALTER COLUMN chunk SET STORAGE EXTERNAL;
CREATE TABLE {SCHEMA}.slot (
    name text PRIMARY KEY,
    lsn bigint NOT NULL,
    chain bigint NOT NULL
);
CREATE TABLE {SCHEMA}.secret (
    id bytea PRIMARY KEY,
    sealed bytea NOT NULL
);
ALTER TABLE {SCHEMA}.secret ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE TABLE {SCHEMA}.manager (
    address text PRIMARY KEY,
    applied_lsn bigint NOT NULL,
    seen_at timestamptz NOT NULL
);
INSERT INTO {SCHEMA}.lease (term, holder, address, expires) VALUES (0, '', '', '-infinity');
"""


def create_tables(
    connection: psycopg.Connection[Any],
    *,
    log_id: bytes | None = None,
    base_lsn: int = 0,
    base_chain: int | None = None,
) -> bytes:
    """Makes the schema in one transaction, all or nothing, and returns the log's id.

    Without `log_id` it is a new log, which begins with record 1; else the copy of one, of which the
    rows will go on behind the record `base_lsn`. Raises JournalRefused where it is there already.
    """
    from psycopg import errors  # noqa: PLC0415 - an extra

    made = log_id if log_id is not None else os.urandom(LOG_ID_BYTES)
    chain = zlib.crc32(made) if base_chain is None else base_chain
    try:
        with connection.transaction():
            connection.execute(_STATEMENTS)
            connection.execute(
                f"INSERT INTO {SCHEMA}.meta (format, log_id, base_lsn, base_chain)"
                " VALUES (%s, %s, %s, %s)",
                (FORMAT, made, base_lsn, chain),
            )
    except (errors.DuplicateSchema, errors.UniqueViolation) as error:
        # Two at once: the second one has the violation of an index of the catalogue.
        raise JournalRefused(
            f"the database has a schema {SCHEMA} already: a journal is not made twice"
        ) from error
    return made
