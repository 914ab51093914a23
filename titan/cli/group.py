"""Which commands there are, and where. A command's module is imported when it is run."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from titan.cli.params import AT


class Entry(NamedTuple):
    """A command: the module and name of its click.Command, and one line about it."""

    module: str
    attribute: str
    help: str


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "Jobs": {
        "submit": Entry("submit", "submit", "Submit a job and return at once."),
        "run": Entry("run", "run", "Submit a job, show its output live and exit as it did."),
        "plan": Entry("plan", "plan", "Tell where a job would go, and change nothing."),
        "queue": Entry("queue", "queue", "List jobs."),
        "show": Entry("show", "show", "Show all about a job."),
        "why": Entry("why", "why", "Tell why a job waits, or how it was placed."),
        "logs": Entry("logs", "logs", "Print what a job wrote."),
        "wait": Entry("wait", "wait", "Wait until jobs have ended."),
        "cancel": Entry("cancel", "cancel", "Cancel jobs."),
        "hold": Entry("hold", "hold", "Start no tasks of jobs until they are released."),
        "release": Entry("hold", "release", "Let held jobs start."),
        "suspend": Entry("suspend", "suspend", "Stop running tasks where they are."),
        "resume": Entry("suspend", "resume", "Let suspended tasks run on."),
        "update": Entry("update", "update", "Change the priority or time limit of jobs."),
        "requeue": Entry("requeue", "requeue", "Put jobs back to the queue."),
    },
    "Cluster": {
        "top": Entry("top.command", "top", "Show workers and jobs live."),
        "workers": Entry("cluster", "workers", "List workers."),
        "drain": Entry("drain", "drain", "Give workers no new tasks."),
        "undrain": Entry("drain", "undrain", "Give drained workers tasks again."),
        "policy": Entry("policy", "policy", "Show or set how tasks are ordered and placed."),
        "stats": Entry("cluster", "stats", "Show the cluster in numbers."),
        "history": Entry("history", "history", "Tell what ran, from the history in SQL."),
    },
    "Servers": {
        "dev": Entry("dev", "dev", "Start a whole cluster on this machine, to try it."),
        "manager": Entry("manager", "manager", "Run the manager."),
        "worker": Entry("worker", "worker", "Run a worker."),
        "web": Entry("web", "web", "Show the cluster in a browser."),
        "wal": Entry("wal", "wal", "Look into the manager's log."),
        "journal": Entry("journal", "journal", "Make the log that several managers share."),
    },
    "Security": {
        "certs": Entry("certs", "certs", "Make and revoke certificates."),
        "token": Entry("token", "token", "Make and revoke users' tokens."),
    },
    "Planning": {
        "simulate": Entry("simulate", "simulate", "Try a workload in virtual time."),
    },
    "Shell": {
        "completion": Entry("completion", "completion", "Print the script that completes `titan`."),
    },
}
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """A group that knows its commands by a table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, for completion."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(f"titan.cli.{entry.module}"), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names what is close to a command that does not exist."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches  # noqa: PLC0415 - only here, and slow

            close = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean `titan {close[0]}`?" if close else "see `titan --help`"
            raise click.UsageError(f"there is no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table by sections, without importing a command."""
        width = max(len(name) for name in COMMANDS)
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), e.help) for name, e in entries.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and only here

        click.echo(f"titan {version('titan-scheduler')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "TITAN", "help_option_names": ["-h", "--help"]},
    epilog="\b\nTo try it:  titan dev            (in one terminal)\n"
    "            titan run echo hi    (in another)\n\n"
    "Every option is an environment variable too: TITAN_<COMMAND>_<OPTION>, "
    "such as TITAN_SUBMIT_CPUS=2.",
)
@click.option(
    "--manager",
    metavar="HOST:PORT[,…]",
    help="Where the manager is, or all of them are [127.0.0.1:50051].",
)
@click.option("--access", metavar="FILE", help="The access token's file, if it is elsewhere.")
@click.option(
    "--tls-dir", metavar="DIR|FILE", help="Your certificates, or none [~/.config/titan/tls]."
)
@click.option("--token-file", metavar="FILE", help="A file with your token [$TITAN_TOKEN].")
@click.option("--insecure-i-know", is_flag=True, help="Go without certificates to other machines.")
@click.option("--json", is_flag=True, help="Print JSON.")
@click.option(
    "--at", type=AT, metavar="TIME|LSN", help="As it was then: 14:02, 1h ago, or after that record."
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    allow_from_autoenv=False,
    help="Print the version.",
)
def cli(**_: Any) -> None:
    """Titan, a distributed job scheduler that never loses a job.

    --manager, --access, --tls-dir, --token-file, --insecure-i-know, --json and --at may be given
    before or after the command.
    """
