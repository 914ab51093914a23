"""Scripts as people give them: a file or a text here, or a path on the worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final, NamedTuple

from titan import units
from titan.errors import InvalidJob
from titan.model import SCRIPT_BYTES_MAX

# What a text without a file is called.
NAMELESS: Final = b"script"


class Script(NamedTuple):
    """A script that goes with its job."""

    name: bytes
    text: bytes


def script_of(given: str | bytes | os.PathLike[str] | os.PathLike[bytes] | Script) -> Script:
    """Reads a file; text is bytes, or has a line break in it. Raises InvalidJob."""
    if isinstance(given, Script):
        return given
    if isinstance(given, bytes):
        return Script(NAMELESS, given)
    if isinstance(given, str) and "\n" in given:
        return Script(NAMELESS, given.encode("utf-8", "surrogateescape"))
    path = os.fsencode(given)
    try:
        with open(path, "rb") as file:
            # One more than is allowed tells that there is more, of pipes too.
            text = file.read(SCRIPT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InvalidJob(f"cannot read the script {os.fsdecode(path)}: {reason}") from error
    return checked(Script(os.path.basename(path), text), os.fsdecode(path))


def checked(script: Script, shown: str) -> Script:
    """The same. Raises InvalidJob for one that no manager takes."""
    if not script.text:
        raise InvalidJob(f"the script {shown} is empty")
    if len(script.text) > SCRIPT_BYTES_MAX:
        raise InvalidJob(
            f"the script {shown} is larger than {units.format_size(SCRIPT_BYTES_MAX)}: "
            "keep data in files of its own"
        )
    return script


def interpreter_words(given: str | Sequence[str | bytes] | None) -> list[bytes]:
    """The words; a text is split as a shell does it. Raises InvalidJob."""
    if given is None:
        return []
    import shlex  # noqa: PLC0415 - most jobs have no interpreter

    try:
        words = shlex.split(given) if isinstance(given, str) else given
    except ValueError as error:
        raise InvalidJob(f"the interpreter {given!r} has no end: {error}") from error
    if not words or not words[0]:
        raise InvalidJob("an interpreter without a name: write it as 'bash -e'")
    return [os.fsencode(word) for word in words]


def worker_script_word(given: str | os.PathLike[str]) -> bytes:
    """The path as a word. Raises InvalidJob for one that leads out of any folder."""
    path = PurePath(given)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise InvalidJob(
            f"{os.fspath(given)!r}: a script of the worker is a path below its folder of scripts "
            "(titan worker --scripts-dir), without a / at the beginning and without .."
        )
    return os.fsencode(given)
