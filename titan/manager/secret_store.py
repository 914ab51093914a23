"""What keeps the values of secrets while jobs need them: files, or the journal's database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgpack

from titan.errors import ManagerUnreachable

ID_BYTES: Final = 16

Values = Mapping[bytes, bytes]


class SecretsUnreadable(Exception):
    """What is there is none of ours, or can't be opened; the text says why."""


class SecretsAway(ManagerUnreachable):
    """Can't be reached now, or nobody knows whether they were written; the same again later."""


class SecretStore(Protocol):
    """All of it blocks, and may be called by several threads."""

    place: str
    """Where it is, as it is told to people."""

    def list(self) -> dict[bytes, int]:
        """The ids of all, and what each takes in bytes. Raises OSError, SecretsAway."""

    def unreadable(self) -> str:
        """A sentence of those that are there and can't be opened, "" if there are none.

        Raises OSError, SecretsAway.
        """

    def write(self, secrets: Mapping[bytes, Values]) -> None:
        """Returns when all of them, by id, are durable.

        Raises OSError, NoRoom, Refused, SecretsAway; some may be there then, and are to be removed.
        """

    def read(self, secret_id: bytes) -> dict[bytes, bytes] | None:
        """The values by name, None where there is nothing.

        Raises SecretsUnreadable, OSError, SecretsAway.
        """

    def remove(self, *secret_ids: bytes) -> None:
        """They need not be there. Raises OSError, SecretsAway."""

    def close(self) -> None:
        """Nothing is asked any more."""


def pack(values: Values) -> bytes:
    """As they are kept."""
    packed: bytes = msgpack.packb(dict(values), use_bin_type=True)
    return packed


def unpack(data: bytes) -> dict[bytes, bytes]:
    """The other way round. Raises SecretsUnreadable."""
    # Not `from error`: what msgpack has to say might show what it read.
    try:
        values = msgpack.unpackb(data, raw=False)
    except (ValueError, msgpack.UnpackException):
        values = None
    if type(values) is not dict or not all(
        type(name) is bytes and type(value) is bytes for name, value in values.items()
    ):
        raise SecretsUnreadable("it is damaged")
    return values


def size_on_disk(size_bytes: int) -> int:
    """Whole blocks, and at least one."""
    return max(1, -(-size_bytes // 4096)) * 4096
