"""Who speaks: the identity that a certificate proves, and what it is called in one.

A certificate says it in a URI among its alternative names, as SPIFFE has it
(https://spiffe.io/docs/latest/spiffe-about/spiffe-concepts/): `spiffe://<cluster>/<role>/<name>`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

# What a certificate may call a cluster, a worker or a user: it goes into DNS names, file names
# and lines of logs as it is.
_PART: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_])?"
_URI: Final = re.compile(rf"spiffe://({_PART})/(manager|worker|user|admin)/({_PART})")
_NAME: Final = re.compile(_PART)
# What a worker's certificate has for a DNS name, with its own name before it. No manager is called
# so, and none that is can be impersonated with a worker's certificate.
WORKER_DOMAIN: Final = ".worker"


class Role(StrEnum):
    """What a certificate makes its owner."""

    MANAGER = "manager"
    WORKER = "worker"
    USER = "user"
    ADMIN = "admin"


class Identity(NamedTuple):
    """Whom a certificate or a token is for. Admins are users who may do everything."""

    cluster: str
    role: Role
    name: str

    @property
    def uri(self) -> str:
        """As certificates have it."""
        return f"spiffe://{self.cluster}/{self.role}/{self.name}"

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


def check_name(name: str) -> None:
    """Raises ValueError with a sentence for what no certificate may call anybody."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} can be no name in a certificate: up to 128 letters, digits, '_', '-' and "
            "'.', with a letter, a digit or '_' at both ends"
        )


def parse_uri(uri: str) -> Identity | None:
    """Whom a certificate with this URI is for; None: it says nothing of the kind."""
    found = _URI.fullmatch(uri)
    return Identity(found[1], Role(found[2]), found[3]) if found else None


def worker_host(name: str) -> str:
    """The DNS name by which a worker's certificate is checked, wherever the worker is."""
    return name + WORKER_DOMAIN
