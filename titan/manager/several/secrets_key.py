"""The key that secrets are sealed with in the journal's database: a file that all managers have.

# Titan's secrets key                 lines that begin with # say what they like
q83vEj…=                              32 random bytes in base64: what seals, and opens
3q2+7w…=                              older ones: they only open
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from titan.errors import TitanError
from titan.manager.secret_store import SecretsUnreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
HEADER_BYTES: Final = len(_FORMAT) + KEY_ID_BYTES
_FILE_BYTES_MAX: Final = 64 << 10
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
HOW_TO_MAKE: Final = "(umask 077; head -c 32 /dev/urandom | base64 > FILE)"


class KeyRefused(TitanError):
    """The file can't be used; the text says why and what to do."""


class SecretsKey:
    """Seals with the first of its keys, opens with any. May be used by several threads."""

    def __init__(self, *keys: bytes) -> None:
        """Each of KEY_BYTES, at least one. Raises KeyRefused where cryptography is missing."""
        try:
            from cryptography.hazmat.primitives.ciphers.aead import (  # noqa: PLC0415 - an extra
                AESGCM,
            )
        except ModuleNotFoundError as error:
            raise KeyRefused(
                "to seal secrets needs cryptography: pip install 'titan-scheduler[tls]'"
            ) from error
        self._key_of: dict[bytes, AESGCM] = {_id_of(each): AESGCM(each) for each in keys}
        self._current = _id_of(keys[0])

    @property
    def ids(self) -> list[bytes]:
        """What is told of them, which tells nothing of the keys; the one that seals is first."""
        return list(self._key_of)

    def seal(self, data: bytes, context: bytes) -> bytes:
        """What only opens with this key and the same context, which is no secret."""
        header, nonce = _FORMAT + self._current, os.urandom(_NONCE_BYTES)
        return header + nonce + self._key_of[self._current].encrypt(nonce, data, header + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises SecretsUnreadable."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        if header[:1] != _FORMAT or len(rest) < _NONCE_BYTES:
            raise SecretsUnreadable("it is damaged, or a later version wrote it")
        key = self._key_of.get(header[1:])
        if key is None:
            raise SecretsUnreadable(
                f"it was sealed with another key, {header[1:].hex()}; --secrets-key has "
                f"{', '.join(each.hex() for each in self.ids)}"
            )
        try:
            return key.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + context)
        except InvalidTag:
            # Nothing of it is told on.
            pass
        raise SecretsUnreadable("it is damaged, or was moved here from elsewhere")


def key_id_of(sealed: bytes) -> bytes:
    """Which key it was sealed with; its first HEADER_BYTES will do."""
    return sealed[len(_FORMAT) : HEADER_BYTES]


def read_key(path: Path) -> SecretsKey:
    """Raises KeyRefused: it is not there, is no key, or others may read it."""
    try:
        # Links are followed: what mounts secrets into containers makes some.
        with os.fdopen(os.open(path, _READ), "rb") as file:
            _check(path, os.fstat(file.fileno()))
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeyRefused(
            f"the key for secrets {path} can't be read: {error.strerror}; make one with "
            f"{HOW_TO_MAKE}, the same for all managers"
        ) from error
    keys: list[bytes] = []
    for number, line in enumerate(data.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith(b"#"):
            keys.append(_parse(path, number, text))
    if not keys or len(data) > _FILE_BYTES_MAX:
        raise KeyRefused(f"{path} holds no key for secrets; make one with {HOW_TO_MAKE}")
    return SecretsKey(*keys)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyRefused(f"the key for secrets {path} is no file")
    if status.st_uid not in (0, os.geteuid()):
        raise KeyRefused(f"the key for secrets {path} belongs to another user than the manager's")
    # A container's secrets are root's, and read by a group that only its own user is in.
    is_lent = status.st_uid == 0 and os.geteuid() != 0
    if status.st_mode & (0o037 if is_lent else 0o077):
        raise KeyRefused(f"others may read the key for secrets: chmod 600 {path}")


def _parse(path: Path, number: int, text: bytes) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyRefused(
            f"line {number} of {path} is no key for secrets, which is {KEY_BYTES} bytes in "
            f"base64; make one with {HOW_TO_MAKE}"
        )
    return key


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"titan secrets key id\0" + key).digest()[:KEY_ID_BYTES]
