"""What the commands have in common: shared options, a session, errors as exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from titan.cli.params import DURATION
from titan.cli.text import printable
from titan.errors import InvalidJob, ManagerUnreachable, NotFound, Refused, TitanError

if TYPE_CHECKING:
    from titan.client.aio_session import AioSession
    from titan.client.session import Session

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
REFUSED: Final = 5
# Titan's own failure in commands that otherwise exit as a job did.
OWN_FAILURE: Final = 125

# What commands take that call the manager, and those that print a value.
CALLING: Final = ("manager", "access")
PRINTING: Final = ("manager", "access", "json")

_COMMON: Final[dict[str, dict[str, Any]]] = {
    "manager": {"metavar": "HOST:PORT", "help": "Where the manager is [127.0.0.1:50051]."},
    "access": {"metavar": "FILE", "help": "The access token's file, if it is elsewhere."},
    "json": {"is_flag": True, "default": None, "help": "Print JSON."},
}


class Settings:
    """The common options, from wherever they were given; `ctx.obj` of every command."""

    def __init__(self, manager: str | None, access: str | None, *, json: bool) -> None:
        self.manager = manager
        self.access_file = Path(access) if access else None
        self.json = json
        # What TitanErrors exit with, if it is not what each stands for.
        self.failure_code: int | None = None

    def session(self, retry_for_seconds: float) -> Session:
        """A connection for a command that asks and answers."""
        from titan.client.session import Session  # noqa: PLC0415 - loads gRPC

        self.check_address()
        return Session(
            self.manager, access_file=self.access_file, retry_for_seconds=retry_for_seconds
        )

    def aio_session(self, retry_for_seconds: float) -> AioSession:
        """A connection for a command that waits, inside a running loop."""
        from titan.client.aio_session import AioSession  # noqa: PLC0415 - loads gRPC

        return AioSession(
            self.manager,
            access_file=self.access_file,
            retry_for_seconds=retry_for_seconds,
            notice=say,
        )

    def check_address(self) -> None:
        """Refuses what is no address of a manager as a usage error."""
        from titan.client.connection import manager_address  # noqa: PLC0415 - loads gRPC

        try:
            manager_address(self.manager)
        except ValueError as error:
            raise click.UsageError(f"--manager: {error}") from error


class Command(click.Command):
    """A command with the common options that it `takes`; its result is its exit code."""

    def __init__(self, *arguments: Any, takes: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += [click.Option([f"--{name}"], **_COMMON[name]) for name in takes]
        self._takes = takes

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it; a TitanError becomes a sentence and an exit code."""
        root = ctx.find_root()
        for name in _COMMON:
            is_given = root.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if is_given and name not in self._takes:
                raise click.UsageError(f"`{ctx.command_path}` has no option --{name}", ctx)
        settings = Settings(
            _common(ctx, "manager"), _common(ctx, "access"), json=bool(_common(ctx, "json"))
        )
        ctx.obj = settings
        try:
            return super().invoke(ctx)
        except TitanError as error:
            say(str(error))
            return exit_code_of(error) if settings.failure_code is None else settings.failure_code


def retry_option(function: Any) -> Any:
    """Adds --retry-for, which the command gets as `retry_for`, in seconds."""
    return click.option(
        "--retry-for",
        type=DURATION,
        default="30s",
        show_default=True,
        metavar="TIME",
        help="How long to repeat a call that the manager does not answer.",
    )(function)


def exit_code_of(error: TitanError) -> int:
    """What a command exits with that ended so."""
    for kind, code in (
        (ManagerUnreachable, UNREACHABLE),
        (NotFound, NOT_FOUND),
        (InvalidJob, USAGE),
        (Refused, REFUSED),
    ):
        if isinstance(error, kind):
            return code
    return FAILED


def say(sentence: str) -> None:
    """A sentence for people on stderr."""
    print(f"titan: {printable(sentence)}", file=sys.stderr, flush=True)


def _common(ctx: click.Context, name: str) -> Any:
    """The option's value: after the command, before it, else the command's environment."""
    root = ctx.find_root()
    before = root.params.get(name)
    if name not in ctx.params or ctx is root:
        return before
    after = ctx.params.pop(name)
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return after
    if root.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return before
    return before if after is None else after
