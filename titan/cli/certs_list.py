"""`titan certs list` and `titan certs revoke`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import click

from titan.certs import check_installed
from titan.cli.command import FAILED, Command, Settings, say
from titan.cli.table import print_table
from titan.cli.text import local_time, print_json, printable
from titan.cli.tls_directory import tls_directory
from titan.tls.revoked import format_serial

if TYPE_CHECKING:
    from titan.certs.issued import Certificate


@click.command(
    "list",
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs list
  titan certs list --json | jq '.[] | select(.state == "VALID") | .name'
""",
)
@click.pass_obj
def list_(settings: Settings) -> int:
    """List the certificates that were issued, the oldest first."""
    check_installed()
    from titan.certs.issued import list_issued  # noqa: PLC0415 - loads cryptography

    found, broken = list_issued(tls_directory(settings.tls_dir))
    now = time.time()
    views = [_view(each, now) for each in found]
    if settings.json:
        print_json(views)
    else:
        rows = [
            (
                view["serial"],
                view["role"] or "-",
                view["name"] or "-",
                local_time(view["end_time"]),
                view["state"],
            )
            for view in views
        ]
        print_table(("SERIAL", "ROLE", "NAME", "UNTIL", "STATE"), rows, cut=("NAME",))
    for sentence in broken:
        say(sentence)
    return FAILED if broken else 0


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs revoke worker/w1
  titan certs revoke 62bbce1a2a578d939b7e485f73ff6e66
  titan certs revoke ada.pem
""",
)
@click.argument("certificates", metavar="NAME|SERIAL|FILE.pem...", nargs=-1, required=True)
@click.pass_obj
def revoke(settings: Settings, *, certificates: tuple[str, ...]) -> int:
    """Let certificates count no more, from now on.

    A name is `worker/w1`, or `w1` where no other role has it, and stands for all of its
    certificates that have not expired. The serials go to revoked.txt in the directory, which
    servers there read again when it has changed.
    """
    check_installed()
    from titan.certs.issued import revoke as revoke_all  # noqa: PLC0415 - loads cryptography

    now = time.time()
    try:
        revoked = revoke_all(tls_directory(settings.tls_dir), certificates, now)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if settings.json:
        print_json([{**_view(each, now), "state": "REVOKED"} for each in revoked])
        return 0
    for each in revoked:
        print(
            printable(f"Revoked {each.identity or 'a certificate'}: {format_serial(each.serial)}")
        )
    if not revoked:
        print("Nothing to revoke: what was named is revoked already, or has expired.")
    return 0


def _view(certificate: Certificate, now: float) -> dict[str, Any]:
    identity = certificate.identity
    return {
        "serial": format_serial(certificate.serial),
        "role": str(identity.role) if identity else None,
        "name": identity.name if identity else None,
        "end_time": certificate.ends if math.isfinite(certificate.ends) else None,
        "state": str(certificate.state(now)),
    }
