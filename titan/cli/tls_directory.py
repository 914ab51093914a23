"""--tls-dir of the commands that write there: it is a directory, and has to be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from titan import paths
from titan.errors import TitanError


def tls_dir_option(function: Any) -> Any:
    """Adds --tls-dir, which the command gets as `tls_dir`; None: the default."""
    return click.option(
        "--tls-dir",
        type=click.Path(path_type=Path),
        envvar="TITAN_TLS_DIR",
        metavar="DIR",
        help="Where certificates and keys are [~/.config/titan/tls].",
    )(function)


def tls_directory(given: Path | None) -> Path:
    """The directory. Raises TitanError where there is none."""
    directory = paths.tls_directory(given)
    if directory.is_dir():
        return directory
    if directory.exists():
        raise TitanError(f"{directory} is a file; what the CA keeps is in a directory")
    raise TitanError(f"there is no directory {directory}; `titan certs init` makes one")
