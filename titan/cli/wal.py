"""`titan wal`: the manager's log, worked on in its files. The commands are in `wal_*.py`."""

from __future__ import annotations

import click

from titan.cli.wal_backup import backup, restore
from titan.cli.wal_dump import dump
from titan.cli.wal_repair import repair
from titan.cli.wal_stat import stat
from titan.cli.wal_verify import verify


@click.group(
    epilog="""\b
Examples:
  titan wal dump ~/.local/state/titan/manager
  titan wal verify ~/.local/state/titan/manager
  titan wal backup ~/.local/state/titan/manager /backup/titan
"""
)
def wal() -> None:
    """Look into the manager's log, check it, back it up and repair it.

    DIR is the manager's data directory or its folder wal; dump, stat and verify take the URL of a
    journal in PostgreSQL, too. All but repair may be used while the manager runs.
    """


for command in (dump, stat, verify, repair, backup, restore):
    wal.add_command(command)
