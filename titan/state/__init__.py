"""What the log says: the state of the cluster, changed by `ClusterState.apply_record` alone.

Deterministic: no clock, no randomness, no I/O, no iteration over sets. Read
`cluster.py` first, then `job.py` and `worker.py` for what it holds.
"""

from titan.state.cluster import ClusterState, IllegalEvent
from titan.state.digest import digest
from titan.state.invariants import InvariantViolated, check_invariants

__all__ = ["ClusterState", "IllegalEvent", "InvariantViolated", "check_invariants", "digest"]
