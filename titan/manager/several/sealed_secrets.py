"""The values of secrets in the database of a journal that several managers share, each row sealed.

The database, its copies and whoever reads it have nothing of them without the key, which only the
managers have. What a row is sealed for is part of it: its id and the log's, so that none opens in
another's place. Only the term that leads writes and removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from titan.errors import NoRoom, Refused
from titan.journal.database import Database
from titan.journal.errors import JournalRefused, JournalUnavailable
from titan.journal.secrets import SecretTable
from titan.journal.session import STATEMENT_SECONDS
from titan.manager.secret_store import SecretsAway, SecretsUnreadable, Values, pack, unpack
from titan.manager.several.secrets_key import (
    HEADER_BYTES,
    HOW_TO_MAKE,
    SecretsKey,
    key_id_of,
    read_key,
)

# The server's disk, or its memory.
_FULL: Final = ("53100", "53200")
_NO_KEY: Final = (
    "this manager keeps no secrets: it shares its journal with others and was started without the "
    f"key for them; make one with {HOW_TO_MAKE} and start all managers with --secrets-key FILE"
)
_DEPOSED: Final = "another manager leads by now"

_T = TypeVar("_T")


class SealedSecrets:
    """Those of one log, for one term. One call after the other, on a connection of its own."""

    def __init__(
        self,
        database: Database,
        log_id: bytes,
        term: int,
        key: SecretsKey | None,
        *,
        seconds: float = STATEMENT_SECONDS,
    ) -> None:
        """Connects at the first call. Without a key it lists and removes only.

        `seconds` is how long a statement may take.
        """
        self.place = "the journal's database"
        self._table = SecretTable(database, term, seconds=seconds)
        self._log_id = log_id
        self._key = key

    def close(self) -> None:
        """Nothing is asked any more."""
        self._table.close()

    def list(self) -> dict[bytes, int]:
        """The ids of all, and what each takes in bytes. Raises SecretsAway."""
        return _ask(self._table.list)

    def unreadable(self) -> str:
        """How many were sealed with keys that are not there. Raises SecretsAway."""
        ids = self._key.ids if self._key else []
        heads = _ask(lambda: self._table.heads(HEADER_BYTES))
        told = [
            f"{count} with the key {key_id_of(head).hex()}"
            for head, count in heads.items()
            if key_id_of(head) not in ids
        ]
        if not told:
            return ""
        has = f"has {', '.join(each.hex() for each in ids)}" if ids else "was not given"
        return f"sealed are {', '.join(told)}; --secrets-key {has}"

    def write(self, secrets: Mapping[bytes, Values]) -> None:
        """Returns when all of them, by id, are durable. Raises NoRoom, Refused, SecretsAway."""
        key = self._key
        if key is None:
            raise Refused(_NO_KEY)
        sealed = {
            each: key.seal(pack(values), self._context(each)) for each, values in secrets.items()
        }
        try:
            is_written = self._table.write(sealed)
        except JournalUnavailable as error:
            if getattr(error.__cause__, "sqlstate", None) in _FULL:
                raise NoRoom(f"there is no room for secrets: {error}") from error
            raise SecretsAway(f"secrets were not kept: {error}") from error
        except JournalRefused as error:
            raise Refused(f"the manager can't keep secrets: {error}") from error
        if not is_written:
            raise SecretsAway(_DEPOSED)

    def read(self, secret_id: bytes) -> dict[bytes, bytes] | None:
        """The values by name, None where there is no such row.

        Raises SecretsUnreadable, SecretsAway.
        """
        sealed = _ask(lambda: self._table.read(secret_id))
        if sealed is None:
            return None
        if self._key is None:
            raise SecretsUnreadable("the manager was started without --secrets-key")
        return unpack(self._key.open(sealed, self._context(secret_id)))

    def remove(self, *secret_ids: bytes) -> None:
        """They need not be there. Raises SecretsAway."""
        if not _ask(lambda: self._table.remove(*secret_ids)):
            raise SecretsAway(_DEPOSED)

    def _context(self, secret_id: bytes) -> bytes:
        return b"titan secret\0" + self._log_id + secret_id


def open_secret_store(
    key_path: Path | None, database: Database, log_id: bytes, term: int
) -> SealedSecrets:
    """What a manager keeps secrets in that leads in this term. Raises KeyRefused."""
    return SealedSecrets(database, log_id, term, None if key_path is None else read_key(key_path))


def check_secrets_key(key_path: Path | None, database: Database, log_id: bytes) -> str:
    """A sentence of what is sealed there with keys that are not in the file, "" if nothing is.

    For a standby's start: it changes nothing. Raises KeyRefused, SecretsAway.
    """
    store = open_secret_store(key_path, database, log_id, term=0)
    try:
        return store.unreadable()
    finally:
        store.close()


def _ask(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except (JournalUnavailable, JournalRefused) as error:
        raise SecretsAway(str(error)) from error
