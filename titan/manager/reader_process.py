"""Processes that read the log beside the manager, for as long as that runs.

The manager waits for them in nothing, and they may die at any moment: another is started then.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from titan.logs import LogLine

_log = logging.getLogger("titan.manager")

RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 60.0
# One that ran for so long was not wrong from the start.
SOUND_SECONDS: Final = 60.0
# It finishes what it is at and ends; the manager itself has 5 s.
STOP_SECONDS: Final = 2.0


async def keep_running(what: str, run_process: Callable[[], Awaitable[int]]) -> None:
    """Runs it again whenever it has ended, until it is cancelled.

    `run_process` returns the exit code, or raises OSError where there can be no process.
    """
    wait_seconds = RETRY_SECONDS_MIN
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            code: int | OSError = await run_process()
        except OSError as error:
            code = error
        if loop.time() - begun >= SOUND_SECONDS:
            wait_seconds = RETRY_SECONDS_MIN
        _log.warning(LogLine(f"{what} ended; another in {wait_seconds:.0f} s", exit_code=code))
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, RETRY_SECONDS_MAX)


async def start_process(
    module: str,
    *arguments: object,
    pass_fds: Collection[int] = (),
    environ: Mapping[str, str] | None = None,
) -> Process:
    """Runs the module with these arguments and descriptors. `environ`: None for this process's.

    Raises OSError.
    """
    return await asyncio.create_subprocess_exec(
        # -P: nothing in the folder that the manager was started in may be taken for a module.
        *(sys.executable, "-P", "-m", module),
        *map(str, arguments),
        stdin=DEVNULL,
        stdout=DEVNULL,
        pass_fds=pass_fds,
        env=environ,
    )


async def wait_end(process: Process) -> int:
    """The exit code; cancelled, it ends the process and waits for that."""
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
