"""`titan wal backup` and `titan wal restore`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from titan.cli.command import FAILED, Command, say
from titan.cli.text import local_time, print_json, printable
from titan.cli.wal_progress import Progress
from titan.units import format_size


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal backup ~/.local/state/titan/manager /backup/titan
  titan wal backup --json DIR /backup/titan | jq .last_lsn
""",
    takes=("json",),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target", metavar="TO", type=click.Path(path_type=Path))
@click.pass_context
def backup(ctx: click.Context, *, directory: Path, target: Path) -> int:
    """Copy the log and what a start needs, also while a manager runs.

    Into the same place again it copies what is new. Everything is checked while it is
    copied, so that a damaged log never replaces what a backup holds. The access token and
    the output of tasks are not copied.
    """
    from titan.waltools.backup import back_up  # noqa: PLC0415 - loads the log's code
    from titan.waltools.places import find_places  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    try:
        done = back_up(find_places(directory), target, now=time.time())
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    told = done.as_json()
    if ctx.obj.json:
        print_json(told)
    else:
        print(
            printable(
                f"{target} holds records {done.first_lsn} to {done.last_lsn}: "
                f"{_files(len(done.files))}, {told['files_copied']} of them new "
                f"({format_size(told['bytes_copied'])})."
            )
        )
    return 0


@click.command(
    cls=Command,
    epilog="""\b
Example:
  titan wal restore /backup/titan ~/.local/state/titan/manager
""",
    takes=("json",),
)
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_context
def restore(ctx: click.Context, *, source: Path, directory: Path) -> int:
    """Make a manager's data directory of a backup.

    DIR must be absent or empty. All that was acknowledged since the backup is not in it; a
    new epoch keeps job ids that are given out again apart from those that were lost.
    """
    from titan import __version__  # noqa: PLC0415 - these load the log's code
    from titan.waltools.backup import restore as make_directory  # noqa: PLC0415
    from titan.waltools.start import StartOf  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    start = StartOf(time.time_ns() // 1000, secrets.randbits(63), __version__)
    try:
        with Progress() as progress:
            done = make_directory(source, directory, start=start, progress=progress.show)
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    if ctx.obj.json:
        print_json(
            {
                "directory": str(done.directory),
                "first_lsn": done.first_lsn,
                "last_lsn": done.last_lsn,
                "jobs": done.jobs,
                "live_jobs": done.live_jobs,
                "backup_time": done.time,
            }
        )
        return 0
    print(
        printable(
            f"{directory} holds records {done.first_lsn} to {done.last_lsn}, as of "
            f"{local_time(done.time)}: {done.jobs} jobs, {done.live_jobs} of them live."
        )
    )
    print(printable(f"Start it:  titan manager --data-dir {directory}"))
    return 0


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
