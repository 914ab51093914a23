"""A clock for clients: time passes only while they pause."""

from __future__ import annotations

import pytest


class Clock:
    """Stands in for `time` in the client for threads, which gives up after the same tries then,
    however long each of them takes a machine that does much else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("titan.client.session.time", self)

    def monotonic(self) -> float:
        """As of `time`."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """As of `time`, and at once."""
        self.now += seconds
