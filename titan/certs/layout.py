"""A TLS directory: what lies where, and in which order it is replaced.

    DIR/ca.pem                              the CA's certificates, for everybody
    DIR/ca-key.pem                          the CA's key, only where certificates are made
    DIR/manager/{ca.pem,cert.pem,key.pem}   the manager's own
    DIR/user/{ca.pem,cert.pem,key.pem}      of the user who works here
    DIR/workers/NAME/…, DIR/users/NAME/…    those that were issued for others, if no other place
                                            was named
    DIR/issued/<serial>.pem                 copies of the certificates that were issued
    DIR/revoked.txt                         serials of those that count no more
    DIR/tokens.json                         user tokens, hashed

A **bundle** is one file with all that one identity needs: key, certificate, CA certificates.

Keys are readable by their user alone from their first byte on. Files are replaced one by one,
each at once: first the CA's, then the key, then the certificate. A server that reads in between
has a key that does not match; it keeps what it had and reads again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from titan import paths
from titan.tls.identity import Identity, Role

CA: Final = "ca.pem"
CA_KEY: Final = "ca-key.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
ISSUED: Final = "issued"
USER: Final = "user"
KEY_MODE: Final = 0o600


class Credentials(NamedTuple):
    """All that one identity needs to prove itself and to know the others, in PEM."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes


def default_directory(directory: Path, identity: Identity) -> Path:
    """Where an identity's files go if nobody says where."""
    if identity.role is Role.MANAGER:
        return directory / "manager"
    if identity.role is Role.WORKER:
        return directory / "workers" / identity.name
    return directory / "users" / identity.name


def write_credentials(directory: Path, credentials: Credentials) -> None:
    """Writes them, or replaces those of before. Raises OSError."""
    paths.make_private_directory(directory)
    paths.write_file(directory / CA, credentials.ca_pem)
    paths.write_file(directory / KEY, credentials.key_pem, mode=KEY_MODE)
    paths.write_file(directory / CERTIFICATE, credentials.certificate_pem)


def write_bundle(path: Path, credentials: Credentials) -> None:
    """Writes one file, or replaces that of before. Raises OSError."""
    ca_pem, certificate_pem, key_pem = credentials
    paths.write_file(path, key_pem + certificate_pem + ca_pem, mode=KEY_MODE)
