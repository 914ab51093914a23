"""The processes that a benchmark starts: `python -m tools.bench.server ROLE …`.

manager DIR FORGET_OVER [history] [HOST:PORT] [postgresql://…]
                         a manager, as `titan manager`, which has a history written or not, tells
                         its metrics at that address, and has its log in that database
worker DIR MANAGER CPUS  a worker, as `titan worker`
web MANAGER              the pages of that manager, as `titan web`, on a free port
empty                    a gRPC server whose one method does nothing; prints its address
spawn COUNT AT_ONCE [D]  runs /bin/true so often, that many at once; prints the seconds; with D
                         its output goes into two files of its own in that directory
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

EMPTY_SERVICE: Final = "titan.bench.Empty"
EMPTY_METHOD: Final = "Call"
# Where the loop of posix_spawn and wait writes: to nowhere, as a program without output.
_DEV_NULL: Final = (
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
)


def run_manager(directory: str, forget_over: str, *options: str) -> int:
    """Serves on a free port until SIGTERM."""
    from titan.manager import main as manager  # noqa: PLC0415  (each role loads its own)
    from titan.manager.options import ManagerOptions  # noqa: PLC0415

    urls = [each for each in options if each.startswith("postgresql://")]
    addresses = [each for each in options if each != "history" and each not in urls]
    return manager.run_manager(
        ManagerOptions(
            data_directory=Path(directory),
            listen="127.0.0.1:0",
            forget_over=int(forget_over),
            history_url="" if "history" in options else None,
            metrics_listen=next(iter(addresses), None),
            journal_url=next(iter(urls), None),
            log_level="warning",
        )
    )


def run_worker(directory: str, address: str, cpus: str) -> int:
    """Serves until SIGINT, when it hands back what it has."""
    from titan.worker import main as worker  # noqa: PLC0415

    return worker.run_worker(
        worker.WorkerOptions(
            data_directory=Path(directory),
            name="bench",
            manager=address,
            cpus_milli=1000 * int(cpus),
            log_level="warning",
        )
    )


def run_web(manager: str) -> int:
    """Serves on a free port until SIGTERM."""
    from titan.client.connection import Credentials  # noqa: PLC0415
    from titan.web import server as web  # noqa: PLC0415

    options = web.WebOptions(
        listen="127.0.0.1:0",
        manager=manager,
        credentials=Credentials(tls_dir="none"),
        allows_changes=False,
        log_level="warning",
    )
    return web.run_web(options, lambda _: None)


def run_empty() -> int:
    """Serves on a free port until SIGTERM."""
    asyncio.run(_serve_empty())
    return 0


async def _serve_empty() -> None:
    import grpc.aio  # noqa: PLC0415

    from titan.rpc.channel import new_aio_server  # noqa: PLC0415

    async def call(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b""

    # As the manager's, so that what the two cost can be compared.
    server = new_aio_server(is_bounded=True)
    handlers: dict[str, Any] = {EMPTY_METHOD: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(EMPTY_SERVICE, handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(0)


def run_spawn(count: str, at_once: str, directory: str = "") -> int:
    """The least that starting and reaping so many processes costs from Python."""
    # With files it is compared with a task host, whose tasks have an environment: with LANG in it
    # /bin/true itself takes a tenth longer.
    variables = dict(os.environb) if directory else {}
    waiting, running = int(count), 0
    start = time.perf_counter()
    while waiting or running:
        while waiting and running < int(at_once):
            actions = _files(f"{directory}/{waiting}") if directory else _DEV_NULL
            os.posix_spawn("/bin/true", ["/bin/true"], variables, file_actions=actions)
            waiting -= 1
            running += 1
        os.wait()
        running -= 1
    print(time.perf_counter() - start, flush=True)
    return 0


def _files(base: str) -> tuple[tuple[Any, ...], ...]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return (
        _DEV_NULL[0],
        (os.POSIX_SPAWN_OPEN, 1, f"{base}.out", flags, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, f"{base}.err", flags, 0o644),
    )


_ROLES: Final[dict[str, Callable[..., int]]] = {
    "manager": run_manager,
    "worker": run_worker,
    "web": run_web,
    "empty": run_empty,
    "spawn": run_spawn,
}

if __name__ == "__main__":
    sys.exit(_ROLES[sys.argv[1]](*sys.argv[2:]))
