"""User tokens: who shows one is that user, where a certificate is awkward.

A token is `<user>.<id>.<secret>`. The user may have dots in his name, the two others have none.
What verifies tokens keeps, in a file, the hash of each secret only: who reads the file, or a copy
of it in some backup, can call nobody with it. Tokens are for TLS alone, which is up to the
transport.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from titan import paths
from titan.paths import Stamp
from titan.tls.identity import check_name

FILE_NAME: Final = "tokens.json"
FORMAT: Final = 1
_MODE: Final = 0o600
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is kept of a token. Times are Unix seconds."""

    id: str
    user: str
    is_admin: bool
    sha256: str
    created: float
    expires: float

    def has_expired(self, now: float) -> bool:
        """Whether it counts no more."""
        return now >= self.expires


def draw(user: str, *, is_admin: bool, expires_at: float, now: float) -> tuple[str, Entry]:
    """A new token, and what to keep of it. Times are Unix seconds. Raises ValueError."""
    import secrets  # noqa: PLC0415 - loads OpenSSL, which clients do without

    check_name(user)
    secret = secrets.token_urlsafe(32)
    # 48 bits tell tokens apart; they keep no secret.
    token_id = secrets.token_hex(6)
    entry = Entry(
        id=token_id,
        user=user,
        is_admin=is_admin,
        sha256=_hash(secret),
        created=now,
        expires=expires_at,
    )
    return f"{user}.{token_id}.{secret}", entry


class TokenFile:
    """The tokens of a TLS directory. A file that is absent holds none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Replaced at once by a new pair, so that threads see what belongs together.
        self._seen: tuple[Stamp | str | None, dict[str, Entry]] = (None, {})

    def verify(self, text: str, now: float) -> Entry | None:
        """Whose token it is; None: of nobody, or no more. A stat, and a read if it changed.

        While the file cannot be read nobody's is right, which is logged once.
        """
        import hmac  # noqa: PLC0415 - loads OpenSSL, which clients do without

        try:
            user, token_id, secret = _parts(text)
        except ValueError:
            return None
        entry = self._current().get(token_id)
        # The id is no secret, so that finding it may take the time it takes.
        if entry is None or not hmac.compare_digest(_hash(secret), entry.sha256):
            return None
        return entry if entry.user == user and not entry.has_expired(now) else None

    def entries(self) -> list[Entry]:
        """All that are kept, the oldest first, the expired too. Raises OSError, ValueError."""
        return sorted(_read(self._path)[1].values(), key=lambda each: (each.created, each.id))

    def add(self, entry: Entry) -> None:
        """Keeps one more. Raises OSError, and ValueError where the file is broken."""
        paths.make_private_directory(self._path.parent)
        with paths.locked(self._path):
            entries = _read(self._path)[1]
            if entry.id in entries:
                raise ValueError(f"there is a token {entry.id} already")
            _write(self._path, [*entries.values(), entry])

    def remove(self, names: Collection[str]) -> list[Entry]:
        """Removes the tokens with these ids, and all of these users; says which there were.

        Raises OSError, ValueError where the file is broken, and KeyError with the first name that
        no token has; then none is removed.
        """
        if not self._path.exists():
            raise KeyError(next(iter(names)))
        with paths.locked(self._path):
            entries = _read(self._path)[1]
            known = {name for each in entries.values() for name in (each.id, each.user)}
            for name in names:
                if name not in known:
                    raise KeyError(name)
            gone = [each for each in entries.values() if each.id in names or each.user in names]
            _write(self._path, [each for each in entries.values() if each not in gone])
        return gone

    def _current(self) -> dict[str, Entry]:
        stamp, entries = self._seen
        try:
            try:
                now: Stamp | None = Stamp.of(self._path.stat())
            except FileNotFoundError:
                now = None
            if now != stamp:
                stamp, entries = self._seen = _read(self._path)
        except (OSError, ValueError) as error:
            why = str(error)
            if stamp != why:
                _LOG.error("user tokens cannot be read: %s; all are refused", why)
            entries = {}
            self._seen = why, entries
        return entries


def _parts(text: str) -> tuple[str, str, str]:
    """User, id and secret."""
    parts = text.rsplit(".", 2)
    # What is not ASCII is nothing that was ever drawn, and not all that is a str can be encoded.
    if len(parts) != 3 or not all(parts) or not text.isascii():
        raise ValueError("that is no token: one has the form USER.ID.SECRET")
    user, token_id, secret = parts
    check_name(user)
    return user, token_id, secret


def _hash(secret: str) -> str:
    """SHA-256 is enough: nobody tries out 256 random bits, however fast each try is.

    Slow hashes are for what people think up, and would cost every call of a client.
    """
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which clients do without

    return hashlib.sha256(secret.encode()).hexdigest()


def _read(path: Path) -> tuple[Stamp | None, dict[str, Entry]]:
    """Raises OSError, ValueError."""
    try:
        with path.open("rb") as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            content = file.read()
    except FileNotFoundError:
        return None, {}
    try:
        value = json.loads(content)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']} is not known to this version")
        entries = [_entry(each) for each in value["tokens"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is broken: {error!r}") from error
    return stamp, {each.id: each for each in entries}


def _entry(value: dict[str, Any]) -> Entry:
    entry = Entry(
        id=value["id"],
        user=value["user"],
        is_admin=value["is_admin"],
        sha256=value["sha256"],
        created=float(value["created"]),
        expires=float(value["expires"]),
    )
    texts = (entry.id, entry.user, entry.sha256)
    if not all(isinstance(each, str) for each in texts) or not isinstance(entry.is_admin, bool):
        raise ValueError("an entry has a value of a wrong type")
    if not math.isfinite(entry.created) or not math.isfinite(entry.expires):
        raise ValueError("an entry would never expire")
    # What is not ASCII cannot be compared in constant time.
    if not entry.sha256.isascii():
        raise ValueError("an entry has no hash")
    check_name(entry.user)
    return entry


def _write(path: Path, entries: Iterable[Entry]) -> None:
    tokens = [
        {name: getattr(each, name) for name in Entry.__dataclass_fields__} for each in entries
    ]
    paths.write_json(path, {"format": FORMAT, "tokens": tokens}, mode=_MODE)
