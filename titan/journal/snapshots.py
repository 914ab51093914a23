"""Snapshots in the database: the bytes of their files, in pieces, for managers that begin anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import wal
from titan.journal.database import Database
from titan.journal.rows import PLACE
from titan.journal.schema import SCHEMA
from titan.journal.session import Session

CHUNK_BYTES: Final = 1 << 20
# One that is not whole after that long is of a writer that died.
_LEFTOVER_SECONDS: Final = 3600
# To write or read a piece.
_CHUNK_SECONDS: Final = 30.0


class SnapshotTable:
    """The snapshots of one journal. Not thread-safe.

    What a method raises besides is JournalUnavailable or JournalRefused.
    """

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "snapshots", seconds=_CHUNK_SECONDS)

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def list(self) -> list[tuple[wal.Position, int]]:
        """The whole ones and how many bytes each has, the oldest first."""
        found = self._session.execute(
            f"SELECT meta.log_id, lsn, chain, size_bytes FROM {SCHEMA}.snapshot, {SCHEMA}.meta"
            " WHERE is_whole ORDER BY lsn"
        )
        return [
            (wal.Position(bytes(log_id), lsn, chain), size) for log_id, lsn, chain, size in found
        ]

    def put(self, position: wal.Position, chunks: Iterable[bytes]) -> None:
        """Returns when it is durable and whole; until then it is not there.

        Where there is one of that record already, that one stays.
        """
        from psycopg.errors import UniqueViolation  # noqa: PLC0415 - an extra

        execute = self._session.execute
        execute(
            f"DELETE FROM {SCHEMA}.snapshot WHERE NOT is_whole"
            " AND started_at < clock_timestamp() - make_interval(secs => %s)",
            (float(_LEFTOVER_SECONDS),),
        )
        if execute(
            f"SELECT id FROM {SCHEMA}.snapshot WHERE lsn = %s AND is_whole", (position.lsn,)
        ):
            return
        ((number,),) = execute(
            f"INSERT INTO {SCHEMA}.snapshot (lsn, chain) VALUES (%s, %s) RETURNING id",
            (position.lsn, position.chain),
        )
        try:
            size_bytes = 0
            for index, chunk in enumerate(_pieces(chunks)):
                execute(
                    f"INSERT INTO {SCHEMA}.snapshot_chunk (id, number, chunk) VALUES (%s, %s, %s)",
                    (number, index, chunk),
                )
                size_bytes += len(chunk)
            with self._session.using() as connection, suppress(UniqueViolation):
                # Violated: another has written the same meanwhile.
                connection.execute(
                    f"UPDATE {SCHEMA}.snapshot SET is_whole = true, size_bytes = %s WHERE id = %s",
                    (size_bytes, number),
                )
        finally:
            execute(f"DELETE FROM {SCHEMA}.snapshot WHERE id = %s AND NOT is_whole", (number,))

    def get(self, lsn: int) -> Iterator[bytes]:
        """The bytes of that one, piece by piece. Raises KeyError (there is none), wal.Damaged.

        It may be removed while it is read: then it is damaged.
        """
        found = self._session.execute(
            f"SELECT id, size_bytes FROM {SCHEMA}.snapshot WHERE lsn = %s AND is_whole", (lsn,)
        )
        if not found:
            raise KeyError(lsn)
        ((number, size_bytes),) = found
        read_bytes = index = 0
        while chunk := self._session.execute(
            f"SELECT chunk FROM {SCHEMA}.snapshot_chunk WHERE id = %s AND number = %s",
            (number, index),
        ):
            read_bytes += len(chunk[0][0])
            index += 1
            yield bytes(chunk[0][0])
        if read_bytes != size_bytes:
            raise wal.Damaged(
                f"{PLACE}, snapshot {lsn}", read_bytes, f"{size_bytes} bytes", f"{read_bytes}"
            )

    def remove(self, lsn: int) -> None:
        """Removes that one, if it is there."""
        self._session.execute(f"DELETE FROM {SCHEMA}.snapshot WHERE lsn = %s AND is_whole", (lsn,))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES, but the last."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        while len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered[:CHUNK_BYTES])
            del gathered[:CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)
