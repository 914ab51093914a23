"""What a manager is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import wal
from titan.manager.keeper import SnapshotPolicy
from titan.manager.kernel import Settings
from titan.manager.retention import Limits
from titan.scheduler.policies import DEFAULT_POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerOptions:
    """What `titan manager` is given."""

    data_directory: Path
    listen: str = "127.0.0.1:50051"
    heartbeat_timeout_seconds: float = 30.0
    policy: str = DEFAULT_POLICY
    order: str = Settings().order
    fair_share: bool = Settings().fair_share
    preempt: str = Settings().preempt
    reserve_after_seconds: float = Settings().reserve_after_us / 1e6
    user_cpus_milli: int = Settings().user_cpus_milli
    segment_bytes: int = wal.SEGMENT_BYTES
    snapshot_bytes: int = SnapshotPolicy().bytes_since
    retain_seconds: float = Limits().retain_us / 1e6
    reader_lag_max_bytes: int = Limits().reader_lag_max_bytes
    forget_after_seconds: float = Settings().forget_after_us / 1e6
    forget_over: int = Settings().forget_over
    jobs_max: int = Settings().jobs_max
    tls_path: Path | None = None
    """Directory or bundle of its certificates; None: it has none."""
    token_listen: str | None = None
    """Where users call it who have a token in place of a certificate."""
    is_insecure: bool = False
    """Whether it may listen where other machines can reach it, without certificates."""
    history_url: str | None = None
    """Where the history is written, empty for a file in the data directory; None: nowhere."""
    history_sync: bool = False
    """Whether a submit is acknowledged only when its rows are there, too."""
    secrets_key_path: Path | None = None
    """The key that secrets are sealed with in a journal that managers share; None: it has none."""
    metrics_listen: str | None = None
    """Where Prometheus finds its numbers; None: nowhere."""
    journal_url: str | None = None
    """The database that has the log, which other managers share; None: the log is in the data
    directory, and this one leads."""
    advertise: str | None = None
    """HOST:PORT by which callers find this manager among them; None: where it listens."""
    lease_seconds: float = 8.0
    """How long nobody else may lead after the one that does was last heard of."""
    log_level: str = "info"
    log_format: str = "text"

    def advertised(self, listens: str) -> str:
        """By which address others find this manager that listens there."""
        return self.advertise or listens

    def settings(self) -> Settings:
        """What of it the kernel goes by."""
        return Settings(
            heartbeat_timeout_us=int(self.heartbeat_timeout_seconds * 1e6),
            heartbeat_interval_us=min(3_000_000, int(self.heartbeat_timeout_seconds * 1e5)),
            policy=self.policy,
            order=self.order,
            fair_share=self.fair_share,
            preempt=self.preempt,
            reserve_after_us=int(self.reserve_after_seconds * 1e6),
            user_cpus_milli=self.user_cpus_milli,
            forget_after_us=int(self.forget_after_seconds * 1e6),
            forget_over=self.forget_over,
            jobs_max=self.jobs_max,
        )
