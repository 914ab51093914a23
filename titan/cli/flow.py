"""`titan submit --file`: all the jobs of a file, or none."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from click.core import ParameterSource

from titan.cli.command import OWN_FAILURE, Settings, say
from titan.cli.script_options import find_directives
from titan.cli.table import print_table
from titan.cli.text import print_json, printable
from titan.client import submission
from titan.client.connection import os_user
from titan.client.dependencies import positions_waited_for
from titan.client.names import format_selector
from titan.client.order import in_order
from titan.client.scheduling import dependency_text
from titan.client.scripts import Script
from titan.client.tracing import find_trace
from titan.client.views import array_view, to_text
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2

if TYPE_CHECKING:
    from titan.client.jobspec import JobSpec

# They say how to submit. All others say what, and that is in the file.
_BESIDE_A_FILE: Final = frozenset(
    {
        *("file", "dry_run", "wait", "quiet", "request_id", "retry_for"),
        *("manager", "access", "tls_dir", "token_file", "insecure_i_know", "json"),
    }
)


class Flow(NamedTuple):
    """The jobs of a file, and the one request that submits them."""

    names: list[str]
    request: manager_pb2.SubmitJobRequest


def submit_file(
    ctx: click.Context,
    path: str,
    *,
    request_id: str | None,
    dry_run: bool,
    wait: bool,
    quiet: bool,
    retry_for: float,
) -> int:
    """Submits them, or with `dry_run` prints what it would; the exit code."""
    settings: Settings = ctx.obj
    if dry_run and (wait or quiet):
        raise click.UsageError("--dry-run submits nothing: leave out --wait and --quiet", ctx)
    flow = read(ctx, path, request_id)
    if dry_run:
        print_flow(flow, as_json=settings.json)
        jobs = "1 job" if len(flow.names) == 1 else f"{len(flow.names)} jobs"
        say(f"{jobs} of {path} would be submitted; nothing was")
        return 0
    if wait:
        settings.failure_code = OWN_FAILURE
    with settings.session(retry_for) as session:
        job_ids = session.submit(flow.request).job_ids
    if settings.json:
        print_json({"jobs": dict(zip(flow.names, job_ids, strict=True))})
    else:
        for name, job_id in zip(flow.names, job_ids, strict=True):
            print(job_id if quiet else printable(f"Submitted job {job_id} ({name})"))
    if not wait:
        return 0
    from titan.cli.wait import wait_for_jobs  # noqa: PLC0415 - loads asyncio and more

    return wait_for_jobs(settings, [str(job_id) for job_id in job_ids], quiet=True)


def read(ctx: click.Context, path: str, request_id: str | None) -> Flow:
    """The file as one request. A wrong one is an InvalidJob, other options are usage errors."""
    from titan.client.flow import read_flow  # noqa: PLC0415 - reads TOML and JSON, only here

    _check_alone(ctx)
    specs = read_flow(path)
    _tell_unread_directives(specs)
    request_bytes = submission.parse_request_id(request_id or secrets.token_bytes(16))
    try:
        (request,) = submission.submit_requests(
            list(specs.values()),
            user=os_user(),
            request_id=request_bytes,
            environ=os.environb,
            trace=find_trace(),
            at_once=True,
        )
    except InvalidJob as error:
        raise InvalidJob(f"{path}: {error}") from error
    return Flow(list(specs), request)


def _check_alone(ctx: click.Context) -> None:
    """That nothing else says what to submit."""
    if ctx.params.get("command"):
        raise click.UsageError("--file has the commands in it: leave out COMMAND", ctx)
    unread = []
    for option in ctx.command.params:
        if option.name in _BESIDE_A_FILE:
            continue
        source = ctx.get_parameter_source(option.name)
        if source is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--file says what to submit: put {option.opts[-1]} into the file, as "
                f"{option.name} below [defaults] or a [job.NAME]",
                ctx,
            )
        if source is ParameterSource.ENVIRONMENT:
            unread.append(f"{ctx.auto_envvar_prefix}_{option.name.upper()}")
    if unread:
        say(f"ignored {', '.join(unread)}: --file says what to submit")


def _tell_unread_directives(specs: Mapping[str, JobSpec]) -> None:
    for name, spec in specs.items():
        if isinstance(spec.script, Script) and find_directives(spec.script.text).ours:
            script = os.fsdecode(spec.script.name)
            say(f"job {name}: ignored #TITAN lines of {script}; the file has its options")


def print_flow(flow: Flow, *, as_json: bool) -> None:
    """The jobs, each behind those that it waits for."""
    jobs = flow.request.jobs
    order = in_order(flow.names, [positions_waited_for(job) for job in jobs])
    if as_json:
        print_json({"jobs": {flow.names[place]: _view(flow, place) for place in order}})
        return
    # Only where a job is called otherwise than in the file.
    is_named = [job.name for job in jobs] != flow.names
    name = ("NAME",) if is_named else ()
    print_table(
        ("JOB", *name, "TASKS", "COMMAND", "AFTER"),
        [
            (
                flow.names[place],
                *(jobs[place].name for _ in name),
                str(_tasks(jobs[place])),
                _command_text(jobs[place]),
                ", ".join(_after(flow, place)),
            )
            for place in order
        ],
        right=("TASKS",),
        cut=("COMMAND", "AFTER"),
    )


def _view(flow: Flow, place: int) -> dict[str, Any]:
    job = flow.request.jobs[place]
    return {
        "name": job.name,
        "command": [to_text(word) for word in job.command],
        "array": array_view(job.array),
        "after": _after(flow, place),
    }


def _tasks(job: manager_pb2.JobSpec) -> int:
    return sum(len(range(part.start, part.stop, part.step)) for part in job.array) or 1


def _command_text(job: manager_pb2.JobSpec) -> str:
    words = [to_text(word) for word in job.command]
    return words[2] if words[:2] == ["/bin/sh", "-c"] and len(words) == 3 else shlex.join(words)


def _after(flow: Flow, place: int) -> list[str]:
    """What it waits for, as it stands in the file."""
    texts = []
    for each in flow.request.jobs[place].scheduling.after:
        is_here = each.job.WhichOneof("which") == "position"
        name = flow.names[each.job.position] if is_here else format_selector(each.job.job)
        texts.append(dependency_text(name, each))
    return texts
