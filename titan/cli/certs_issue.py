"""`titan certs init` and `titan certs issue`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from titan import paths
from titan.certs import check_installed, layout
from titan.cli.command import Command, Settings
from titan.cli.text import local_time, print_json, printable
from titan.cli.tls_directory import tls_directory, tls_path
from titan.tls.identity import Role
from titan.tls.revoked import format_serial

if TYPE_CHECKING:
    from titan.certs.authority import Issued

_DAYS_MAX: Final = 3650
_PORT: Final = 50051


def _days_option(function: Any) -> Any:
    return click.option(
        "--days",
        type=click.IntRange(1, _DAYS_MAX),
        default=90,
        show_default=True,
        metavar="N",
        help="How long the certificates are valid, at most as long as the CA.",
    )(function)


def _host_option(function: Any) -> Any:
    return click.option(
        "--host",
        multiple=True,
        metavar="NAME|ADDRESS",
        help="What the manager is called by, instead of this machine's name. Repeatable. "
        "localhost, 127.0.0.1 and ::1 are always among it.",
    )(function)


def _issue_options(function: Any) -> Any:
    """What all kinds of certificates are issued with."""
    for add in (
        _days_option,
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Write key.pem, cert.pem and ca.pem there.",
        ),
        click.option(
            "--bundle",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write all three into one file instead, to take it elsewhere.",
        ),
    ):
        function = add(function)
    return function


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs init
  titan certs init --host titan.example.com --cluster lab
""",
)
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--cluster", default="titan", show_default=True, metavar="NAME", help="The cluster's name."
)
@_host_option
@click.option("--admin", metavar="NAME", help="Who gets the admin's certificate [you].")
@_days_option
@click.pass_obj
def init(
    settings: Settings,
    *,
    directory: Path | None,
    cluster: str,
    host: tuple[str, ...],
    admin: str | None,
    days: int,
) -> int:
    """Make a CA, the manager's certificate and one for you, as an admin.

    DIR is by default --tls-dir. Run it where the manager is to be. Nothing that is there is
    replaced.
    """
    check_installed()
    from titan.certs.authority import default_hosts  # noqa: PLC0415 - loads cryptography
    from titan.certs.setup import set_up  # noqa: PLC0415
    from titan.client.connection import os_user  # noqa: PLC0415 - loads gRPC

    directory = (directory or tls_path(settings.tls_dir)).absolute()
    hosts = host or default_hosts()
    try:
        ca, manager, user = set_up(
            directory,
            cluster=cluster,
            admin=admin or os_user(),
            hosts=hosts,
            days=days,
            now=time.time(),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    places = ((manager, directory / "manager"), (user, directory / layout.USER))
    if settings.json:
        print_json(
            {
                "directory": str(directory),
                "cluster": cluster,
                "end_time": ca.ends,
                "certificates": [_view(issued, place) for issued, place in places],
            }
        )
        return 0
    print(printable(f"Made a CA for the cluster {cluster} in {directory}."))
    for issued, place in places:
        print(printable(f"  {_line(issued, place)}"))
    print("Whoever has ca-key.pem can be anybody in this cluster: it stays here.")
    is_default = directory == paths.tls_directory().absolute()
    option = "" if is_default else f" --tls-dir {shlex.quote(str(directory))}"
    called = next(iter(hosts), "localhost")
    at = f"[{called}]" if ":" in called.strip("[]") else called
    print("Start the manager here:")
    print(printable(f"  titan manager --listen 0.0.0.0:{_PORT}{option}"))
    print("Make a worker's certificate here, take it to its machine, and start the worker there:")
    print(printable(f"  titan certs issue worker w1 --bundle w1.pem{option}"))
    print(printable(f"  titan worker --manager {shlex.quote(f'{at}:{_PORT}')} --tls-dir w1.pem"))
    return 0


@click.group(
    epilog="""\b
Examples:
  titan certs issue worker w1 --bundle w1.pem
  titan certs issue user ada --bundle ada.pem
  titan certs issue manager
"""
)
def issue() -> None:
    """Make a key and a certificate for the manager, a worker or a user.

    Where files are already they are replaced, each at once, also while a server reads them:
    that is how certificates are renewed.
    """


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs issue manager
  titan certs issue manager --host titan.example.com --host 10.0.0.1
""",
)
@click.argument("name", metavar="[NAME]", default="manager")
@_host_option
@_issue_options
@click.pass_obj
def manager(settings: Settings, /, *, name: str, host: tuple[str, ...], **given: Any) -> int:
    """Make the manager's certificate, by default in DIR/manager."""

    def hosts() -> tuple[str, ...]:
        from titan.certs.authority import default_hosts  # noqa: PLC0415 - loads cryptography

        return host or default_hosts()

    return _issue(settings, Role.MANAGER, name, hosts=hosts, **given)


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs issue worker w1 --bundle w1.pem
  titan certs issue worker w1 --out w1 --days 30
""",
)
@click.argument("name")
@_issue_options
@click.pass_obj
def worker(settings: Settings, /, *, name: str, **given: Any) -> int:
    """Make the certificate of the worker NAME, by default in DIR/workers/NAME."""
    return _issue(settings, Role.WORKER, name, **given)


@click.command(
    cls=Command,
    takes=("tls_dir", "json"),
    epilog="""\b
Examples:
  titan certs issue user ada --bundle ada.pem
  titan certs issue user root --admin
""",
)
@click.argument("name")
@click.option("--admin", is_flag=True, help="Who may do everything, with everybody's jobs.")
@_issue_options
@click.pass_obj
def user(settings: Settings, /, *, name: str, admin: bool, **given: Any) -> int:
    """Make the certificate of the user NAME, by default in DIR/users/NAME."""
    return _issue(settings, Role.ADMIN if admin else Role.USER, name, **given)


for command in (manager, worker, user):
    issue.add_command(command)


def _issue(
    settings: Settings,
    role: Role,
    name: str,
    *,
    days: int,
    out: Path | None,
    bundle: Path | None,
    hosts: Callable[[], tuple[str, ...]] = tuple,
) -> int:
    if out is not None and bundle is not None:
        raise click.UsageError("--out and --bundle: name one of them")
    check_installed()
    from titan.certs.authority import load  # noqa: PLC0415 - loads cryptography

    directory = tls_directory(settings.tls_dir)
    try:
        issued = load(directory).issue(role, name, days=days, now=time.time(), hosts=hosts())
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    place = bundle or out or layout.default_directory(directory, issued.identity)
    if bundle is not None:
        layout.write_bundle(bundle, issued.credentials)
    else:
        layout.write_credentials(place, issued.credentials)
    if settings.json:
        print_json(_view(issued, place))
    else:
        print(printable(_line(issued, place)))
    return 0


def _line(issued: Issued, place: Path) -> str:
    serial, ends = format_serial(issued.serial), local_time(issued.ends)
    return f"{issued.identity}: serial {serial}, until {ends}, in {place}"


def _view(issued: Issued, place: Path) -> dict[str, Any]:
    return {
        "serial": format_serial(issued.serial),
        "role": str(issued.identity.role),
        "name": issued.identity.name,
        "end_time": issued.ends,
        "path": str(place),
    }
