"""Who is at the other end of a call: what a server makes of the certificate that came with it.

The handshake has proven that the CA signed it and that the caller has its key. A connection may be
older than its certificate lasts, so that is looked at with each call, and the list of those that
were revoked, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from titan.errors import AccessDenied
from titan.logs import LogLine
from titan.tls.certificate import check_own, read_certificate
from titan.tls.identity import Identity, Role
from titan.tls.pem import PemFiles, Pems, TlsError
from titan.tls.revoked import FILE_NAME, RevokedSerials

_log = logging.getLogger("titan.tls")

# Of a certificate's life: once less is left the server says so, each day.
_WARN_PART: Final = 1 / 4
_DAY_SECONDS: Final = 86_400.0
_LOOK_SECONDS: Final = 5.0


class Peers:
    """Tells by certificate who calls a server, which has one itself."""

    def __init__(self, files: PemFiles, *, now: Callable[[], float] = time.time) -> None:
        """Raises TlsError if the server's own certificate is not that of its role."""
        self.files = files
        self._now = now
        own = check_own(files.pems, files.role)
        assert own.identity is not None
        self.own: Identity = own.identity
        self._end, self._start = own.end, own.start
        self._warned = 0.0
        files.check, files.complain = self._check, _complain
        self._generation = files.generation
        # Beside the certificate it counts whoever wrote it: it can only keep somebody out.
        folders = dict.fromkeys((files.folder, *files.folders))
        self._revoked = RevokedSerials([each / FILE_NAME for each in folders])
        self._warn_of_open_key()

    def look(self) -> int:
        """Reads the files again if they changed; their generation."""
        generation = self.files.look()
        if generation != self._generation:
            self._generation, self._warned = generation, 0.0
            _log.info(LogLine("the certificate was renewed", of=self.own, until=_day(self._end)))
            self._warn_of_open_key()
        self._warn()
        return generation

    def reload(self) -> None:
        """Reads the files again now, if they changed."""
        self.files.look(at_once=True)
        self.look()

    async def keep_looking(self) -> None:
        """Whether or not anybody connects."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def identify(self, auth_context: Any) -> Identity | None:
        """Whose certificate came with the call; None: it came without. Raises AccessDenied."""
        pem = auth_context.get("x509_pem_cert")
        if not pem:
            return None
        try:
            certificate = read_certificate(pem[0])
        except TlsError as error:
            raise AccessDenied(str(error)) from error
        identity = certificate.identity
        if identity is None:
            raise AccessDenied(
                "the certificate has no URI spiffe://CLUSTER/ROLE/NAME among its alternative names"
            )
        if identity.cluster != self.own.cluster:
            raise AccessDenied(
                f"the certificate of {identity} is for the cluster {identity.cluster}, this is "
                f"{self.own.cluster}"
            )
        if certificate.end < self._now():
            raise AccessDenied(f"the certificate of {identity} has expired")
        if self._revoked.is_revoked(certificate.serial):
            raise AccessDenied(f"the certificate of {identity} was revoked")
        return identity

    def _check(self, pems: Pems) -> None:
        own = check_own(pems, self.files.role)
        if own.identity != self.own:
            raise TlsError(f"the new certificate is that of {own.identity}, not of {self.own}")
        self._end, self._start = own.end, own.start

    def _warn(self) -> None:
        now = self._now()
        left = self._end - now
        if left < (self._end - self._start) * _WARN_PART and now - self._warned >= _DAY_SECONDS:
            self._warned = now
            how = "has expired" if left < 0 else "expires soon"
            _log.warning(
                LogLine(
                    f"the certificate {how}: issue it again, it is read without a restart",
                    until=_day(self._end),
                    of=self.own,
                )
            )

    def _warn_of_open_key(self) -> None:
        """Copies of files often are for everybody."""
        path = self.files.key_path
        with suppress(OSError):
            mode = path.stat().st_mode & 0o077
            if mode:
                _log.warning(LogLine("others can read the private key: chmod 600 it", file=path))


def open_peers(path: Path, role: Role) -> Peers:
    """The server's side of the files that --tls-dir names. Raises TlsError."""
    return Peers(PemFiles(path, role))


def _complain(why: str) -> None:
    _log.error("the new certificate can't be used, the one before stays: %s", why)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
