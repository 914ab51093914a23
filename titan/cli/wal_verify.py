"""`titan wal verify`: is everything in a data directory as it was written?"""

from __future__ import annotations

from pathlib import Path

import click

from titan.cli.command import FAILED, Command, say
from titan.cli.params import PLACE
from titan.cli.text import print_json, printable
from titan.cli.wal_progress import Progress


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal verify ~/.local/state/titan/manager
  titan wal verify postgresql://titan@db/titan
  titan wal verify --json DIR | jq '.checks[] | select(.ok | not)'
""",
    takes=("json",),
)
@click.argument("place", metavar="DIR|URL", type=PLACE)
@click.pass_context
def verify(ctx: click.Context, *, place: Path | str) -> int:
    """Check every byte of the log, its replay, snapshots and readers' slots.

    Reads only, and may be used while a manager runs. Exits with 1 when anything is wrong,
    and says what to do then.
    """
    # They load the log's code, every event's and the state's.
    from titan.waltools.journal_files import JournalFiles  # noqa: PLC0415
    from titan.waltools.places import find_places  # noqa: PLC0415
    from titan.waltools.verify import verify as verify_directory  # noqa: PLC0415
    from titan.waltools.verify import verify_journal  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    try:
        with Progress() as progress:
            if isinstance(place, Path):
                found = verify_directory(find_places(place), progress.show)
            else:
                with JournalFiles(place) as files:
                    found = verify_journal(files, progress.show)
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    if ctx.obj.json:
        print_json(found.as_json())
        return 0 if found.is_sound else FAILED
    for check in found.checks:
        told = check.fault or check.told
        state = "WRONG" if check.fault else "OK"
        print(printable(f"{state:<5}  {check.kind:<11}  {check.subject}: {told}"))
    if found.is_sound:
        print("Everything is as it was written.")
        return 0
    wrong = sum(bool(check.fault) for check in found.checks)
    print(printable(f"{wrong} of {len(found.checks)} checks failed: {found.advice}"))
    return FAILED
