"""Where a server tells Prometheus its numbers: an option shared by `manager` and `worker`."""

from __future__ import annotations

from typing import Final

import click

from titan.cli.params import ADDRESS

metrics_listen_option: Final = click.option(
    "--metrics-listen",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="Where Prometheus finds its numbers, at /metrics; port 0 takes a free one. It needs the "
    "extra [metrics] [nowhere].",
)
