"""The keys of a job in FLOW.toml: the options of `titan submit`, from values of TOML.

What on the command line is repeated is a list here, and may be a single value; NAME=VALUE may be
a table. Every converter raises ValueError or InvalidJob with a sentence without the key's name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Final

from titan import units
from titan.client.arrays import parse_array_and_limit
from titan.client.constraints import parse_constraint
from titan.client.scripts import script_of
from titan.client.secret_env import file_of, parse_secret, read_secrets
from titan.client.ulimits import parse_ulimits, ulimits_of

Converter = Callable[[Any], Any]


def fields_of(key: str, value: Any, directory: str) -> dict[str, Any]:
    """The fields of a JobSpec that a key says; relative paths start at `directory`.

    Raises ValueError, InvalidJob; KeyError for an unknown key.
    """
    match key:
        case "shell":
            return {"command": _line(value), "shell": True}
        case "cwd":
            return {key: os.path.join(directory, _text(value))}
        case "secret_env":
            return {key: read_secrets(_files(value), directory)}
        case "script":
            return {key: script_of(Path(directory, _text(value)))}
        case "stdin" | "stdout" | "stderr":
            # They may hold %j and the like, and what the directory is called means itself.
            return {key: os.path.join(directory.replace("%", "%%"), _text(value))}
    field, convert = KEYS[key]
    return {field: convert(value)}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text: write it in quotes")
    return value


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('it is the line itself, such as shell = "cat x | wc"')
    return value


def _words(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(
            'it is a list of words in quotes, such as ["sleep", "10"]; a line of shell is written '
            'as shell = "…"'
        )
    return value


def _texts(value: Any) -> list[str]:
    given = value if isinstance(value, list) else [value]
    return [_text(each) for each in given]


def _jobs(value: Any) -> list[str | int]:
    given = value if isinstance(value, list) else [value]
    return [each if _is_number(each) else _text(each) for each in given]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> int:
    if not _is_number(value):
        raise ValueError(f"{value!r} is no whole number")
    number: int = value
    return number


def _quantity(value: Any) -> str:
    """A number or a text, as it would stand on the command line."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is neither a number nor a text")
    return str(value)


def _cpus(value: Any) -> float:
    return units.parse_cpus(_quantity(value)) / 1000


def _size(value: Any) -> int:
    return units.parse_size(_quantity(value))


def _duration(value: Any) -> float:
    return units.parse_duration(_quantity(value))


def _time_to_come(value: Any) -> float | datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date | time_of_day):
        value = value.isoformat()
    return units.parse_time_to_come(_text(value), time.time())


def _array(value: Any) -> str | list[int]:
    if isinstance(value, list):
        return [_number(each) for each in value]
    text = _text(str(value) if _is_number(value) else value)
    parse_array_and_limit(text)
    return text


def _pairs(value: Any) -> dict[str, Any]:
    """A table, or NAME=VALUE texts."""
    if isinstance(value, dict):
        return value
    pairs = {}
    for text in _texts(value):
        name, equals, worth = text.partition("=")
        if not name or not equals:
            raise ValueError(f"{text!r} is no NAME=VALUE")
        pairs[name] = worth
    return pairs


def _variables(value: Any) -> dict[str, str]:
    return {
        name: worth if isinstance(worth, str) else _quantity(worth)
        for name, worth in _pairs(value).items()
    }


def _files(value: Any) -> dict[str, str]:
    """The files of secrets: a table, or NAME=@FILE texts."""
    if not isinstance(value, dict):
        return dict(parse_secret(_text(each)) for each in _texts(value))
    return {
        name: file_of(name, path if isinstance(path, str) else "") for name, path in value.items()
    }


def _resources(value: Any) -> dict[str, int]:
    counts = {}
    for name, count in _pairs(value).items():
        text = str(count) if _is_number(count) else count
        if not isinstance(text, str) or not (text.isascii() and text.isdecimal()):
            raise ValueError(f"{name}={count} is no resource: write it as {{gpu = 2}} or gpu=2")
        counts[name] = int(text[:19])
    return counts


def _ulimits(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        return parse_ulimits(_texts(value))
    limits = parse_ulimits(f"{name}={_quantity(limit)}" for name, limit in value.items())
    ulimits_of(limits)
    return limits


def _constraints(value: Any) -> list[str]:
    texts = _texts(value)
    for text in texts:
        parse_constraint(text)
    return texts


def _exit_codes(value: Any) -> list[int]:
    if isinstance(value, str):
        value = [int(code) if code.strip().isdecimal() else code for code in value.split(",")]
    given = value if isinstance(value, list) else [value]
    return [_number(each) for each in given]


def _names(value: Any) -> str | list[str]:
    return _text(value) if isinstance(value, str) else _texts(value)


def _mode(value: Any) -> str:
    if _is_number(value):
        raise ValueError(f"write it in quotes, in octal, such as '{value:03}'")
    return _text(value)


# Those that fields_of converts itself are here to be known.
KEYS: Final[Mapping[str, tuple[str, Converter]]] = {
    "command": ("command", _words),
    "shell": ("command", _line),
    "script": ("script", _text),
    "worker_script": ("worker_script", _text),
    "interpreter": ("interpreter", _names),
    "name": ("name", _text),
    "cpus": ("cpus", _cpus),
    "memory": ("memory", _size),
    "resource": ("resources", _resources),
    "resources": ("resources", _resources),
    "priority": ("priority", _number),
    "time_limit": ("time_limit", _duration),
    "grace": ("grace", _duration),
    "signal_before_end": ("signal_before_end", _text),
    "array": ("array", _array),
    "env": ("env", _variables),
    "secret_env": ("secret_env", _files),
    "export": ("export", _names),
    "cwd": ("cwd", _text),
    "on": ("on", _text),
    "after": ("after", _jobs),
    "begin": ("begin", _time_to_come),
    "deadline": ("deadline", _time_to_come),
    "hold": ("hold", _flag),
    "retries": ("retries", _number),
    "retry_on": ("retry_on", _exit_codes),
    "max_fails": ("max_fails", _number),
    "constraint": ("constraints", _constraints),
    "affinity": ("affinity", _jobs),
    "anti_affinity": ("anti_affinity", _jobs),
    "spread": ("spread", _text),
    "exclusive": ("exclusive", _flag),
    "preemptible": ("preemptible", _flag),
    "at_most_once": ("at_most_once", _flag),
    "ulimit": ("ulimits", _ulimits),
    "pids_limit": ("pids_limit", _number),
    "cpu_limit": ("cpu_limit", _flag),
    "pin": ("pin", _flag),
    "umask": ("umask", _mode),
    "stdin": ("stdin", _text),
    "stdout": ("stdout", _text),
    "stderr": ("stderr", _text),
}
