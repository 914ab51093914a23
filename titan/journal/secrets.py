"""Sealed secrets in the database: bytes by id. What seals them is not known here."""

from __future__ import annotations

from collections.abc import Mapping

from titan.journal.database import Database
from titan.journal.schema import SCHEMA
from titan.journal.session import Session


class SecretTable:
    """The sealed secrets of one journal.

    What a method raises is JournalUnavailable or JournalRefused; what it was to change may have
    been changed all the same.
    """

    def __init__(self, database: Database) -> None:
        self._session = Session(database, "secrets")

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def list(self) -> dict[bytes, int]:
        """The ids of all, and how many bytes each has."""
        found = self._session.execute(f"SELECT id, octet_length(sealed) FROM {SCHEMA}.secret")
        return {bytes(each): size for each, size in found}

    def write(self, sealed: Mapping[bytes, bytes]) -> None:
        """Returns when all of them, by id, are durable; else none of them is there."""
        self._session.execute(
            f"INSERT INTO {SCHEMA}.secret (id, sealed)"
            " SELECT * FROM unnest(%s::bytea[], %s::bytea[])"
            " ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed",
            (list(sealed), list(sealed.values())),
        )

    def read(self, secret_id: bytes) -> bytes | None:
        """What was written under that id; None: nothing."""
        found = self._session.execute(
            f"SELECT sealed FROM {SCHEMA}.secret WHERE id = %s", (secret_id,)
        )
        return bytes(found[0][0]) if found else None

    def remove(self, secret_id: bytes) -> None:
        """Removes one, if it is there."""
        self._session.execute(f"DELETE FROM {SCHEMA}.secret WHERE id = %s", (secret_id,))
