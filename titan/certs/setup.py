"""A TLS directory made in one go: a CA, the manager's certificate and an admin's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from titan.certs import authority, layout
from titan.certs.authority import Authority, Issued
from titan.errors import Refused
from titan.tls.identity import Role, check_name


def set_up(
    directory: Path, *, cluster: str, admin: str, hosts: Sequence[str], days: int, now: float
) -> tuple[Authority, Issued, Issued]:
    """Makes them; returns the CA, then what the manager and the admin have got.

    Nothing is made where something is wrong or in the way. Raises Refused where there is a CA or
    a certificate, ValueError for a wrong name or host, OSError.
    """
    for name in (cluster, admin):
        check_name(name)
    for host in hosts:
        authority.host_name(host)
    authority.check_absent(directory)
    places = (directory / "manager", directory / layout.USER)
    for place in (directory, *places):
        if (place / layout.CERTIFICATE).exists():
            raise Refused(f"there is a certificate in {place} already: it stays")
    ca = authority.create(directory, cluster=cluster, now=now)
    manager = ca.issue(Role.MANAGER, "manager", days=days, now=now, hosts=hosts)
    user = ca.issue(Role.ADMIN, admin, days=days, now=now)
    for place, issued in zip(places, (manager, user), strict=True):
        layout.write_credentials(place, issued.credentials)
    return ca, manager, user
