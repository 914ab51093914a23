"""Commands run in this process: the code of `titan`, without a new interpreter for each.

To load Python and gRPC takes a process 0.2 s of CPU, twenty times what most commands need. That
`titan` is a program, with an environment, a terminal and signals, is for tests that start it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from titan.cli.main import main

# They run until they are ended, and change their process for themselves.
_SERVERS = frozenset({"dev", "manager", "worker"})


def can_run_here(arguments: Sequence[str | bytes]) -> bool:
    """Whether a command can: a server can't, nor can any beside the main thread.

    Environment and directory are the whole process's. Where an event loop runs, as it does while a
    test drives a browser, a command can have none of its own.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    # None where there is none; get_running_loop raises.
    loops = asyncio._get_running_loop() is not None
    return in_main_thread and not loops and _SERVERS.isdisjoint(map(os.fsdecode, arguments))


def run_here(
    arguments: Sequence[str | bytes], environment: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[bytes]:
    """Runs `titan` with exactly this environment, in this directory, with nothing on stdin."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.chdir(directory),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        open(os.devnull) as nothing,
        mock.patch.object(sys, "stdin", nothing),
    ):
        code = main(list(map(os.fsdecode, arguments)))
    return subprocess.CompletedProcess(arguments, code, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()
