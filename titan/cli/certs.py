"""`titan certs`: the cluster's certificates. The commands are in `certs_*.py`."""

from __future__ import annotations

import click

from titan.cli.certs_issue import init, issue
from titan.cli.certs_list import list_, revoke


@click.group(
    epilog="""\b
Examples:
  titan certs init
  titan certs issue worker w1 --bundle w1.pem
  titan certs list
"""
)
def certs() -> None:
    """Make the certificates by which manager, workers and users know each other.

    They are plain PEM files: those of another CA work as well.
    """


for command in (init, issue, list_, revoke):
    certs.add_command(command)
