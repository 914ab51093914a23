"""`titan history import`: jobs of other schedulers into the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from titan.accounting import MINI_SLURM, SWF
from titan.cli.command import Command, Settings, say
from titan.cli.history_files import (
    data_dir_option,
    given_url,
    history_option,
    manager_directory,
    needed_modules,
)
from titan.cli.params import MOMENT
from titan.cli.text import local_time, print_json
from titan.errors import TitanError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from titan.history.imports import Imported
    from titan.traces.lines import OddLines

_file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)


@click.group(
    "import",
    epilog="""\b
Examples:
  titan history import mini-slurm ~/.mini_slurm.db
  titan history import swf KTH-SP2-1996-2.1-cln.swf.gz
""",
)
def import_() -> None:
    """Put jobs that another scheduler ran into the history, beside Titan's own.

    All of a file or none, and each job once, however often its file is imported; a manager may
    run meanwhile. Imported jobs have ids below 0.
    """


@click.command(
    "mini-slurm",
    cls=Command,
    takes=("json",),
    epilog="""\b
Examples:
  titan history import mini-slurm ~/.mini_slurm.db
  titan history import mini-slurm --history postgresql://titan@db/titan jobs.db
""",
)
@_file_argument
@history_option
@data_dir_option
@click.pass_obj
def mini_slurm(
    settings: Settings, /, *, file: Path, history: str | None, data_dir: Path | None
) -> int:
    """Import the jobs of Mini-SLURM that have ended, from its SQLite file.

    The file is not changed, and may be in use. Later on it may be imported again: then what has
    ended since comes in.
    """
    from titan.cli.progress import count_on_bar  # noqa: PLC0415 - loads asyncio

    with needed_modules():
        from titan.history import imports  # noqa: PLC0415 - with the next ones, loads SQLAlchemy
        from titan.history.mini_slurm import TREATMENT, open_mini_slurm  # noqa: PLC0415
        from titan.traces.lines import OddLines  # noqa: PLC0415
    odd = OddLines(TREATMENT, "job")
    with (
        open_mini_slurm(file) as source,
        _opened(history, data_dir) as engine,
        count_on_bar("importing", source.count()) as progress,
    ):
        done = imports.import_jobs(
            engine, MINI_SLURM, str(file), source.read_jobs(odd), on_progress=progress
        )
    return _tell(file, done, odd, as_json=settings.json)


@click.command(
    cls=Command,
    takes=("json",),
    epilog="""\b
Examples:
  titan history import swf KTH-SP2-1996-2.1-cln.swf.gz
  titan history import swf --start 2026-01-01 trace.swf
""",
)
@_file_argument
@click.option(
    "--start",
    type=MOMENT,
    metavar="TIME",
    help="What the times in the file count from [its UnixStartTime].",
)
@history_option
@data_dir_option
@click.pass_obj
def swf(
    settings: Settings,
    /,
    *,
    file: Path,
    start: float | None,
    history: str | None,
    data_dir: Path | None,
) -> int:
    """Import a workload in the Standard Workload Format (SWF), gzipped or not."""
    from titan.cli.progress import count_on_bar  # noqa: PLC0415 - loads asyncio

    with needed_modules():
        from titan.history import imports  # noqa: PLC0415 - with the next one, loads SQLAlchemy
        from titan.history.swf import TREATMENT, read_jobs  # noqa: PLC0415
        from titan.traces.file import open_trace  # noqa: PLC0415
        from titan.traces.lines import OddLines  # noqa: PLC0415
    digest, count, found_start = _look_through(file)
    if start is None and found_start is None:
        raise TitanError(
            f"{file} has no comment UnixStartTime, which its times count from: give --start TIME"
        )
    start_time = start if start is not None else float(found_start or 0)
    odd = OddLines(TREATMENT)
    with (
        open_trace(file) as lines,
        _opened(history, data_dir) as engine,
        count_on_bar("importing", count) as progress,
    ):
        try:
            done = imports.import_jobs(
                engine, SWF, str(file), read_jobs(lines, start_time, odd),
                digest=digest, on_progress=progress,
            )  # fmt: skip
        except imports.AlreadyImported as error:
            say(f"{file} was imported at {local_time(error.at_time)}: nothing is changed")
            done = imports.Imported(0, error.jobs)
    return _tell(file, done, odd, as_json=settings.json)


import_.add_command(mini_slurm)
import_.add_command(swf)


def _look_through(path: Path) -> tuple[str, int, int | None]:
    """An SWF file's digest, how many jobs it may have, and when it begins, if it says so.

    The digest is that of its lines, so that it is the same file gzipped and not.
    """
    from hashlib import sha256  # noqa: PLC0415 - only here

    from titan.history.swf import find_start  # noqa: PLC0415 - loads SQLAlchemy
    from titan.traces.file import open_trace  # noqa: PLC0415 - as above

    digest, count, start = sha256(), 0, None
    with open_trace(path) as lines:
        for line in lines:
            digest.update(line.encode())
            if not line.lstrip().startswith(";"):
                count += bool(line.strip())
            elif start is None:
                start = find_start(line.lstrip())
    return digest.hexdigest(), count, start


@contextmanager
def _opened(history: str | None, data_dir: Path | None) -> Iterator[sa.Engine]:
    from titan.history.database import open_for_writing, url_of  # noqa: PLC0415 - as above

    engine = open_for_writing(url_of(given_url(history), manager_directory(data_dir)))
    try:
        yield engine
    finally:
        engine.dispose()


def _tell(path: Path, done: Imported, odd: OddLines[Any], *, as_json: bool) -> int:
    for sentence in odd.sentences():
        say(sentence)
    if not done.jobs and not done.known:
        raise TitanError(f"{path} has no job that could be imported")
    if as_json:
        print_json(
            {
                "jobs": done.jobs,
                "known": done.known,
                "odd_lines": {str(kind): count for kind, count in odd.counts.items()},
            }
        )
    else:
        known = f", {done.known} there already" if done.known else ""
        print(f"{_jobs(done.jobs)} imported{known}")
    return 0


def _jobs(count: int) -> str:
    return f"{count} {'job' if count == 1 else 'jobs'}"
