"""`titan web`: the cluster in a browser."""

from __future__ import annotations

import click

from titan.cli.command import CALLING, Command, Settings
from titan.cli.log_options import log_options
from titan.cli.params import ADDRESS
from titan.errors import TitanError


@click.command(
    cls=Command,
    takes=CALLING,
    epilog="""\b
Examples:
  titan web
  titan web --listen 127.0.0.1:9000 --allow-changes
  titan web --listen node1:8443 --tls-dir /etc/titan/tls
""",
)
@click.option(
    "--listen",
    type=ADDRESS,
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where browsers find it; port 0 takes a free one. What other machines can reach is "
    "served by HTTPS alone, with the certificate of a manager in --tls-dir.",
)
@click.option(
    "--allow-changes",
    is_flag=True,
    help="Let those who look submit, cancel and hold jobs and drain workers [they only look].",
)
@log_options
@click.pass_obj
def web(
    settings: Settings, *, listen: str, allow_changes: bool, log_level: str, log_format: str
) -> int:
    """Show the cluster in a browser, and as JSON under /api/v1.

    It calls the manager as you do, and prints a URL with a token in it: whoever has that sees
    what you may see. Ctrl-C ends it.
    """
    check_can_serve()
    settings.check_address()
    # These load gRPC.
    from titan.client.connection import manager_address  # noqa: PLC0415
    from titan.web.server import WebOptions, run_web  # noqa: PLC0415

    return run_web(
        WebOptions(
            listen=listen,
            manager=manager_address(settings.manager),
            credentials=settings.credentials(),
            allows_changes=allow_changes,
            log_level=log_level,
            log_format=log_format,
        ),
        lambda url: print(f"The cluster is shown at {url}", flush=True),
    )


def can_serve() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only here

    return all(find_spec(name) is not None for name in ("starlette", "uvicorn"))


def check_can_serve() -> None:
    """Raises TitanError without what serves pages, which is an extra of the package."""
    if not can_serve():
        raise TitanError(
            "`titan web` needs starlette and uvicorn: pip install 'titan-scheduler[web]'"
        )
