"""`titan journal`: the log that several managers share, in PostgreSQL."""

from __future__ import annotations

import click

from titan.cli.command import Command, Settings, say
from titan.cli.text import print_json


@click.group(
    epilog="""\b
Example:
  titan journal init postgresql://titan@db/titan
"""
)
def journal() -> None:
    """Make the log that several managers share, in PostgreSQL."""


@click.command(
    cls=Command,
    takes=("json",),
    epilog="""\b
Examples:
  titan journal init postgresql://titan@db/titan
  titan journal init postgresql://titan@db1,db2/titan
  TITAN_JOURNAL=postgresql://titan:PASSWORD@db/titan titan journal init
""",
)
@click.argument("url", envvar="TITAN_JOURNAL", metavar="URL")
@click.pass_obj
def init(settings: Settings, *, url: str) -> int:
    """Make an empty journal in the database at URL [$TITAN_JOURNAL].

    It is made in a schema of its own, titan_journal, and nothing else in the database is touched.
    What of the server's settings may cost what was acknowledged is warned of.
    """
    from titan.journal.database import Database  # noqa: PLC0415 - loads the driver

    database = Database(url)
    log_id = database.create()
    warnings = database.check_settings()
    for warning in warnings:
        say(f"warning: {warning}")
    if settings.json:
        print_json({"log_id": log_id.hex(), "database": database.name, "warnings": warnings})
        return 0
    print(f"Made a journal in {database}, log {log_id.hex()}")
    return 0


journal.add_command(init)
