"""`titan wal stat`: the manager's log in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from titan.cli.command import FAILED, Command, say
from titan.cli.params import PLACE
from titan.cli.table import print_table
from titan.cli.text import local_time, print_json, printable
from titan.cli.wal_progress import Progress
from titan.units import format_size

_SEGMENTS: Final = [
    "SEGMENT", "RECORDS", "EVENTS", "FRAMES", "USED", "FILE", "FIRST", "LAST", "STATE",
]  # fmt: skip


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  titan wal stat ~/.local/state/titan/manager
  titan wal stat postgresql://titan@db/titan
  titan wal stat --json DIR | jq '.events[:3]'
""",
    takes=("json",),
)
@click.argument("place", metavar="DIR|URL", type=PLACE)
@click.pass_context
def stat(ctx: click.Context, *, place: Path | str) -> int:
    """Show segments, events by kind, snapshots and readers in numbers.

    Reads only, and may be used while a manager runs. Of a damaged log it shows what it
    can and exits with 1.
    """
    # They load the log's code, every event's and the state's.
    from titan.waltools.journal_files import JournalFiles  # noqa: PLC0415
    from titan.waltools.places import find_places  # noqa: PLC0415
    from titan.waltools.stat import stat as stat_directory  # noqa: PLC0415
    from titan.waltools.stat import stat_journal  # noqa: PLC0415
    from wal import WalError  # noqa: PLC0415

    try:
        with Progress() as progress:
            if isinstance(place, Path):
                found = stat_directory(find_places(place), progress.show)
            else:
                with JournalFiles(place) as files:
                    found = stat_journal(files, progress.show)
    except (OSError, WalError) as error:
        say(str(error))
        return FAILED
    if ctx.obj.json:
        print_json(found)
    else:
        _print(found)
    return FAILED if found["damage"] else 0


def _print(found: dict[str, Any]) -> None:
    total = found["total"]
    average = total["record_bytes_average"]
    for name, value in (
        ("cluster", found["cluster_id"]),
        ("log", found["log_id"]),
        ("epoch", found["epoch"]),
        ("written by", f"Titan {found['version']}" if found["version"] else None),
        ("records", f"{found['first_lsn']} to {found['last_lsn']}, durable {found['durable_lsn']}"),
        ("record", f"{average:.0f} bytes on average" if average else None),
    ):
        print(printable(f"{name + ':':<12}{'-' if value is None else value}"))
    print()
    sums = [total[name] for name in ("records", "events", "frames")]
    sizes = [format_size(total[name]) for name in ("used_bytes", "file_bytes")]
    print_table(
        _SEGMENTS,
        [*map(_segment_row, found["segments"]), ["all", *map(str, sums), *sizes, "", "", ""]],
        right=_SEGMENTS[1:6],
    )
    print()
    print_table(
        ["EVENT", "COUNT", "BYTES"],
        [[each["event"], str(each["count"]), str(each["bytes"])] for each in found["events"]],
        right=["COUNT", "BYTES"],
    )
    _print_beside(found)


def _segment_row(segment: dict[str, Any]) -> list[str]:
    state = segment["state"]
    if segment["fault"]:
        state += " " + segment["fault"].partition(": ")[2]
    elif segment["torn_bytes"]:
        state += f", {segment['torn_bytes']} torn bytes"
    return [
        segment["file"].removesuffix(".wal").lstrip("0"),
        *(str(segment[name]) for name in ("records", "events", "frames")),
        format_size(segment["used_bytes"]),
        format_size(segment["file_bytes"]),
        local_time(segment["first_time"]),
        local_time(segment["last_time"]),
        state,
    ]


def _print_beside(found: dict[str, Any]) -> None:
    """Snapshots, readers, other files and what is wrong, if there are any."""
    snapshots = [
        [
            str(each["lsn"]),
            local_time(each["time"]),
            "-" if each["bytes"] is None else format_size(each["bytes"]),
            str(each["age_records"]),
            each["fault"] or "valid",
        ]
        for each in found["snapshots"]
    ]
    readers = [
        [
            each["name"],
            *("-" if each[name] is None else str(each[name]) for name in ("lsn", "lag_records")),
            "-" if each["lag_bytes"] is None else format_size(each["lag_bytes"]),
            each["fault"] or "valid",
        ]
        for each in found["readers"]
    ]
    others = [[each["file"], format_size(each["bytes"])] for each in found["other_files"]]
    for headings, rows in (
        (["SNAPSHOT", "TIME", "SIZE", "BEHIND", "STATE"], snapshots),
        (["READER", "LSN", "BEHIND", "BYTES", "STATE"], readers),
        (["FILE", "SIZE"], others),
    ):
        if rows:
            print()
            print_table(headings, rows, right=["SIZE", "BEHIND", "LSN", "BYTES"])
    if found["damage"]:
        print("\nDamage:")
        for fault in found["damage"]:
            print(printable(f"  {fault}"))
        print(printable(f"`titan wal verify {found['directory']}` looks at all of it."))
