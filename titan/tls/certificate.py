"""What a certificate says: whom it is for, until when, and under which number.

Servers read it; clients do without. What this takes is an extra of the package.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Final, NamedTuple

from titan.tls.identity import Identity, Role, parse_uri
from titan.tls.pem import Pems, TlsError

# Each connection has one, and each call asks.
_KNOWN_MAX: Final = 16_384


class Certificate(NamedTuple):
    """What is read of one; times are seconds since the Unix epoch."""

    identity: Identity | None
    """None: it is nobody's that we know."""
    serial: int
    start: float
    end: float


@lru_cache(_KNOWN_MAX)
def read_certificate(pem: bytes) -> Certificate:
    """The first certificate in that text. Raises TlsError."""
    x509 = _x509()
    try:
        found = x509.load_pem_x509_certificate(pem)
        try:
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except x509.ExtensionNotFound:
            uris = []
    # Not all of what the library says of a certificate that it can't read is a ValueError.
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise TlsError(f"that is no certificate that can be read: {error}") from error
    identities = [each for each in map(parse_uri, uris) if each is not None]
    return Certificate(
        # Two would leave open who speaks.
        identities[0] if len(identities) == 1 else None,
        found.serial_number,
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
    )


def check_own(pems: Pems, role: Role) -> Certificate:
    """The certificate that a server of that role is to have, with its key. Raises TlsError."""
    certificate = read_certificate(pems.chain)
    identity = certificate.identity
    if identity is None:
        raise TlsError(
            "the certificate has no URI spiffe://CLUSTER/ROLE/NAME among its alternative names"
        )
    if identity.role is not role:
        raise TlsError(f"the certificate is that of {identity}, not of a {role}")
    # What has read the certificate is there.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(pems.key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"the private key can't be used: {error}") from error
    if key.public_key() != _x509().load_pem_x509_certificate(pems.chain).public_key():
        raise TlsError("the private key is not that of the certificate")
    return certificate


def _x509() -> ModuleType:
    """Loaded where there are certificates alone: it is an extra. Raises TlsError."""
    try:
        from cryptography import x509  # noqa: PLC0415
    except ImportError as error:
        raise TlsError(
            "certificates need cryptography: pip install 'titan-scheduler[tls]'"
        ) from error
    return x509
