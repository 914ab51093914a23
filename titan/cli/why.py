"""`titan why`."""

from __future__ import annotations

import click

from titan.cli.command import READING, Command, Settings, retry_option, say_as_of, time_of
from titan.cli.explain import why_lines
from titan.cli.text import print_json
from titan.client import requests
from titan.client.connection import os_user
from titan.client.views import explanation_view


@click.command(
    cls=Command,
    takes=READING,
    epilog="""\b
Examples:
  titan why 42
  titan why 42.7
  titan why last --at '1h ago'
""",
)
@click.argument("job", metavar="JOB")
@retry_option
@click.pass_obj
def why(settings: Settings, *, job: str, retry_for: float) -> int:
    """Tell why a task waits, or how it came to be where it is.

    Of one that waits: what it waits for, why workers can't take it, and when it could
    start. Of one that was placed: when, where, by which rule, and which other workers were
    in question. JOB is a number (42), a task of an array (42.7; else its first that waits),
    last, or name:NAME.
    """
    request = requests.why_request(job, user=os_user(), at=settings.at)
    with settings.reader(retry_for) as session:
        response = session.why(request)
        explanation = response.explanation
        if settings.json:
            print_json(explanation_view(explanation))
            return 0
        # Its name, and whether it has indexes.
        whole = requests.whole_job_request(explanation.job_id)
        if response.at_us:
            whole.at.lsn = response.lsn
        shown = session.status(whole).job
    say_as_of(response)
    for line in why_lines(explanation, shown, time_of(response)):
        print(line)
    return 0
