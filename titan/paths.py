"""Where Titan keeps things by default (XDG base directories), and files written whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple


def is_postgresql_url(place: str) -> bool:
    """Whether that names a database of PostgreSQL, and not a file or a directory."""
    return place.startswith(("postgresql://", "postgres://"))


def state_directory() -> Path:
    """`$XDG_STATE_HOME/titan`; for root `/var/lib/titan` unless the variable is set."""
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        return Path(home) / "titan"
    if os.geteuid() == 0:
        return Path("/var/lib/titan")
    return Path.home() / ".local" / "state" / "titan"


def config_directory() -> Path:
    """`$XDG_CONFIG_HOME/titan`, by default `~/.config/titan`."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return Path(home) / "titan" if home else Path.home() / ".config" / "titan"


def tls_directory() -> Path:
    """Where certificates and keys are unless another place is named."""
    return config_directory() / "tls"


def make_private_directory(directory: Path) -> None:
    """Makes it for this user only, and so what leads there; what is there is left as it is.

    Raises OSError.
    """
    if not directory.parent.exists():
        make_private_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


def write_json(path: Path, value: object, *, mode: int = 0o644) -> None:
    """As `write_file`, an object as JSON."""
    import json  # noqa: PLC0415 - `titan --help` does without

    write_file(path, (json.dumps(value, indent=1) + "\n").encode(), mode=mode)


def write_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces the file at once and durably: temporary file, fsync, rename, fsync of the folder.

    Nobody whom `mode` keeps out can open it at any moment. Two threads may not write the same
    file at once. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # One that a killed process left, or a link that somebody put there: neither is written to.
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on what is to be read, changed and replaced; it is a file beside that.

    Waits for others, who hold it only for so long. Raises OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path.with_name(f".{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Stamp(NamedTuple):
    """What changes when a file is replaced, or written over."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Of what was asked of the file, by its path or while it was open."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, None when there is no file. Raises ValueError, OSError."""
    import json  # noqa: PLC0415 - as above

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value
