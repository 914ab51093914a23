"""Where commands find the history in files and databases, and what they say where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from titan import paths
from titan.cli.params import HISTORY
from titan.errors import TitanError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from titan.history.questions import Questions

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The manager's directory [$XDG_STATE_HOME/titan/manager].",
)
history_option = click.option(
    "--history",
    type=HISTORY,
    metavar="URL",
    help="The database, if it is not in that directory: postgresql://HOST/NAME or sqlite:///FILE.",
)


@contextmanager
def opened_history(given: str | None, data_dir: Path | None) -> Iterator[Questions]:
    """The database that --history and --data-dir name. Raises TitanError."""
    with needed_modules():
        from titan.history.database import open_for_reading, url_of  # noqa: PLC0415
        from titan.history.questions import Questions  # noqa: PLC0415
    engine: sa.Engine = open_for_reading(url_of(given_url(given), manager_directory(data_dir)))
    try:
        yield Questions(engine)
    finally:
        engine.dispose()


@contextmanager
def needed_modules() -> Iterator[None]:
    """Around imports of titan.history. Raises TitanError where the extra is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("sqlalchemy", "alembic"):
            raise
        raise TitanError(
            f"the history needs {error.name}: pip install 'titan-scheduler[history]'"
        ) from error


def given_url(history: str | None) -> str:
    """What was given as --history; empty: nothing was."""
    if history == "none":
        raise click.BadParameter("none is no database", param_hint="--history")
    return history or ""


def manager_directory(data_dir: Path | None) -> Path:
    """The one that was named, or the default."""
    return (data_dir or paths.state_directory() / "manager").absolute()
