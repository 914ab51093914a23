"""`titan requeue`."""

from __future__ import annotations

import secrets

import click

from titan.cli.command import PRINTING, Command, Settings, retry_option
from titan.cli.describe import total_tasks
from titan.cli.params import DURATION
from titan.cli.text import print_json
from titan.client import requests
from titan.client.connection import os_user
from titan.client.submission import parse_request_id
from titan.client.views import requeue_views, requeued_jobs
from titan.rpc.v1 import manager_pb2


@click.command(
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan requeue 42
  titan requeue last --grace 1m
""",
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option(
    "--grace",
    type=DURATION,
    default="10s",
    show_default=True,
    metavar="TIME",
    help="Between SIGTERM and SIGKILL.",
)
@click.option(
    "--request-id",
    metavar="ID",
    help="Repeat with the same ID, and the same jobs are answered, not others made.",
)
@retry_option
@click.pass_obj
def requeue(
    settings: Settings,
    *,
    jobs: tuple[str, ...],
    grace: float,
    request_id: str | None,
    retry_for: float,
) -> int:
    """Put jobs back to the queue.

    What runs gets SIGTERM, and after --grace SIGKILL; then it waits for its turn again. Of
    a job that has ended, the tasks that did not complete are submitted again as a new job.
    JOB is a number (42), tasks of an array (42.7, 42.0-9), last, or name:NAME.
    """
    request = requests.requeue_request(
        jobs,
        user=os_user(),
        grace=grace,
        request_id=parse_request_id(request_id or secrets.token_bytes(16)),
    )
    with settings.session(retry_for) as session:
        response = session.requeue(request)
    if settings.json:
        print_json(requeue_views(response))
        return 0
    for job_id, job in requeued_jobs(response):
        print(requeue_sentence(job_id, job))
    return 0


def requeue_sentence(job_id: int, job: manager_pb2.Job) -> str:
    """What became of the job of that number: itself, or the one submitted in its place."""
    if job.job_id == job_id:
        return f"Requeued job {job_id}"
    if not job.array:
        return f"Submitted job {job.job_id}, again what job {job_id} was"
    count = total_tasks(job)
    tasks = "task" if count == 1 else f"{count} tasks"
    return f"Submitted job {job.job_id}: the {tasks} of job {job_id} that did not complete"
