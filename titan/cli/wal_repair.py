"""`titan wal repair`: what can be saved of a damaged data directory, and saving it."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from titan.cli.command import FAILED, Command, say
from titan.cli.text import print_json, printable
from titan.cli.wal_progress import Progress


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal repair ~/.local/state/titan/manager          (only shows)
  titan wal repair ~/.local/state/titan/manager --yes
""",
    takes=("json",),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do it; without this nothing is changed.")
@click.pass_context
def repair(ctx: click.Context, *, directory: Path, yes: bool) -> int:
    """Show what can be saved of a damaged log and what is lost; with --yes save it.

    The manager must not run; beside one it exits with 5. Nothing is ever removed: all that
    goes is put into DIR/repaired-TIME. Exits with 0 when nothing is left to repair, else
    with 1.
    """
    # They load the log's code, every event's and the state's.
    from titan import __version__  # noqa: PLC0415
    from titan.waltools.places import find_places  # noqa: PLC0415
    from titan.waltools.proposal import describe  # noqa: PLC0415
    from titan.waltools.repair import Repair  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    done = None
    try:
        places = find_places(directory)
        with (
            Progress() as progress,
            Repair(places, progress=progress.show, is_look=not yes) as work,
        ):
            proposal = work.propose()
            if yes and proposal.is_needed:
                done = work.carry_out(
                    proposal,
                    now_us=time.time_ns() // 1000,
                    aside_name=time.strftime("repaired-%Y%m%dT%H%M%SZ", time.gmtime()),
                    epoch=secrets.randbits(63),
                    version=__version__,
                )
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    if ctx.obj.json:
        changed = {"repaired": done is not None, "aside": str(done.aside) if done else None}
        print_json(proposal.as_json() | changed)
    else:
        for line in describe(proposal):
            print(printable(line))
    if not proposal.is_needed:
        return 0
    if done is None:
        say("nothing was changed; repeat with --yes to do it")
        return FAILED
    for warning in done.warnings:
        say(warning)
    if not ctx.obj.json:
        print(
            printable(f"Done. What went is in {done.aside}; record {done.lsn} begins a new epoch.")
        )
    return 0
