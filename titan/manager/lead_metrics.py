"""What any manager tells Prometheus: its version, whether it leads, and how full its disk is."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from titan import __version__
from titan.manager.leadership import Leadership
from titan.metrics.family import Family, Kind, gauge


def build_family() -> Family:
    """Which version it is."""
    return Family(
        "titan_build_info", Kind.GAUGE, "1, and the version of Titan that runs.",
        ("version",), (((__version__,), 1),),
    )  # fmt: skip


def lead_families(leadership: Leadership) -> Iterator[Family]:
    """Whether this manager leads; of a lease only where it holds one."""
    leads = leadership.leads()
    yield gauge("titan_leader", "1 while this manager leads; 0: it stands by.", leads)
    yield gauge(
        "titan_term", "The term of the lease of whoever leads; 0: there is none.", leadership.term
    )
    if leads and math.isfinite(leadership.seconds_left):
        yield gauge(
            "titan_lease_seconds_left",
            "How long this manager may lead if its lease is not renewed any more.",
            max(leadership.seconds_left, 0.0),
        )


def disk_family(directory: Path) -> Family:
    """To be asked in a thread."""
    return gauge(
        "titan_disk_free_bytes",
        "What is free where the manager's data directory lies.",
        shutil.disk_usage(directory).free,
    )
