"""Where Titan keeps things by default (XDG base directories), and files written whole."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def state_directory() -> Path:
    """`$XDG_STATE_HOME/titan`; for root `/var/lib/titan` unless the variable is set."""
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "titan"
    if os.geteuid() == 0:
        return Path("/var/lib/titan")
    return Path.home() / ".local" / "state" / "titan"


def write_json(path: Path, value: object, *, mode: int = 0o644) -> None:
    """Replaces the file at once and durably: temporary file, fsync, rename, fsync of the folder.

    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # One that a killed process left, or a link that somebody put there: neither is written to.
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write((json.dumps(value, indent=1) + "\n").encode())
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        error.filename = error.filename or os.fspath(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, None when there is no file. Raises ValueError, OSError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value
