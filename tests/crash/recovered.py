"""What a manager's data directory holds, wherever the reading of it starts."""

from __future__ import annotations

from pathlib import Path

import wal
from titan.snapshots import load_snapshot, snapshot_directory
from titan.state.cluster import ClusterState
from titan.state.digest import digest
from titan.state.invariants import check_invariants
from titan.state.replay import replay
from wal import find_snapshots, list_segments


def check_every_way_leads_to_the_same_state(directory: Path) -> ClusterState:
    """From each snapshot on, and from the beginning if that is there; returns the state.

    No manager may run there. Every snapshot under its final name must be usable; only one that
    was about to be removed may be older than the log that is left.
    """
    first_lsn = list_segments(directory / "wal")[0].first_lsn
    snapshots = find_snapshots(snapshot_directory(directory))
    states = []
    if first_lsn == 1:
        states.append(ClusterState())
        with wal.Reader(directory / "wal") as reader:
            replay(reader, states[-1])
    else:
        assert len([lsn for lsn in snapshots if lsn + 1 >= first_lsn]) >= 2, snapshots
    for lsn in snapshots:
        loaded = load_snapshot(directory, lsn)
        if lsn + 1 < first_lsn:
            continue
        states.append(loaded.state)
        with wal.Reader(directory / "wal", position=loaded.position) as reader:
            replay(reader, loaded.state)
    assert len({digest(state) for state in states}) == 1, (first_lsn, snapshots)
    check_invariants(states[0])
    return states[0]
