"""What is told of jobs that were changed, shared by the commands that do."""

from __future__ import annotations

from titan.cli.command import Settings
from titan.cli.describe import state_text
from titan.cli.filters import NO_MATCH
from titan.cli.text import print_json
from titan.client.views import change_views
from titan.rpc.v1 import manager_pb2


def tell_changes(
    settings: Settings, response: manager_pb2.ChangeJobResponse, sentence: str
) -> None:
    """`sentence` with its {job} for each that was changed, and of the others how they ended."""
    if settings.json:
        print_json(change_views(response))
        return
    for job in response.jobs:
        if job.job_id in response.already_ended:
            print(f"Job {job.job_id} has ended: {state_text(job)}")
        else:
            print(sentence.format(job=job.job_id))
    if not response.jobs:
        print(NO_MATCH)
