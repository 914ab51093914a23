"""`titan manager` and `titan worker`: parse, then leave the rest to the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from titan import paths
from titan.cli.command import Command, CommandGroup, Settings, check_options_are_behind
from titan.cli.log_options import log_options
from titan.cli.params import (
    ADDRESS,
    CPUS,
    DISK_MINIMUM,
    DURATION,
    HISTORY,
    OFFERED,
    PAIR,
    SIZE,
)
from titan.cli.policy_options import policy_options
from titan.cli.worker_update import update

if TYPE_CHECKING:
    from titan.tls.pem import PemFiles

# A frame has to fit, and a segment is checked as a whole when a log is opened.
_SEGMENT_BYTES_MIN = 4 << 10
_SEGMENT_BYTES_MAX = 4 << 30
# A smaller one would leave nothing worth reading on either side of what is left out.
_OUTPUT_MAX_BYTES_MIN = 64 << 10

_metrics_listen = click.option(
    "--metrics-listen",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="Where Prometheus finds its numbers, at /metrics; port 0 takes a free one. It needs the "
    "extra [metrics] [nowhere].",
)


def _data_directory(given: Path | None, role: str) -> Path:
    return (given or paths.state_directory() / role).absolute()


@click.command(
    cls=Command,
    takes=("tls_dir", "insecure_i_know"),
    epilog="""\b
Examples:
  titan manager
  titan manager --data-dir /srv/titan --listen 127.0.0.1:6000
  titan manager --retain 30d --forget-over 1000000
""",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the log is kept [$XDG_STATE_HOME/titan/manager].",
)
@click.option(
    "--listen",
    type=ADDRESS,
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="Where it is called; port 0 takes a free one.",
)
@click.option(
    "--token-listen",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="Where it is called, over TLS, by users who have a token and no certificate [nowhere].",
)
@click.option(
    "--heartbeat-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="TIME",
    help="A worker silent for so long has lost its tasks: they are started elsewhere.",
)
@policy_options
@click.option(
    "--retain",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long the log, and with it the past, is kept.",
)
@click.option(
    "--forget-after",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long an ended job stays in memory; after that the log answers for it.",
)
@click.option(
    "--forget-over",
    type=click.IntRange(min=0),
    default=250_000,
    show_default=True,
    metavar="JOBS",
    help="How many ended jobs stay in memory, an array as one for 8 tasks; the oldest go first.",
)
@click.option(
    "--jobs-max",
    type=click.IntRange(min=1),
    default=2_000_000,
    show_default=True,
    metavar="JOBS",
    help="How many jobs that have not ended it takes, counted so; beyond that submits are refused.",
)
@click.option(
    "--snapshot-every",
    type=SIZE,
    default="8MiB",
    show_default=True,
    metavar="SIZE",
    help="A snapshot is taken after so much log: a start replays no more than about that.",
)
@click.option(
    "--segment-size",
    type=SIZE,
    default="64MiB",
    show_default=True,
    metavar="SIZE",
    help="The size of a file of the log, which takes two of them beyond its content.",
)
@click.option(
    "--reader-lag-max",
    type=SIZE,
    default="10GiB",
    show_default=True,
    metavar="SIZE",
    help="How much log is kept for a reader that does not come on before it is dropped.",
)
@click.option(
    "--history",
    type=HISTORY,
    metavar="URL|none",
    help="Where all jobs that ever ran are written for `titan history`: postgresql://HOST/NAME, "
    "sqlite:///FILE, or nowhere. It needs the extra [history] [DIR/history.sqlite].",
)
@click.option(
    "--history-sync",
    is_flag=True,
    help="Acknowledge a submit only when its row is in that database, too.",
)
@_metrics_listen
@log_options
@click.pass_context
def manager(
    ctx: click.Context,
    *,
    data_dir: Path | None,
    listen: str,
    token_listen: str | None,
    heartbeat_timeout: float,
    policy: str,
    order: str,
    fair_share: bool,
    preempt: str,
    reserve_after: float,
    user_cpus: int,
    retain: float,
    forget_after: float,
    forget_over: int,
    jobs_max: int,
    snapshot_every: int,
    segment_size: int,
    reader_lag_max: int,
    history: str | None,
    history_sync: bool,
    metrics_listen: str | None,
    log_level: str,
    log_format: str,
) -> int:
    """Run the manager, in the foreground.

    SIGTERM or Ctrl-C stops it cleanly; jobs run on, and are there again at its next
    start, as they are after a crash. What `titan policy set` has set wins over --policy to
    --user-cpus.
    """
    if heartbeat_timeout <= 0:
        raise click.BadParameter("it must be more than 0", param_hint="--heartbeat-timeout")
    if not _SEGMENT_BYTES_MIN <= segment_size <= _SEGMENT_BYTES_MAX:
        raise click.BadParameter("it must lie between 4K and 4G", param_hint="--segment-size")
    if snapshot_every < _SEGMENT_BYTES_MIN:
        raise click.BadParameter("it must be 4K or more", param_hint="--snapshot-every")
    settings: Settings = ctx.obj
    # These load gRPC.
    from titan.manager.main import ManagerOptions, run_manager  # noqa: PLC0415
    from titan.rpc.security import own_path  # noqa: PLC0415
    from titan.tls.identity import Role  # noqa: PLC0415

    return run_manager(
        ManagerOptions(
            data_directory=_data_directory(data_dir, "manager"),
            listen=listen,
            token_listen=token_listen,
            tls_path=own_path(settings.tls_dir, Role.MANAGER),
            is_insecure=settings.is_insecure,
            heartbeat_timeout_seconds=heartbeat_timeout,
            policy=policy,
            order=order,
            fair_share=fair_share,
            preempt=preempt,
            reserve_after_seconds=reserve_after,
            user_cpus_milli=user_cpus,
            retain_seconds=retain,
            forget_after_seconds=forget_after,
            forget_over=forget_over,
            jobs_max=jobs_max,
            snapshot_bytes=snapshot_every,
            segment_bytes=segment_size,
            reader_lag_max_bytes=reader_lag_max,
            history_url=None if history == "none" else history or "",
            history_sync=history_sync,
            metrics_listen=metrics_listen,
            log_level=log_level,
            log_format=log_format,
        )
    )


@click.group(
    cls=CommandGroup,
    takes=("manager", "access", "tls_dir", "insecure_i_know"),
    epilog="""\b
Examples:
  titan worker
  titan worker --name gpu1 --cpus 8 --memory 64G --resource gpu=2 --label zone=a
  titan worker --run-as-policy /etc/titan/run-as.toml --scripts-dir /srv/scripts
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
@_metrics_listen
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
            data_directory=_data_directory(data_dir, "worker"),
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
    from titan.client.connection import manager_address  # noqa: PLC0415
    from titan.rpc.security import find_files  # noqa: PLC0415
    from titan.tls.identity import Role  # noqa: PLC0415
    from titan.tls.pem import TlsError  # noqa: PLC0415

    try:
        files: PemFiles | None = None
        for address in manager_address(settings.manager).split(","):
            # All are called in one way: what one of them asks for is asked of each.
            files = (
                find_files(
                    address.strip(),
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
