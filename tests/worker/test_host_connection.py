"""What an agent says to task hosts of other versions."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.worker.builders import batch, key, launch
from titan.model import Stop, StopMode
from titan.worker import protocol
from titan.worker.agent.host_process import HostConnection

STOPS = tuple(Stop(key(index=mode), mode, 0) for mode in StopMode)


def connection(minor: int) -> HostConnection:
    welcome = protocol.Welcome(1, minor, 123, b"I" * 16, b"", (), (), 0)
    nobody = cast(Any, None)
    return HostConnection(asyncio.StreamReader, nobody, welcome, protocol.Decoder())  # type: ignore[arg-type]


def test_a_host_of_this_version_is_told_everything(caplog: pytest.LogCaptureFixture) -> None:
    assert connection(protocol.VERSION_MINOR).understood(STOPS) == STOPS
    assert not caplog.records


def test_an_older_host_is_not_told_what_it_could_not_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    older = connection(protocol.MINOR_SUSPEND - 1)
    assert [each.mode for each in older.understood(STOPS)] == [StopMode.CANCEL, StopMode.RECALL]
    assert "(pid 123) is of an older Titan" in caplog.text
    caplog.clear()
    assert older.understood(STOPS[:1]) == STOPS[:1]
    assert not caplog.records


def test_an_older_host_gets_nothing_that_it_would_run_without_a_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    todo = batch(launch(), launch(job_id=2, at_most_once=True), indexes=range(2))
    assert connection(protocol.VERSION_MINOR).startable(todo) == todo
    older = connection(protocol.MINOR_LEASE - 1)
    assert not caplog.records
    assert older.startable(todo).starts == todo.starts[:2]
    assert "drain this worker" in caplog.text
