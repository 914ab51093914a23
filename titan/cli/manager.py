"""`titan manager`: parses, then leaves the rest to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from titan import paths
from titan.cli.command import CommandGroup, Settings, check_options_are_behind
from titan.cli.log_options import log_options
from titan.cli.manager_step_down import step_down
from titan.cli.metrics_option import metrics_listen_option
from titan.cli.params import ADDRESS, DURATION, HISTORY, SIZE
from titan.cli.policy_options import policy_options

# A frame has to fit, and a segment is checked as a whole when a log is opened.
_SEGMENT_BYTES_MIN: Final = 4 << 10
_SEGMENT_BYTES_MAX: Final = 4 << 30
# It is renewed three times meanwhile, and a database may take a moment.
_LEASE_SECONDS_MIN: Final = 1.0


@click.group(
    cls=CommandGroup,
    takes=("tls_dir", "insecure_i_know"),
    epilog="""\b
Examples:
  titan manager
  titan manager --data-dir /srv/titan --listen 127.0.0.1:6000
  titan manager --retain 30d --forget-over 1000000
  titan manager --journal postgresql://db/titan --listen 10.0.0.5:50051
  titan manager step-down
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
@click.option(
    "--journal",
    metavar="URL",
    envvar="TITAN_JOURNAL",
    show_envvar=True,
    help="The database that has the log, postgresql://HOST/NAME, for managers that stand in for "
    "each other: one leads, the others stand by. It needs the extra [postgres] and is made by "
    "`titan journal init` [the log is in DIR, and this manager alone].",
)
@click.option(
    "--advertise",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="By which address clients and workers find this manager among those [--listen].",
)
@click.option(
    "--lease",
    type=DURATION,
    default="8s",
    show_default=True,
    metavar="TIME",
    help="How long after the manager that leads was last heard of another one takes over.",
)
@click.option(
    "--secrets-key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TITAN_SECRETS_KEY",
    metavar="FILE",
    help="With --journal: the key for values of --secret-env, 32 random bytes in base64, the same "
    "for all managers [$TITAN_SECRETS_KEY].",
)
@metrics_listen_option
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
    journal: str | None,
    advertise: str | None,
    lease: float,
    secrets_key: Path | None,
    metrics_listen: str | None,
    log_level: str,
    log_format: str,
) -> int:
    """Run the manager, in the foreground.

    SIGTERM or Ctrl-C stops it cleanly; jobs run on, and are there again at its next
    start, as they are after a crash. What `titan policy set` has set wins over --policy to
    --user-cpus.
    """
    if ctx.invoked_subcommand is not None:
        check_options_are_behind(ctx)
        return 0
    if heartbeat_timeout <= 0:
        raise click.BadParameter("it must be more than 0", param_hint="--heartbeat-timeout")
    if not _SEGMENT_BYTES_MIN <= segment_size <= _SEGMENT_BYTES_MAX:
        raise click.BadParameter("it must lie between 4K and 4G", param_hint="--segment-size")
    if snapshot_every < _SEGMENT_BYTES_MIN:
        raise click.BadParameter("it must be 4K or more", param_hint="--snapshot-every")
    if lease < _LEASE_SECONDS_MIN:
        raise click.BadParameter("it must be 1s or more", param_hint="--lease")
    if advertise is not None and journal is None:
        raise click.UsageError("--advertise is for managers that share a log: give --journal, too")
    if journal is not None and _is_anywhere(advertise or listen):
        raise click.UsageError(
            f"others cannot call a manager by {advertise or listen}: give --advertise HOST:PORT, "
            "as it stands in --manager of clients and workers"
        )
    check_secrets_key(secrets_key, has_journal=journal is not None)
    settings: Settings = ctx.obj
    # These load gRPC.
    from titan.manager.main import run_manager  # noqa: PLC0415
    from titan.manager.options import ManagerOptions  # noqa: PLC0415
    from titan.rpc.security import own_path  # noqa: PLC0415
    from titan.tls.identity import Role  # noqa: PLC0415

    return run_manager(
        ManagerOptions(
            data_directory=(data_dir or paths.state_directory() / "manager").absolute(),
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
            journal_url=journal,
            advertise=advertise,
            lease_seconds=lease,
            secrets_key_path=None if secrets_key is None else secrets_key.absolute(),
            metrics_listen=metrics_listen,
            log_level=log_level,
            log_format=log_format,
        )
    )


def _is_anywhere(address: str) -> bool:
    """Whether it is that of all interfaces, which names no machine."""
    return address.rpartition(":")[0] in ("0.0.0.0", "[::]")


manager.add_command(step_down)


def check_secrets_key(path: Path | None, *, has_journal: bool) -> None:
    """Raises BadParameter: a manager with a log of its own has nothing to seal."""
    if path is not None and not has_journal:
        raise click.BadParameter(
            "it goes with --journal; a manager with a log of its own keeps secrets in files of its "
            "data directory",
            param_hint="--secrets-key",
        )
