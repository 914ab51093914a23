"""Why two sides did not come to terms: gRPC says only that the other one is not available.

A handshake is made once more by hand, by Python's own library, which has words for it.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, TypeVar

from titan.rpc.channel import split_address
from titan.tls.pem import PemFiles, Pems, TlsError

T = TypeVar("T")

_SECONDS: Final = 2.0
_READ_BYTES: Final = 1 << 16

_TAKES_CERTIFICATES: Final = (
    "it takes only who has a certificate: name yours with --tls-dir, or have one issued "
    "(`titan certs issue`)"
)
# What OpenSSL calls the other side's refusal, and what it means.
_ALERTS: Final = (
    ("CERTIFICATE_REQUIRED", _TAKES_CERTIFICATES),
    ("CERTIFICATE_EXPIRED", "the certificate has expired: have a new one issued"),
    ("CERTIFICATE_REVOKED", "the certificate was revoked"),
    ("UNKNOWN_CA", "it does not know the CA that signed the certificate"),
    ("BAD_CERTIFICATE", "it does not accept the certificate"),
    ("UNSUPPORTED_CERTIFICATE", "the certificate is not one for this use"),
    ("HANDSHAKE_FAILURE", "it does not accept the certificate"),
)


def explain_failure(address: str, files: PemFiles | None, *, host: str = "") -> str:
    """Why no connection comes about, as a part of a sentence; empty: it does, or nobody answers.

    Without `files`: whether it is one that takes only who has a certificate. Takes up to some
    seconds.
    """
    name, port = split_address(address)
    try:
        with socket.create_connection((name, port), _SECONDS) as plain:
            if files is None:
                return _find_tls(plain)
            return _shake(plain, files.pems, host or name)
    except OSError:
        return ""


def _shake(plain: socket.socket, pems: Pems, host: str) -> str:
    try:
        context = _context(pems)
    except (ssl.SSLError, OSError) as error:
        return f"the certificate and its key can't be used: {error}"
    try:
        encrypted = _Encrypted(plain, context, host)
        encrypted.shake_hands()
        # With TLS 1.3 the other side's verdict comes after the handshake. HTTP/2 greets then; gRPC
        # closes the connection of whom it does not want, without a word.
        if not encrypted.hears_something():
            return _why_unwanted(pems)
    except ssl.SSLCertVerificationError as error:
        if "mismatch" in error.verify_message:
            return (
                f"its certificate is not for {host!r}: have one issued for that host, or call "
                "it by another name"
            )
        return f"its certificate can't be trusted: {error.verify_message}"
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
            return "it has no certificates itself: call it with `--tls-dir none`"
        said = [text for code, text in _ALERTS if code in reason.upper().replace(" ", "_")]
        return said[0] if said else f"the handshake failed: {reason}"
    except TimeoutError:
        # It holds its port and does not serve yet, as a manager that reads its log.
        return ""
    return ""


class _Encrypted:
    """The client's side of a connection.

    Not `wrap_socket`: where the other side has reset the connection by then it raises and leaves
    a socket behind that nobody can close.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str | None) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake_hands(self) -> None:
        """Raises ssl.SSLError, OSError."""
        self._do(self._tls.do_handshake)

    def hears_something(self) -> bool:
        """Whether the other side says anything before it closes. Raises ssl.SSLError, OSError."""
        try:
            return bool(self._do(lambda: self._tls.read(1)))
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return False

    def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._send()
                if data := self._plain.recv(_READ_BYTES):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._send()
                return done

    def _send(self) -> None:
        if self._outgoing.pending:
            self._plain.sendall(self._outgoing.read())


def _why_unwanted(pems: Pems) -> str:
    if not pems.chain:
        return f"{_TAKES_CERTIFICATES}; a token is for the address that `--token-listen` names"
    try:
        # An extra of the package, which clients may be without.
        from titan.tls.certificate import read_certificate  # noqa: PLC0415

        certificate = read_certificate(pems.chain)
    except TlsError:
        return "it does not accept the certificate: it may have expired, or be of another CA"
    now = time.time()
    if certificate.end < now:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(certificate.end))
        return f"the certificate has expired on {day}: have a new one issued"
    if certificate.start > now:
        return "the certificate is not valid yet: is this machine's clock right?"
    return "it does not accept the certificate: another CA has signed it than the one it trusts"


def _context(pems: Pems) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=pems.roots.decode("ascii", "replace"))
    if pems.chain:
        # It takes keys from files alone; this one is on no disk.
        with open(os.memfd_create("titan"), "wb") as file:
            file.write(pems.key + pems.chain)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _find_tls(plain: socket.socket) -> str:
    """A server without certificates greets before anybody asks it; one with waits for a hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _Encrypted(plain, context, None).shake_hands()
    except OSError:
        return ""
    return _TAKES_CERTIFICATES
