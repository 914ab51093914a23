"""`titan worker`: parses, then leaves the rest to the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from titan import paths
from titan.cli.command import CommandGroup, Settings, check_options_are_behind
from titan.cli.log_options import log_options
from titan.cli.metrics_option import metrics_listen_option
from titan.cli.params import ADDRESS, CPUS, DISK_MINIMUM, DURATION, OFFERED, PAIR, SIZE
from titan.cli.worker_update import update

if TYPE_CHECKING:
    from titan.tls.pem import PemFiles

# A smaller one would leave nothing worth reading on either side of what is left out.
_OUTPUT_MAX_BYTES_MIN: Final = 64 << 10


@click.group(
    cls=CommandGroup,
    takes=("manager", "access", "tls_dir", "insecure_i_know"),
    epilog="""\b
Examples:
  titan worker
  titan worker --name gpu1 --cpus 8 --memory 64G --resource gpu=2 --label zone=a
  titan worker --run-as-policy /etc/titan/run-as.toml --scripts-dir /srv/scripts
  titan worker --manager a.example.com:50051,b.example.com:50051 --tls-dir w1.pem
  titan worker update --cpus 4
""",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where output is kept [$XDG_STATE_HOME/titan/worker].",
)
@click.option("--name", metavar="NAME", help="What to call it [the host's name].")
@click.option(
    "--listen",
    type=ADDRESS,
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the manager calls it; port 0 takes a free one.",
)
@click.option(
    "--advertise",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="The address that the manager is told, if it is another one.",
)
@click.option(
    "--no-listen",
    is_flag=True,
    help="Listen nowhere: fetch tasks from the manager, and send it what it asks for.",
)
@click.option("--cpus", type=CPUS, metavar="N", help="Cpus to offer [those it may use].")
@click.option("--memory", type=SIZE, metavar="SIZE", help="Memory to offer [all there is].")
@click.option(
    "--resource",
    type=OFFERED,
    multiple=True,
    metavar="NAME=COUNT",
    help="A named resource to offer, as gpu=2: the devices 0 and 1. Or those that are named, as "
    "'gpu=[0,2,GPU-abc]'. May be repeated.",
)
@click.option(
    "--label",
    type=PAIR,
    multiple=True,
    metavar="NAME=VALUE",
    help="What it is known by, as zone=a. May be repeated.",
)
@click.option(
    "--detach-limit",
    type=DURATION,
    default="10m",
    show_default=True,
    metavar="TIME",
    help="Tasks left alone for so long, because the worker was killed, are stopped.",
)
@click.option(
    "--scripts-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Scripts that jobs may name, with `titan submit --worker-script PATH`.",
)
@click.option(
    "--run-as-policy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Which users may run tasks as which accounts here (`titan submit --user`), a TOML file of "
    'root\'s: alice = ["self"]. Only of a worker that runs as root [nobody as anybody else].',
)
@click.option(
    "--output-max",
    type=SIZE,
    default="1GiB",
    show_default=True,
    metavar="SIZE",
    help="How much is kept of what a task writes to stdout, and to stderr; of more its middle "
    "is left out. 0: all.",
)
@click.option(
    "--output-retain",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long output is kept after its task has ended. 0: for ever.",
)
@click.option(
    "--output-retain-bytes",
    type=DISK_MINIMUM,
    default="10%",
    show_default=True,
    metavar="SIZE|N%",
    help="How much output of ended tasks is kept; the oldest goes first. 0: all.",
)
@click.option(
    "--output-retain-files",
    type=click.IntRange(min=0),
    default=200_000,
    show_default=True,
    metavar="N",
    help="How many files of it are kept; a task has two. 0: all.",
)
@click.option(
    "--disk-free-min",
    type=DISK_MINIMUM,
    metavar="SIZE|N%",
    help="With less free where output is kept it takes no new tasks; nor with under 1% of the "
    "inodes. 0: it always does [5%, at most 10GiB].",
)
@click.option(
    "--on-stop",
    type=click.Choice(("keep", "leave", "drain")),
    default="keep",
    show_default=True,
    help="What SIGTERM does: keep lets the tasks run on without the worker, leave hands them back, "
    "drain takes no new ones and ends once the last has ended.",
)
@metrics_listen_option
@log_options
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    data_dir: Path | None,
    name: str | None,
    listen: str,
    advertise: str | None,
    no_listen: bool,
    cpus: int | None,
    memory: int | None,
    resource: tuple[tuple[str, int, tuple[str, ...]], ...],
    label: tuple[tuple[str, str], ...],
    detach_limit: float,
    scripts_dir: Path | None,
    run_as_policy: Path | None,
    output_max: int,
    output_retain: float,
    output_retain_bytes: Any,
    output_retain_files: int,
    disk_free_min: Any,
    on_stop: str,
    metrics_listen: str | None,
    log_level: str,
    log_format: str,
) -> int:
    """Run a worker, in the foreground.

    Ctrl-C leaves: tasks are stopped and handed back, a second one leaves at once.
    SIGTERM ends the worker and lets its tasks run on, or as --on-stop says; the next
    start takes up what runs on. While it drains, Ctrl-C or SIGTERM leaves.
    """
    if ctx.invoked_subcommand is not None:
        check_options_are_behind(ctx, but=("data_dir",))
        return 0
    settings: Settings = ctx.obj
    listens = ctx.get_parameter_source("listen") is ParameterSource.COMMANDLINE or advertise
    if no_listen and listens:
        raise click.UsageError("--no-listen takes neither --listen nor --advertise", ctx)
    tls = _worker_files(settings)
    if 0 < output_max < _OUTPUT_MAX_BYTES_MIN:
        raise click.BadParameter("it must be 64K or more, or 0", param_hint="--output-max")
    # These load gRPC.
    from titan.client.connection import manager_address  # noqa: PLC0415
    from titan.worker.agent.agent import OnStop  # noqa: PLC0415
    from titan.worker.agent.disk_room import DEFAULT_MINIMUM  # noqa: PLC0415
    from titan.worker.main import WorkerOptions, run_worker  # noqa: PLC0415

    # The last of a name counts.
    offered = {each: (count, ids) for each, count, ids in resource}
    return run_worker(
        WorkerOptions(
            data_directory=(data_dir or paths.state_directory() / "worker").absolute(),
            # A certificate says what its worker is called.
            name=name or ("" if tls else _host_name()),
            tls=tls,
            is_insecure=settings.is_insecure,
            manager=manager_address(settings.manager),
            access_file=settings.access_file,
            listen=None if no_listen else listen,
            advertise=advertise,
            cpus_milli=cpus,
            memory_bytes=memory,
            named=tuple(sorted((name, count) for name, (count, _) in offered.items())),
            devices=tuple(sorted((name, ids) for name, (_, ids) in offered.items() if ids)),
            labels=tuple(sorted(dict(label).items())),
            detach_limit_seconds=detach_limit,
            script_directory=scripts_dir.absolute() if scripts_dir else None,
            run_as_policy=run_as_policy.absolute() if run_as_policy else None,
            output_max_bytes=output_max,
            output_retain_seconds=output_retain,
            output_retain_bytes=output_retain_bytes,
            output_retain_files=output_retain_files,
            disk_free_min=DEFAULT_MINIMUM if disk_free_min is None else disk_free_min,
            on_stop=OnStop(on_stop),
            metrics_listen=metrics_listen,
            log_level=log_level,
            log_format=log_format,
        )
    )


worker.add_command(update)


def _worker_files(settings: Settings) -> PemFiles | None:
    """The worker's certificates; None: it does without. Wrong ones are a usage error."""
    # These load gRPC.
    from titan.client.connection import manager_addresses  # noqa: PLC0415
    from titan.rpc.security import find_files  # noqa: PLC0415
    from titan.tls.identity import Role  # noqa: PLC0415
    from titan.tls.pem import TlsError  # noqa: PLC0415

    try:
        files: PemFiles | None = None
        for address in manager_addresses(settings.manager):
            # All are called in one way: what one of them asks for is asked of each.
            files = (
                find_files(
                    address,
                    Role.WORKER,
                    tls_dir=settings.tls_dir,
                    access_file=settings.access_file,
                    is_insecure=settings.is_insecure,
                )
                or files
            )
    except TlsError as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.UsageError(f"--manager: {error}") from error
    return files


def _host_name() -> str:
    import socket  # noqa: PLC0415 - only here

    return socket.gethostname()
