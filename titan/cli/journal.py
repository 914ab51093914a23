"""`titan journal`: the log that several managers share, in PostgreSQL."""

from __future__ import annotations

import click

from titan.cli.command import FAILED, Command, Settings, say
from titan.cli.text import print_json, printable
from titan.cli.wal_progress import Progress


@click.group(
    epilog="""\b
Examples:
  titan journal init postgresql://titan@db/titan
  titan journal copy ~/.local/state/titan/manager postgresql://titan@db/titan
"""
)
def journal() -> None:
    """Make the log that several managers share, in PostgreSQL, and move clusters there and back."""


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


@click.command(
    cls=Command,
    takes=("json",),
    epilog="""\b
Examples:
  titan journal copy ~/.local/state/titan/manager postgresql://titan@db/titan
  titan journal copy postgresql://titan@db/titan ~/.local/state/titan/manager
""",
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.pass_obj
def copy(settings: Settings, *, source: str, target: str) -> int:
    """Copy a cluster's log from FROM to TO, each a manager's data directory or a database's URL.

    No manager may run on either. A manager that starts on the copy has the same state. TO must be
    absent or empty, or hold the beginning of what FROM holds, as after a copying that was stopped:
    then that is gone on with, and no manager starts there before. A password is better kept in
    ~/.pgpass than written in a URL.
    """
    from titan.units import format_size  # noqa: PLC0415
    from titan.waltools.copying import copy_log  # noqa: PLC0415 - loads the log's code
    from wal import WalError  # noqa: PLC0415

    try:
        with Progress() as progress:
            done = copy_log(source, target, progress.show)
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    for lsn in done.unusable:
        say(f"warning: the snapshot at record {lsn} in {source} is damaged and was left out")
    if settings.json:
        print_json(done._asdict())
        return 0
    print(
        printable(
            f"The copy has records {done.first_lsn} to {done.last_lsn}; new: {done.records} "
            f"records ({format_size(done.size_bytes)}), {done.snapshots} snapshots, "
            f"{done.slots} readers"
        )
    )
    return 0


journal.add_command(init)
journal.add_command(copy)
