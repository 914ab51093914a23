"""A user who means well, in a process of his own: submits, waits, asks, and tells how it went.

`python -m tools.fuzz.honest ADDRESS access|tls PATH WORKER OUT`, until it is ended by SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Final

import titan
from titan.errors import TitanError

JOB_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.2
NAME: Final = "honest"


def main(address: str, proof: str, path: str, worker: str, out: str) -> None:
    """Until the process is ended."""
    is_over = False

    def end(*_: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, end)
    if proof == "tls":
        client = titan.Client(address, tls_dir=path)
    else:
        client = titan.Client(address, access_file=path)
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with client, os.fdopen(descriptor, "w", buffering=1) as file:
        while not is_over:
            print(json.dumps(_try_once(client, worker)), file=file)
            time.sleep(PAUSE_SECONDS)


def _try_once(client: titan.Client, worker: str) -> dict[str, object]:
    """What was measured, in seconds, or what went wrong."""
    start = time.monotonic()
    try:
        job = client.submit(["true"], name=NAME, on=worker, cwd="/tmp")
        submitted = time.monotonic()
        ended = client.wait(job.id, timeout=JOB_SECONDS)[0]
        done = time.monotonic()
        client.stats()
        told = time.monotonic()
    except (TitanError, TimeoutError) as error:
        return {"fault": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - start}
    if ended["state"] != "COMPLETED":
        return {"fault": f"job {job.id} is {ended['state']}", "seconds": done - start}
    return {"submit": submitted - start, "job": done - start, "stats": told - done}


if __name__ == "__main__":
    main(*sys.argv[1:])
