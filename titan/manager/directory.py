"""The manager's data directory: whose it is, and what lies where in it."""

from __future__ import annotations

import re
from pathlib import Path

from titan import paths
from titan.errors import TitanError
from titan.journal.mark import Mark, MarkUnreadable, read_mark

FORMAT = 1
ROLE = "manager"
# What is there when a first start ended before it had said whose directory it is. Nothing of a
# log can be acknowledged by then.
_LEFT_BY_A_FIRST_START = re.compile(r"lock|wal|secrets|\.titan\.json\.[0-9]+")
# The same of a start that never came to its journal: a database that was not there or had none.
_LEFT_BEFORE_THE_JOURNAL = re.compile(r"lock|access\.json|\.(access|journal)\.json\.[0-9]+")


class DirectoryRefused(TitanError):
    """The directory cannot be used; the text says why and what to do."""


def prepare(directory: Path, *, is_shared: bool = False) -> None:
    """Makes the directory, or checks that it is a manager's. Raises DirectoryRefused.

    `is_shared`: the manager's log is in a database, and the directory has its copy of it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        entries = [entry.name for entry in directory.iterdir()]
        description = paths.read_json(directory / "titan.json")
        mark = read_mark(directory)
    except MarkUnreadable as error:
        raise DirectoryRefused(str(error)) from error
    except (OSError, ValueError) as error:
        raise DirectoryRefused(f"the data directory {directory} cannot be used: {error}") from error
    if mark is not None and not is_shared:
        raise DirectoryRefused(_why_not_on_files(directory, mark))
    if description is not None:
        _check(directory, description)
    elif mark is None and not any(
        all(left.fullmatch(name) for name in entries)
        for left in (_LEFT_BY_A_FIRST_START, _LEFT_BEFORE_THE_JOURNAL)
    ):
        raise DirectoryRefused(
            f"{directory} is not empty and is no data directory of Titan (it has no titan.json); "
            "name another with --data-dir"
        )


def write_description(directory: Path, cluster_id: bytes) -> None:
    """Says whose directory it is. Raises OSError."""
    path = directory / "titan.json"
    description = {"role": ROLE, "format": FORMAT, "cluster_id": cluster_id.hex()}
    if paths.read_json(path) != description:
        paths.write_json(path, description)


def _why_not_on_files(directory: Path, mark: Mark) -> str:
    if mark.is_partial:
        return (
            f"{directory} has a part of the journal in {mark.journal}: the copying was stopped "
            f"before its end; `titan journal copy URL {directory}` goes on with it"
        )
    return (
        f"{directory} has a copy of the journal in {mark.journal}, where another manager may lead: "
        f"start this one with --journal; or, while none runs, `titan journal copy URL {directory}` "
        "makes it a directory that a manager runs on alone"
    )


def _check(directory: Path, description: dict[str, object]) -> None:
    role, version = description.get("role"), description.get("format")
    if role != ROLE:
        raise DirectoryRefused(f"{directory} is the data directory of a {role}, not of a manager")
    if version != FORMAT:
        raise DirectoryRefused(
            f"{directory} has format {version}, this version of Titan knows {FORMAT}; "
            "a later version wrote it"
        )
