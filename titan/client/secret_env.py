"""Secrets as people give them: on the command line and in FLOW.toml by the files that hold them.

In Python they are values. None of the sentences here repeats one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from titan.checks import SECRET_BYTES_MAX, check_secret_names, check_secret_values
from titan.errors import InvalidJob

_SIGN: Final = "@"


def parse_secret(text: str) -> tuple[str, str]:
    """The name and the file of `NAME=@FILE`. Raises ValueError."""
    name, equals, given = text.partition("=")
    if not name or not equals:
        # Who knows what it is.
        raise ValueError("it is written as NAME=@FILE: the value is what the file holds")
    return name, file_of(name, given)


def file_of(name: str, given: str) -> str:
    """The file of `@FILE`. Raises ValueError, without the value that may be in its place."""
    if not given.startswith(_SIGN) or given == _SIGN:
        raise ValueError(
            f"the value of {name} is not written here, where the shell's history and listings of "
            f"processes would show it: put it into a file and write {name}=@FILE"
        )
    return given.removeprefix(_SIGN)


def read_secrets(files: Mapping[str, str], directory: str = "") -> dict[str, bytes]:
    """What the files hold, by name, without the line ends at their ends, as by `$(cat FILE)`.

    Relative paths start at `directory`. Raises InvalidJob.
    """
    return {name: _read(name, os.path.join(directory, path)) for name, path in files.items()}


def secret_variables(
    given: Mapping[str, str | bytes] | Mapping[bytes, str | bytes], env: Mapping[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """In the order of their names; `env` is what is set beside them. Raises InvalidJob."""
    values: dict[bytes, bytes] = {}
    for name, value in given.items():
        if not isinstance(value, str | bytes):
            raise InvalidJob(f"the secret {os.fsdecode(name)} is neither text nor bytes")
        values[os.fsencode(name)] = value if isinstance(value, bytes) else os.fsencode(value)
    variables = sorted(values.items())
    check_secret_names(tuple(values), env.items())
    check_secret_values(variables)
    return variables


def _read(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            # One more than is allowed tells that there is more, of pipes too.
            value = file.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InvalidJob(f"cannot read the secret {name} from {path}: {reason}") from error
    if len(value) > SECRET_BYTES_MAX:
        raise InvalidJob(
            f"the secret {name}, {path}, is larger than {SECRET_BYTES_MAX >> 10} KiB, which is "
            "more than a variable holds"
        )
    return value.rstrip(b"\n")
