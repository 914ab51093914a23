"""--tls-dir of the commands that write there: it is a directory, and has to be there."""

from __future__ import annotations

from pathlib import Path

from titan import paths
from titan.errors import TitanError


def tls_path(given: str | None) -> Path:
    """What --tls-dir says, else the default."""
    return Path(given) if given else paths.tls_directory()


def tls_directory(given: str | None) -> Path:
    """The directory. Raises TitanError where there is none."""
    directory = tls_path(given)
    if directory.is_dir():
        return directory
    if directory.exists():
        raise TitanError(f"{directory} is a file; what the CA keeps is in a directory")
    raise TitanError(f"there is no directory {directory}; `titan certs init` makes one")
