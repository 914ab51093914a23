"""`titan plan`."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from titan.cli.command import PRINTING, Command, Settings, retry_option
from titan.cli.explain import plan_lines
from titan.cli.spec_options import CONTEXT, spec_options, submit_request
from titan.cli.text import print_json
from titan.client import requests
from titan.client.views import explanation_view
from titan.rpc.v1 import manager_pb2

_LATER: Final = 1
_EXIT_CODES: Final = {
    manager_pb2.VERDICT_NOW: 0,
    manager_pb2.VERDICT_LATER: _LATER,
    manager_pb2.VERDICT_NEVER: 2,
}


@click.command(
    cls=Command,
    takes=PRINTING,
    # It plans what `titan submit` would submit, with the variables that stand for its options.
    context_settings={**CONTEXT, "auto_envvar_prefix": "TITAN_SUBMIT"},
    epilog="""\b
Examples:
  titan plan --cpus 8 --memory 64G python train.py
  titan plan --resource gpu=2 --script job.sh && titan submit --resource gpu=2 --script job.sh
""",
)
@spec_options
@retry_option
@click.pass_context
def plan(ctx: click.Context, /, *, retry_for: float, **spec: Any) -> int:
    """Tell where a job would go if it were submitted now, and change nothing.

    It takes what `titan submit` takes, and its variables such as TITAN_SUBMIT_CPUS. It
    exits with 0 if the job would start now, 1 if it would wait, and 2 if none of the
    workers could ever take it.
    """
    settings: Settings = ctx.obj
    request = requests.plan_request(submit_request(ctx, **spec))
    with settings.session(retry_for) as session:
        explanation = session.plan(request).explanations[0]
    if settings.json:
        print_json(explanation_view(explanation))
    else:
        for line in plan_lines(explanation, request.jobs[0].name, time.time()):
            print(line)
    return _EXIT_CODES.get(explanation.verdict, _LATER)
