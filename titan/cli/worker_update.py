"""`titan worker update`."""

from __future__ import annotations

from pathlib import Path

import click

from titan import paths, units
from titan.cli.command import Command, Settings, say
from titan.cli.params import CPUS, OFFERED, PAIR, SIZE
from titan.cli.text import printable


@click.command(
    cls=Command,
    takes=("tls_dir",),
    epilog="""\b
Examples:
  titan worker update --cpus 4
  titan worker update --data-dir /srv/w2 --resource gpu=1 --label zone=b
""",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The worker's directory [$XDG_STATE_HOME/titan/worker].",
)
@click.option("--cpus", type=CPUS, metavar="N", help="Cpus to offer from now on.")
@click.option("--memory", type=SIZE, metavar="SIZE", help="Memory to offer from now on.")
@click.option(
    "--resource",
    type=OFFERED,
    multiple=True,
    metavar="NAME=COUNT",
    help="A named resource to offer from now on, also as 'gpu=[0,2]'; 0 takes it away. May be "
    "repeated.",
)
@click.option(
    "--label",
    type=PAIR,
    multiple=True,
    metavar="NAME=VALUE",
    help="What it is known by from now on. May be repeated.",
)
@click.pass_context
def update(
    ctx: click.Context,
    *,
    data_dir: Path | None,
    cpus: int | None,
    memory: int | None,
    resource: tuple[tuple[str, int, tuple[str, ...]], ...],
    label: tuple[tuple[str, str], ...],
) -> int:
    """Tell a running worker what it has now.

    What is not named stays. Tasks that run there run on, even if they are more than it has
    now: it gets new ones once they fit. This lasts until the worker is started again,
    which goes by the options of that start.
    """
    if cpus is None and memory is None and not resource and not label:
        raise click.UsageError(
            "there is nothing to change: name --cpus, --memory, --resource or --label", ctx
        )
    # These load gRPC.
    from titan.client.worker import update_worker  # noqa: PLC0415
    from titan.rpc.v1 import task_pb2  # noqa: PLC0415

    above = ctx.parent.params.get("data_dir") if ctx.parent else None
    directory = (data_dir or above or paths.state_directory() / "worker").absolute()
    # The last of a name counts.
    offered = {name: (count, ids) for name, count, ids in resource}
    request = task_pb2.UpdateWorkerRequest(
        cpus_milli=cpus,
        memory_bytes=memory,
        named={name: count for name, (count, ids) in offered.items() if not ids},
        labels=dict(label),
        devices={name: task_pb2.DeviceIds(ids=ids) for name, (_, ids) in offered.items() if ids},
    )
    settings: Settings = ctx.obj
    answer = update_worker(directory, request, tls_dir=settings.tls_dir)
    has = answer.capacity
    named = "".join(f", {name}={count}" for name, count in sorted(has.named.items()))
    labels = "".join(f", {name}={value}" for name, value in sorted(answer.labels.items()))
    cpus_text = units.format_cpus(has.cpus_milli)
    memory_text = units.format_size(has.memory_bytes)
    cpus_text += " cpu" if cpus_text == "1" else " cpus"
    print(printable(f"The worker has {cpus_text}, {memory_text} memory{named}{labels}"))
    if not answer.registered:
        say("its manager does not answer; it is told as soon as it does")
    return 0
