"""Values on the command line: sizes, durations, cpus, NAME=VALUE, addresses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from titan import units
from titan.paths import is_postgresql_url


class Unit(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A value that `parse` reads from text; its ValueError is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's hook."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Place(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A manager's data directory, as a Path, or the URL of a journal's database, as text."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's hook."""
        if isinstance(value, str) and not is_journal(value):
            return Path(value)
        return value


def is_journal(place: Path | str) -> bool:
    """Whether it names a journal in a database."""
    return isinstance(place, str) and is_postgresql_url(place)


PLACE: Final = Place()


class Expression(click.ParamType):  # type: ignore[type-arg]  # not generic in older click
    """A text with blanks in it: of a variable with several of them each stands on a line."""

    name = "expression"
    envvar_list_splitter = "\n"


def _parse_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not name or not (count.isascii() and count.isdecimal()):
        raise ValueError(f"{text!r} is no resource: write it as NAME=COUNT, such as gpu=2")
    return name, int(count[:19])


def _parse_pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is no NAME=VALUE")
    return name, value


def _parse_secret(text: str) -> tuple[str, str]:
    from titan.client.secret_env import parse_secret  # noqa: PLC0415 - few jobs have any

    return parse_secret(text)


def _parse_user_cpus(text: str) -> tuple[str, int]:
    """The user and thousandths; the user "" is each who is not named, 0 no limit."""
    user, equals, cpus = text.rpartition("=")
    if equals and not user:
        raise ValueError(f"{text!r} names no user: write it as USER=N, or N for everybody")
    return user, units.parse_cpus_limit(cpus)


def _parse_address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not host or not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return text


def _parse_address_or_none(text: str) -> str:
    return text if text == "none" else _parse_address(text)


def _parse_at(text: str) -> int | float:
    from titan.client.moments import parse_at  # noqa: PLC0415 - loads messages

    return parse_at(text, time.time())


def _parse_moment(text: str) -> float:
    return units.parse_since(text, time.time())


def _parse_time_to_come(text: str) -> float:
    return units.parse_time_to_come(text, time.time())


def _parse_exit_codes(text: str) -> tuple[int, ...]:
    codes = [code.strip() for code in text.split(",")]
    if not all(code.isascii() and code.isdecimal() and len(code) <= 3 for code in codes):
        raise ValueError(f"{text!r} is no exit code: write it as 75, several as 1,75")
    return tuple(map(int, codes))


def _parse_disk_minimum(text: str) -> Any:
    from titan.worker.agent.disk_room import parse_minimum  # noqa: PLC0415 - only for workers

    return parse_minimum(text)


def _parse_duration_or_none(text: str) -> float | str:
    return text if text == "none" else units.parse_duration(text)


def _parse_offered(text: str) -> tuple[str, int, tuple[str, ...]]:
    from titan.worker.agent.device_ids import parse_resource  # noqa: PLC0415 - only for workers

    return parse_resource(text)


def _parse_history(text: str) -> str:
    # What it is exactly only SQLAlchemy can tell. Nothing is repeated: it may hold a password.
    if text != "none" and not is_postgresql_url(text) and not text.startswith("sqlite:///"):
        raise ValueError("write it as postgresql://HOST/NAME, sqlite:///FILE or none")
    return text


AT: Final = Unit("moment", _parse_at)
MOMENT: Final = Unit("time", _parse_moment)
TIME_TO_COME: Final = Unit("time", _parse_time_to_come)
EXIT_CODES: Final = Unit("exit codes", _parse_exit_codes)
DISK_MINIMUM: Final = Unit("size or share", _parse_disk_minimum)
SIZE: Final = Unit("size", units.parse_size)
DURATION: Final = Unit("duration", units.parse_duration)
DURATION_OR_NONE: Final = Unit("duration or none", _parse_duration_or_none)
CPUS: Final = Unit("cpus", units.parse_cpus)
CPUS_LIMIT: Final = Unit("cpus or none", units.parse_cpus_limit)
USER_CPUS: Final = Unit("cpus of a user", _parse_user_cpus)
COUNT: Final = Unit("resource", _parse_count)
OFFERED: Final = Unit("resource", _parse_offered)
PAIR: Final = Unit("pair", _parse_pair)
SECRET: Final = Unit("secret", _parse_secret)
ADDRESS_OR_NONE: Final = Unit("address", _parse_address_or_none)
HISTORY: Final = Unit("database", _parse_history)
EXPRESSION: Final = Expression()
ADDRESS: Final = Unit("address", _parse_address)
