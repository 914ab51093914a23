"""`titan drain`, `titan undrain`, and how `titan workers` shows it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.conftest import Process, Titan
from tests.client.fake_manager import FakeManager
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2, types_pb2


def add(
    manager: FakeManager, name: str, *, running: int = 0, queued: int = 0
) -> manager_pb2.Worker:
    worker = manager_pb2.Worker(
        worker_id=name.encode().rjust(16, b"w"),
        name=name,
        state=types_pb2.HEALTHY,
        running=running,
        queued=queued,
    )
    manager.workers.append(worker)
    return worker


def test_drain_asks_for_it_and_says_what_is_left(manager: FakeManager, titan: Titan) -> None:
    add(manager, "w1", running=3, queued=2)
    add(manager, "w2")
    result = titan("drain", "w1", "w2", "--reason", "new kernel")
    assert result == (0, "w1 is draining: 3 running, 2 queued\nw2 is drained\n", "")
    (request,) = manager.called("DrainWorker")
    assert (list(request.workers), request.reason) == (["w1", "w2"], "new kernel")
    assert (request.user, request.undrain) == (os_user(), False)


def test_undrain_lifts_it(manager: FakeManager, titan: Titan) -> None:
    add(manager, "w1").draining = True
    assert titan("undrain", "w1") == (0, "w1 takes tasks\n", "")
    (request,) = manager.called("DrainWorker")
    assert request.undrain
    assert json.loads(titan("undrain", "w1", "--json").out)[0]["draining"] is False


def test_an_unknown_worker_exits_with_4(manager: FakeManager, titan: Titan) -> None:
    result = titan("drain", "w9")
    assert result.code == 4
    assert "w9" in result.err


@pytest.mark.parametrize(
    ("queued", "shown"), [(1, "HEALTHY (draining)"), (0, "HEALTHY (drained)")], ids=str
)
def test_workers_shows_it_with_its_reason(
    manager: FakeManager, titan: Titan, queued: int, shown: str
) -> None:
    worker = add(manager, "w1", queued=queued)
    worker.draining, worker.reason = True, "draining for root: new kernel"
    line = titan("workers").out.splitlines()[1]
    assert line.startswith(f"w1      {shown}")
    assert line.endswith("draining for root: new kernel")
    (view,) = json.loads(titan("workers", "--json").out)
    assert (view["state"], view["draining"]) == ("HEALTHY", True)


def test_wait_tells_what_is_left_until_nothing_is(
    manager: FakeManager, spawn: Callable[..., Process]
) -> None:
    one, two = add(manager, "w1", running=2, queued=1), add(manager, "w2", running=1)
    process = spawn("drain", "--wait", "--json", "w1", "w2")
    assert process.read_error_line() == "w1: 2 running, 1 queued\n"
    assert process.read_error_line() == "w2: 1 running\n"
    # At once: who looks meanwhile is not to see the half of it.
    one.CopyFrom(manager_pb2.Worker(worker_id=one.worker_id, name="w1", draining=True, running=1))
    assert process.read_error_line() == "w1: 1 running\n"
    # It takes its leave, as one does that was to be drained for its stop.
    manager.workers.remove(two)
    manager.stop()
    assert "lost the manager" in process.read_error_line()
    one.running = 0
    manager.start()
    result = process.end()
    assert (result.code, result.err) == (0, "")
    views = json.loads(result.out)
    assert [(each["name"], each["running"]) for each in views] == [("w1", 0), ("w2", 0)]


def test_wait_gives_up_after_its_timeout(manager: FakeManager, titan: Titan) -> None:
    add(manager, "w1", running=1)
    result = titan("drain", "w1", "--wait", "--timeout", "600ms")
    assert result.code == 1
    assert result.out == "w1 is draining: 1 running\n"
    assert result.err.splitlines() == [
        "w1: 1 running",
        "titan: not drained after 0.6s: w1 (1 running)",
    ]


def test_wait_ends_when_somebody_lifts_the_drain(
    manager: FakeManager, spawn: Callable[..., Process]
) -> None:
    worker = add(manager, "w1", running=1)
    process = spawn("drain", "w1", "--wait")
    assert process.read_error_line() == "w1: 1 running\n"
    worker.draining = False
    result = process.end()
    assert result.code == 1
    assert "w1 is not draining any more" in result.err


def test_a_timeout_without_wait_is_a_usage_error(titan: Titan) -> None:
    result = titan("drain", "w1", "--timeout", "1m")
    assert result.code == 2
    assert "--wait" in result.err
