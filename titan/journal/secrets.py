"""Sealed secrets in the database: bytes by id. What seals them is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from titan.journal.database import Database
from titan.journal.errors import JournalUnavailable
from titan.journal.schema import SCHEMA
from titan.journal.session import STATEMENT_SECONDS, Session

# A connection may have died while nobody used it; and what is in doubt may be done twice.
TRIES: Final = 2

# FOR KEY SHARE waits for a take-over that is under way, and a take-over for it; renewals do not.
_LEADS: Final = (
    f"leads AS MATERIALIZED (SELECT 1 FROM {SCHEMA}.lease WHERE term = %s FOR KEY SHARE)"
)
# A second try after a first in doubt writes again, so that its commit waits for standbys, too.
_WRITE: Final = (
    f"WITH {_LEADS} INSERT INTO {SCHEMA}.secret (id, sealed)"
    " SELECT new.id, new.sealed"
    " FROM unnest(%b::bytea[], %b::bytea[]) AS new (id, sealed), leads"
    " ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed RETURNING 1"
)
_REMOVE: Final = (
    f"WITH {_LEADS}, gone AS (DELETE FROM {SCHEMA}.secret USING leads WHERE id = ANY(%b::bytea[]))"
    " SELECT 1 FROM leads"
)


class SecretTable:
    """The sealed secrets of one journal, as one term may change them.

    A manager that was suspended while another one took over can't take from it what it needs. What
    a method raises is JournalUnavailable or JournalRefused; what it was to change may have been
    changed all the same.
    """

    def __init__(
        self, database: Database, term: int, *, seconds: float = STATEMENT_SECONDS
    ) -> None:
        """Connects at the first call. `seconds` is how long a statement may take."""
        self._session = Session(database, "secrets", seconds=seconds)
        self._term = term

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        self._session.close()

    def list(self) -> dict[bytes, int]:
        """The ids of all, and how many bytes each has."""
        return dict(self._execute(f"SELECT id, octet_length(sealed) FROM {SCHEMA}.secret"))

    def heads(self, length: int) -> dict[bytes, int]:
        """With what bytes they begin, and how many with which."""
        query = (
            f"SELECT substring(sealed FOR %s) AS head, count(*) FROM {SCHEMA}.secret"
            " GROUP BY head ORDER BY head"
        )
        return dict(self._execute(query, length))

    def write(self, sealed: Mapping[bytes, bytes]) -> bool:
        """Returns when all of them, by id, are durable; False: none is, as another term leads."""
        values = list(sealed), list(sealed.values())
        return len(self._execute(_WRITE, self._term, *values)) == len(sealed)

    def read(self, secret_id: bytes) -> bytes | None:
        """What was written under that id; None: nothing."""
        found = self._execute(f"SELECT sealed FROM {SCHEMA}.secret WHERE id = %b", secret_id)
        return bytes(found[0][0]) if found else None

    def remove(self, *secret_ids: bytes) -> bool:
        """Removes those that are there; False: another term leads, and nothing was removed."""
        return bool(self._execute(_REMOVE, self._term, [*secret_ids]))

    def _execute(self, query: str, *parameters: Any) -> Sequence[Any]:
        for _ in range(TRIES - 1):
            try:
                return self._session.execute(query, parameters)
            except JournalUnavailable:
                continue
        return self._session.execute(query, parameters)
