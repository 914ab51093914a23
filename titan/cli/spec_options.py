"""The options that describe a job, shared by `submit`, `run` and `plan`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from titan.cli.params import COUNT, CPUS, DURATION, PAIR, SECRET, SIZE
from titan.cli.scheduling_options import SCHEDULING_OPTIONS
from titan.client import submission
from titan.client.connection import os_user
from titan.client.jobspec import DEFAULT_EXPORT, JobSpec
from titan.client.tracing import find_trace
from titan.client.ulimits import parse_ulimits
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2

# A command ends the options: what follows its first word belongs to it.
CONTEXT: Mapping[str, Any] = {"allow_interspersed_args": False}

_OPTIONS = [
    click.option("--name", metavar="NAME", help="What to call the job [the command's name]."),
    click.option(
        "--cpus", type=CPUS, default="1", show_default=True, metavar="N", help="Cpus, as 2 or 0.5."
    ),
    click.option(
        "--memory",
        type=SIZE,
        default="0",
        show_default=True,
        metavar="SIZE",
        help="Memory, as 512M or 4GiB: promised, and its limit; 0 is neither.",
    ),
    click.option(
        "--resource",
        type=COUNT,
        multiple=True,
        metavar="NAME=COUNT",
        help="A named resource, as gpu=1. May be repeated.",
    ),
    click.option(
        "--priority",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Higher ones start first.",
    ),
    click.option(
        "--time-limit",
        type=DURATION,
        metavar="TIME",
        help="End each task that runs so long, as 90s or 1h30m: SIGTERM, then SIGKILL [no limit].",
    ),
    click.option(
        "--grace",
        type=DURATION,
        metavar="TIME",
        help="Between SIGTERM and SIGKILL where Titan stops a task by itself, as at its time limit "
        "[10s].",
    ),
    click.option(
        "--signal-before-end",
        metavar="SIG@TIME",
        help="Send a signal once, so long before the time limit: USR1@60s.",
    ),
    click.option(
        "--array",
        metavar="SPEC",
        help="A task for each index: 0-99, 0-99:2 or 1,5,7-9; it is TITAN_TASK_INDEX in the task. "
        "0-99%5: at most 5 at once.",
    ),
    click.option(
        "--env",
        type=PAIR,
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a variable for the job. May be repeated.",
    ),
    click.option(
        "--secret-env",
        type=SECRET,
        multiple=True,
        metavar="NAME=@FILE",
        help="Set a variable to what FILE holds, without line ends at its end, and show that to "
        "nobody: it is in no log and no listing, and gone once the job has ended. May be repeated.",
    ),
    click.option(
        "--export",
        default=",".join(DEFAULT_EXPORT),
        show_default=True,
        metavar="NAME,…|ALL|NONE",
        help="Variables that the job takes from here.",
    ),
    click.option("--cwd", metavar="DIR", help="Where the job runs [this directory]."),
    click.option("--on", metavar="WORKER", help="Only on that worker, by name or id [any]."),
    *SCHEDULING_OPTIONS,
    click.option(
        "--ulimit",
        multiple=True,
        metavar="NAME=SOFT[:HARD]",
        help="A limit of setrlimit(2), as nofile=4096, core=0 or as=8G. May be repeated.",
    ),
    click.option(
        "--pids-limit",
        type=click.IntRange(1),
        metavar="N",
        help="At most so many processes and threads at once [no limit].",
    ),
    click.option(
        "--cpu-limit", is_flag=True, help="Use no more cpu time than --cpus, even on idle machines."
    ),
    click.option("--pin", is_flag=True, help="Run on whole cpus of its own."),
    click.option("--umask", metavar="MODE", help="Of the files it makes, as 027 [the worker's]."),
    click.option(
        "--user",
        metavar="ACCOUNT",
        help="Run as that account of the worker's machine, where its --run-as-policy lets you.",
    ),
    click.option(
        "--sandbox",
        type=click.Choice(("none", "bubblewrap")),
        default="none",
        show_default=True,
        help="bubblewrap: a /tmp of its own, and nothing else to write to but its directory.",
    ),
    click.option("--no-network", is_flag=True, help="Of a sandbox: without network."),
    click.option("--shell", is_flag=True, help="COMMAND is a line for /bin/sh: pipes, $VARIABLES."),
    click.option(
        "--stdin",
        metavar="FILE",
        help="What it reads, a file on the worker; %j, %i, %n, %a in it are job, index, name, "
        "attempt [/dev/null].",
    ),
    click.option(
        "--stdout",
        metavar="PATH",
        help="Append what it writes to stdout to this file on the worker, named as for --stdin "
        "[a file of the worker's own].",
    ),
    click.option("--stderr", metavar="PATH", help="The same of stderr; it may be the same file."),
    click.option(
        "--script",
        # For the shell's completion; whether it is there is seen when it is read.
        type=click.Path(allow_dash=True),
        metavar="FILE",
        help="Send this file (- is stdin) and run it by its #! line; #TITAN lines in it are "
        "options. What follows the options are its arguments.",
    ),
    click.option(
        "--worker-script",
        metavar="PATH",
        help="Run a script of the worker, below its --scripts-dir.",
    ),
    click.option(
        "--interpreter",
        metavar="WORDS",
        help="What runs the script, as 'bash -e' [its #! line].",
    ),
    click.option(
        "--request-id",
        metavar="ID",
        help="Repeat with the same ID, and the same job is answered, not another one made.",
    ),
    click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] COMMAND [ARG…]"),
]


def spec_options(function: Any) -> Any:
    """Adds the options above; the command hands them on to `submit_request`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def submit_request(
    ctx: click.Context,
    *,
    command: tuple[str, ...],
    script: str | None,
    request_id: str | None,
    **given: Any,
) -> manager_pb2.SubmitJobRequest:
    """The request for one job. What is wrong with the options is a usage error."""
    if script is not None:
        from titan.cli.script_options import (  # noqa: PLC0415 - only here
            read_script,
            with_directives,
        )

        text = read_script(ctx, script)
        given = with_directives(ctx, script, text.text, given)
        return _request(ctx, request_id, command=command, script=text, **given)
    if not command and given["worker_script"] is None:
        raise click.UsageError(f"say what to run, such as: {ctx.command_path} sleep 10", ctx)
    return _request(ctx, request_id, command=command, **given)


def _request(
    ctx: click.Context,
    request_id: str | None,
    *,
    cpus: int,
    resource: tuple[tuple[str, int], ...],
    env: tuple[tuple[str, str], ...],
    secret_env: tuple[tuple[str, str], ...],
    ulimit: tuple[str, ...],
    constraint: tuple[str, ...],
    retry_on: tuple[tuple[int, ...], ...],
    **others: Any,
) -> manager_pb2.SubmitJobRequest:
    try:
        secrets: dict[str, bytes] = {}
        if secret_env:
            from titan.client.secret_env import read_secrets  # noqa: PLC0415 - few jobs have any

            secrets = read_secrets(dict(secret_env))
        spec = JobSpec(
            cpus=cpus / 1000,
            resources=dict(resource),
            env=dict(env),
            secret_env=secrets,
            ulimits=parse_ulimits(ulimit),
            constraints=constraint,
            retry_on=[code for codes in retry_on for code in codes],
            **others,
        )
        (request,) = submission.submit_requests(
            [spec],
            user=os_user(),
            request_id=submission.parse_request_id(
                request_id or os.urandom(submission.REQUEST_ID_BYTES)
            ),
            environ=os.environb,
            trace=find_trace(),
        )
    except (InvalidJob, ValueError) as error:
        raise click.UsageError(str(error), ctx) from error
    return request
