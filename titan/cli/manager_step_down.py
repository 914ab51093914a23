"""`titan manager step-down`."""

from __future__ import annotations

import time
from typing import Final

import click

from titan.cli.command import FAILED, PRINTING, Command, Settings, retry_option, say
from titan.cli.params import DURATION
from titan.cli.text import print_json, printable

# Between two looks at who leads, while the one that was asked still does.
_LOOK_SECONDS: Final = 0.1


@click.command(
    "step-down",
    cls=Command,
    takes=PRINTING,
    epilog="""\b
Examples:
  titan manager step-down
  titan manager step-down --manager a:50051,b:50051 --timeout 20s
""",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="1m",
    show_default=True,
    metavar="TIME",
    help="How long to wait for another to lead.",
)
@retry_option
@click.pass_obj
def step_down(settings: Settings, *, timeout: float, retry_for: float) -> int:
    """Let another of several managers lead; for admins.

    The one that leads answers what it has begun, lets go and stands by; where no other one stands
    by it refuses. This waits until one leads again, in a later term, and says who.
    """
    # These load gRPC.
    from titan.client.connection import os_user  # noqa: PLC0415
    from titan.rpc.v1 import manager_pb2  # noqa: PLC0415

    end = time.monotonic() + timeout
    with settings.session(retry_for) as session:
        before = session.stats()
        request = manager_pb2.StepDownRequest(term=before.term, user=os_user())
        session.step_down(request)
        while True:
            # One that stands by knows it, too, and need not be able to name an address of ours.
            now = session.stats(stale=True)
            if now.term > before.term and now.leader:
                break
            if time.monotonic() >= end:
                say(f"nobody else leads after {timeout:g} s; who led was {before.leader or '-'}")
                return FAILED
            time.sleep(_LOOK_SECONDS)
    if settings.json:
        print_json({"leader": now.leader, "term": now.term})
    else:
        print(f"{printable(now.leader)} leads now, in term {now.term}")
    return 0
