"""The processes that write the history of a cluster, and how long they may take."""

from __future__ import annotations

from contextlib import suppress

import psutil

from tests.cluster import Cluster

# One gives way to all else on the machine: to start takes it long where much else runs.
WRITER_SECONDS = 80.0


def find_writers(cluster: Cluster) -> list[psutil.Process]:
    """Those that the manager runs now."""
    assert cluster.manager is not None
    found = []
    for each in psutil.Process(cluster.manager.pid).children():
        # One of them may have just ended.
        with suppress(psutil.NoSuchProcess):
            if "titan.history.process" in each.cmdline():
                found.append(each)
    return found
