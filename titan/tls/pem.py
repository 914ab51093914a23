"""What `--tls-dir` names: key, certificate and CA, read from PEM files and again when they change.

A directory has one certificate of its own (`cert.pem`, `key.pem`, `ca.pem`), or a folder with these
for each role that this machine takes (`manager/`, `worker/`, `user/`). A file, a bundle, holds key,
certificate, those between it and the CA, and last the CA's. `ca.pem` alone is enough for who has a
token.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from titan.paths import Stamp
from titan.tls.identity import Role

CERTIFICATE_FILE: Final = "cert.pem"
KEY_FILE: Final = "key.pem"
CA_FILE: Final = "ca.pem"
# Files are looked at no more often than that: every call asks.
LOOK_SECONDS: Final = 1.0
# More than any chain takes.
_BYTES_MAX: Final = 1 << 20

_BLOCK: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----\s.+?-----END \1-----[^\S\n]*\n?", re.DOTALL
)
_Stamps = tuple[Stamp | None, ...]


class TlsError(ValueError):
    """The files are not there, or are not what they should be. Its text is a sentence."""


class Pems(NamedTuple):
    """In PEM: whom to trust, and who this process is; without key and chain nobody."""

    roots: bytes
    key: bytes = b""
    chain: bytes = b""


class PemFiles:
    """The files of one role in a directory, or a bundle."""

    def __init__(self, path: Path, role: Role, *, may_be_nobody: bool = False) -> None:
        """Reads them. Raises TlsError. `may_be_nobody`: the CA alone will do, for a token."""
        self.path = path
        self.role = role
        self.generation = 0
        """How often they changed since."""
        self.check: Callable[[Pems], object] = lambda _: None
        """Raises TlsError for files that are not to be used in place of those before."""
        self.complain: Callable[[str], object] = lambda _: None
        """Is told why some are not, once for each change."""
        self._may_be_nobody = may_be_nobody
        # A server is asked by gRPC's threads and by its own.
        self._looking = threading.Lock()
        self._looked = time.monotonic()
        self._unusable: _Stamps = ()
        self._told: _Stamps = ()
        self._stamps, self.pems = self._read()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.path.parent if self.path.is_file() else _folder_of(self.path, self.role)

    @property
    def key_path(self) -> Path:
        """The file that is nobody else's to read."""
        return self.path if self.path.is_file() else self.folder / KEY_FILE

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where lists for it can be believed: there, and above, where certificates are issued.

        But for a folder that everybody can write to, as /tmp: he would let himself in with a list
        of his own.
        """
        own = self.folder
        return tuple(each for each in (own, own.parent) if not _is_everybodys(each))

    def look(self, *, at_once: bool = False) -> int:
        """The generation, after a look at the files. What can't be used does not count."""
        with self._looking:
            now = time.monotonic()
            if not at_once and now - self._looked < LOOK_SECONDS:
                return self.generation
            self._looked = now
            return self._look()

    def _look(self) -> int:
        before = self._stamp()
        if before == self._stamps:
            return self.generation
        try:
            stamps, pems = self._read()
            self.check(pems)
        except TlsError as error:
            # What was read before is as good as it was. Somebody may be at it: what is still so at
            # the next look is a mistake of his.
            if before == self._unusable and before != self._told:
                self._told = before
                self.complain(str(error))
            self._unusable = before
            return self.generation
        self._stamps = stamps
        if pems != self.pems:
            self.pems = pems
            self.generation += 1
        return self.generation

    def _files(self) -> tuple[Path, ...]:
        if not self.path.is_dir():
            return (self.path,)
        folder = _folder_of(self.path, self.role)
        return (folder / CA_FILE, folder / KEY_FILE, folder / CERTIFICATE_FILE)

    def _stamp(self) -> _Stamps:
        return tuple(map(_stamp_of, self._files()))

    def _read(self) -> tuple[_Stamps, Pems]:
        for _ in range(10):
            before = self._stamp()
            pems = _read_bundle(self.path) if not self.path.is_dir() else self._read_folder()
            if self._stamp() == before:
                break
        else:
            raise TlsError(f"{self.path} changes all the time")
        if not pems.chain and not self._may_be_nobody:
            kind = "user NAME" if self.role is Role.USER else f"{self.role} NAME"
            raise TlsError(
                f"{self.path} holds no certificate of a {self.role}: make one with "
                f"`titan certs issue {kind}` and name it with --tls-dir"
            )
        return before, pems

    def _read_folder(self) -> Pems:
        folder = _folder_of(self.path, self.role)
        roots = _blocks(_read_file(folder / CA_FILE), b"CERTIFICATE")
        if not roots:
            raise TlsError(f"{folder / CA_FILE} holds no certificate")
        if not (folder / CERTIFICATE_FILE).exists():
            return Pems(b"".join(roots))
        chain = _blocks(_read_file(folder / CERTIFICATE_FILE), b"CERTIFICATE")
        key = _blocks(_read_file(folder / KEY_FILE), b"PRIVATE KEY")
        if not chain or not key:
            raise TlsError(f"{folder} does not hold one certificate and its private key")
        return Pems(b"".join(roots), key[0], b"".join(chain))


def _read_bundle(path: Path) -> Pems:
    text = _read_file(path)
    key = _blocks(text, b"PRIVATE KEY")
    certificates = _blocks(text, b"CERTIFICATE")
    if not key and certificates:
        return Pems(b"".join(certificates))
    if len(certificates) < 2:
        raise TlsError(
            f"{path} is no bundle: one private key, its certificate and the CA's are to be in it"
        )
    return Pems(b"".join(certificates[1:]), key[0], b"".join(certificates[:-1]))


def _folder_of(path: Path, role: Role) -> Path:
    own = path / ("user" if role is Role.ADMIN else role.value)
    return own if (own / CERTIFICATE_FILE).exists() else path


def _is_everybodys(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True


def _blocks(text: bytes, kind: bytes) -> list[bytes]:
    """Those of that kind, each with a line end."""
    return [
        found[0] if found[0].endswith(b"\n") else found[0] + b"\n"
        for found in _BLOCK.finditer(text)
        if found[1].endswith(kind)
    ]


def _read_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_BYTES_MAX)
    except OSError as error:
        raise TlsError(f"{path} can't be read: {error.strerror}") from error


def _stamp_of(path: Path) -> Stamp | None:
    try:
        return Stamp.of(os.stat(path))
    except OSError:
        return None
