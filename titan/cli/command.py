"""What the commands have in common: shared options, a session, errors as exit codes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click
from click.core import ParameterSource

from titan.cli.params import AT, DURATION, PLACE
from titan.cli.text import local_time, printable
from titan.errors import InvalidJob, ManagerUnreachable, NotFound, Refused, TitanError

if TYPE_CHECKING:
    from titan.client.aio_session import AioSession
    from titan.client.connection import Credentials
    from titan.client.session import Session
    from titan.rpc.v1 import manager_pb2

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
REFUSED: Final = 5
# Titan's own failure in commands that otherwise exit as a job did.
OWN_FAILURE: Final = 125

# What commands take that call the manager, and those that print a value.
CALLING: Final = ("manager", "access", "tls_dir", "token_file", "insecure_i_know")
PRINTING: Final = (*CALLING, "json")
# Those that only look, at what is or at what was.
READING: Final = (*PRINTING, "at", "data_dir")
# And those of them that one of several managers may answer that only stands by.
READING_STALE: Final = (*READING, "stale")

_COMMON: Final[dict[str, dict[str, Any]]] = {
    "manager": {
        "metavar": "HOST:PORT[,…]",
        "help": "Where the manager is, or all of them are: a:50051,b:50051 [127.0.0.1:50051].",
    },
    "access": {"metavar": "FILE", "help": "The access token's file, if it is elsewhere."},
    "tls_dir": {
        "metavar": "DIR|FILE",
        "help": "Your certificates: a directory, or a bundle; none: do without "
        "[~/.config/titan/tls].",
    },
    "token_file": {
        "metavar": "FILE",
        "help": "A file with your token, in place of a certificate [$TITAN_TOKEN].",
    },
    "insecure_i_know": {
        "is_flag": True,
        "default": None,
        "help": "Go without certificates where other machines can listen.",
    },
    "json": {"is_flag": True, "default": None, "help": "Print JSON."},
    "at": {
        "type": AT,
        "metavar": "TIME|LSN",
        "help": "As it was then: 14:02, 2026-11-20 14:02, 1h ago, or after that record.",
    },
    "data_dir": {
        "type": PLACE,
        "metavar": "DIR|URL",
        "help": "Read the manager's files instead, only while no manager runs on them; or the "
        "journal at a URL.",
    },
    "stale": {
        "is_flag": True,
        "default": None,
        "help": "Any of several managers may answer, also one that stands by and is a little late.",
    },
}


class Reading(Protocol):
    """What answers questions: a session, or the files of a manager that does not run."""

    def status(self, request: manager_pb2.GetJobStatusRequest) -> manager_pb2.GetJobStatusResponse:
        """A job."""

    def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""

    def list_jobs(
        self,
        wanted: manager_pb2.JobFilter,
        limit: int,
        at: manager_pb2.Moment | None = None,
        *,
        stale: bool = False,
    ) -> manager_pb2.ListJobsResponse:
        """At most so many jobs."""

    def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""

    def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""

    def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""


class Dated(Protocol):
    """An answer that may be from the past."""

    @property
    def lsn(self) -> int:
        """Of the state that it tells of."""

    @property
    def at_us(self) -> int:
        """The time of that record; 0: it tells of now."""


class Settings:
    """The common options, from wherever they were given; `ctx.obj` of every command."""

    def __init__(
        self,
        manager: str | None,
        access: str | None,
        *,
        json: bool,
        tls_dir: str | None = None,
        token_file: str | None = None,
        is_insecure: bool = False,
        at: float | None,
        data_place: Path | str | None,
        is_stale: bool = False,
    ) -> None:
        self.manager = manager
        self.access_file = Path(access) if access else None
        self.tls_dir = tls_dir
        self.is_insecure = is_insecure
        self._token_file = token_file
        self.json = json
        self.data_place = data_place
        self.is_stale = is_stale
        self._at = at
        # What TitanErrors exit with, if it is not what each stands for.
        self.failure_code: int | None = None

    def session(self, retry_for_seconds: float) -> Session:
        """A connection for a command that asks and answers."""
        from titan.client.session import Session  # noqa: PLC0415 - loads gRPC

        self.check_address()
        return Session(
            self.manager,
            given=self.credentials(),
            retry_for_seconds=retry_for_seconds,
            notice=say,
        )

    @property
    def at(self) -> manager_pb2.Moment | None:
        """The moment that is asked about; None: now."""
        from titan.client.moments import moment  # noqa: PLC0415 - loads messages

        return moment(self._at)

    def reader(self, retry_for_seconds: float) -> AbstractContextManager[Reading]:
        """What a command that only looks asks: the manager, or its files where they were named."""
        if self.data_place is None:
            return self.session(retry_for_seconds)
        # They load what reads the log.
        from titan.cli.files import FileSession  # noqa: PLC0415
        from titan.cli.journal_session import JournalSession  # noqa: PLC0415

        if isinstance(self.data_place, Path):
            return FileSession(self.data_place)
        return JournalSession(self.data_place)

    def aio_session(
        self, retry_for_seconds: float, notice: Callable[[str], None] | None = None
    ) -> AioSession:
        """A connection for a command that waits, inside a running loop.

        `notice` is told, in place of stderr, that the manager is away or has too much to do.
        """
        from titan.client.aio_session import AioSession  # noqa: PLC0415 - loads gRPC

        return AioSession(
            self.manager,
            given=self.credentials(),
            retry_for_seconds=retry_for_seconds,
            notice=notice or say,
        )

    def check_address(self) -> None:
        """Refuses what is no address of a manager, or can't be called so, as a usage error."""
        # These load gRPC.
        from titan.client.connection import Access, manager_addresses  # noqa: PLC0415
        from titan.tls.pem import TlsError  # noqa: PLC0415

        try:
            for address in manager_addresses(self.manager):
                Access(address, self.credentials())
        except TlsError as error:
            raise click.UsageError(str(error)) from error
        except ValueError as error:
            raise click.UsageError(f"--manager: {error}") from error

    def credentials(self) -> Credentials:
        """What was said of how to prove who calls."""
        from titan.client.connection import Credentials  # noqa: PLC0415 - loads gRPC

        token = None
        if self._token_file is not None:
            try:
                token = Path(self._token_file).read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                raise click.UsageError(f"--token-file: {error}") from error
            if not token:
                # Else another that is in the environment would count.
                raise click.UsageError(f"--token-file: {self._token_file} is empty")
        return Credentials(self.access_file, self.tls_dir, token, self.is_insecure)


class Command(click.Command):
    """A command with the common options that it `takes`; its result is its exit code."""

    def __init__(self, *arguments: Any, takes: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += [
            click.Option([f"--{name.replace('_', '-')}"], **_COMMON[name]) for name in takes
        ]
        self._takes = takes

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it; a TitanError becomes a sentence and an exit code."""
        root = ctx.find_root()
        # Those that are given to a command below are looked at by that.
        for name in () if _names_one_below(ctx) else _COMMON:
            is_given = root.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if is_given and name not in self._takes:
                option = name.replace("_", "-")
                raise click.UsageError(f"`{ctx.command_path}` has no option --{option}", ctx)
        settings = Settings(
            _common(ctx, "manager"),
            _common(ctx, "access"),
            json=bool(_common(ctx, "json")),
            tls_dir=_common(ctx, "tls_dir"),
            token_file=_common(ctx, "token_file"),
            is_insecure=bool(_common(ctx, "insecure_i_know")),
            at=_common(ctx, "at"),
            # Commands that run servers have one of their own.
            data_place=_common(ctx, "data_dir") if "data_dir" in self._takes else None,
            is_stale=bool(_common(ctx, "stale")),
        )
        if settings.data_place is not None:
            check_no_manager_is_named(ctx, "--data-dir")
            if settings.is_stale:
                raise click.UsageError("--data-dir asks no manager: leave out --stale", ctx)
        ctx.obj = settings
        try:
            return super().invoke(ctx)
        except TitanError as error:
            say(str(error))
            return exit_code_of(error) if settings.failure_code is None else settings.failure_code


class CommandGroup(Command, click.Group):
    """A command that has others below it; without one of them it is run itself."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, invoke_without_command=True, **settings)


def check_options_are_behind(ctx: click.Context, *, but: Sequence[str] = ()) -> None:
    """Of a group whose options are those of itself: before a command below they are a mistake."""
    for option in ctx.command.params:
        name = option.name or ""
        if name not in but and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{option.opts[-1]} stands before {ctx.invoked_subcommand}: put it behind", ctx
            )


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


def say_as_of(answer: Dated) -> None:
    """Which moment an answer from the past tells of, on stderr; nothing of one that is live."""
    if answer.at_us:
        moment = local_time(answer.at_us / 1e6)
        print(f"as of {moment} (LSN {answer.lsn})", file=sys.stderr, flush=True)


def say_how_far(settings: Settings, answer: Dated) -> None:
    """As `say_as_of`, and of an answer that may be old up to which record it is."""
    say_as_of(answer)
    if settings.is_stale and not answer.at_us:
        print(f"up to LSN {answer.lsn}", file=sys.stderr, flush=True)


def time_of(answer: Dated) -> float:
    """What ages count to: the moment of an answer from the past, else now."""
    return answer.at_us / 1e6 if answer.at_us else time.time()


def say(sentence: str) -> None:
    """A sentence for people on stderr."""
    print(f"titan: {printable(sentence)}", file=sys.stderr, flush=True)


def check_no_manager_is_named(ctx: click.Context, instead: str) -> None:
    """What says how to call a manager says nothing of files; the environment may say both."""
    for name in (*CALLING, "retry_for"):
        if any(
            each.get_parameter_source(name) is ParameterSource.COMMANDLINE
            for each in (ctx, ctx.find_root())
        ):
            option = name.replace("_", "-")
            raise click.UsageError(f"{instead} asks no manager: leave out --{option}", ctx)


def _names_one_below(ctx: click.Context) -> bool:
    """Whether the command of a group is meant, before it is looked up."""
    # Click 8.2 has given its list of them another name.
    return any(vars(ctx).get(name) for name in ("_protected_args", "protected_args"))


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
