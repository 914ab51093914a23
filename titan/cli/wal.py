"""`titan wal`: the manager's log, read from its files. Works while a manager writes, too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from titan.cli.command import FAILED, Command, say
from titan.cli.text import is_terminal, local_time, printable

_HEADS = ("lsn", "time", "event")


@click.group(
    epilog="""\b
Example:
  titan wal dump ~/.local/state/titan/manager
"""
)
def wal() -> None:
    """Look into the manager's log, in its data directory or DIR/wal."""


@wal.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal dump ~/.local/state/titan/manager | less
  titan wal dump --json /var/lib/titan/manager | jq 'select(.event == "JobSubmitted")'
""",
    takes=("json",),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_context
def dump(ctx: click.Context, *, directory: Path) -> int:
    """Print every event in the log: a JSON object a line; on a terminal as text.

    --json prints JSON on a terminal too.
    """
    # They load the log's code and every event's.
    from titan.events import EventError  # noqa: PLC0415
    from titan.manager.dump import dump_events  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    is_pretty = is_terminal(sys.stdout) and not ctx.obj.json
    try:
        for event in dump_events(directory):
            print(event_line(event) if is_pretty else json.dumps(event))
    except (OSError, ValueError, WalError, EventError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        say(str(error))
        return FAILED
    return 0


def event_line(event: dict[str, Any]) -> str:
    """`    12  2026-11-20 14:03:11  JobSubmitted  job_id=42 name="train"`."""
    fields = " ".join(f"{key}={json.dumps(event[key])}" for key in event if key not in _HEADS)
    head = f"{event['lsn']:>8}  {local_time(event['time'])}  {event['event']}"
    return printable(f"{head}  {fields}".rstrip())
