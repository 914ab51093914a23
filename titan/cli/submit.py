"""`titan submit`."""

from __future__ import annotations

from typing import Any

import click

from titan.cli.command import OWN_FAILURE, PRINTING, Command, Settings, retry_option
from titan.cli.spec_options import CONTEXT, spec_options, submit_request
from titan.cli.text import print_json


@click.command(
    cls=Command,
    takes=PRINTING,
    context_settings=dict(CONTEXT),
    epilog="""\b
Examples:
  titan submit python train.py --epochs 10
  titan submit --cpus 4 --memory 8G --name prepare ./prepare.sh
  titan submit --array 0-99 --shell 'process input.$TITAN_TASK_INDEX'
  titan submit --time-limit 2h --signal-before-end USR1@5m ./simulate
  JOB=$(titan submit -q make) && titan wait $JOB
  titan submit --after $JOB --retries 3 --constraint 'zone in (a,b)' ./test.sh
  titan submit --secret-env API_TOKEN=@token ./fetch.sh
  titan submit --file flow.toml --dry-run
""",
)
@spec_options
@click.option(
    "--file",
    type=click.Path(),
    metavar="FLOW",
    help="Submit all jobs of a FLOW.toml, or of a workflow in WfFormat (JSON), or none.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Of a --file: print what would be submitted, and change nothing.",
)
@click.option("--wait", is_flag=True, help="Wait until the job has ended, and exit as it did.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the job's number.")
@retry_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    *,
    file: str | None,
    dry_run: bool,
    wait: bool,
    quiet: bool,
    retry_for: float,
    **spec: Any,
) -> int:
    """Submit a job and return at once.

    The job is safe once its number is printed: it will run, whatever crashes. Options
    come before COMMAND; what follows it belongs to it.
    """
    settings: Settings = ctx.obj
    if file is not None:
        from titan.cli.flow import submit_file  # noqa: PLC0415 - only here

        how: dict[str, Any] = {
            "dry_run": dry_run,
            "wait": wait,
            "quiet": quiet,
            "retry_for": retry_for,
        }
        return submit_file(ctx, file, request_id=spec["request_id"], **how)
    if dry_run:
        raise click.UsageError("--dry-run says what a --file would submit: name one", ctx)
    request = submit_request(ctx, **spec)
    if wait:
        settings.failure_code = OWN_FAILURE
    with settings.session(retry_for) as session:
        job_id = session.submit(request).job_ids[0]
    if settings.json:
        print_json({"job_id": job_id})
    else:
        print(job_id if quiet else f"Submitted job {job_id}", flush=True)
    if not wait:
        return 0
    from titan.cli.wait import wait_for_jobs  # noqa: PLC0415 - loads asyncio and more

    return wait_for_jobs(settings, [str(job_id)], quiet=True)
