"""What each event about workers changes."""

from __future__ import annotations

from typing import Any

from titan import events as ev
from titan.model import WORKER_TRANSITIONS, WorkerState
from titan.state.tables import Tables, require
from titan.state.worker import Drain, Worker


def worker_registered(tables: Tables, event: ev.WorkerRegistered) -> None:
    worker = tables.workers.get(event.worker)
    if worker is None:
        require(event, event.worker == tables.next_worker, "worker numbers count up")
        require(event, event.worker_id not in tables.worker_numbers, "the worker has a number")
        tables.next_worker += 1
        worker = tables.workers[event.worker] = Worker(event, tables.usage)
        tables.worker_numbers[event.worker_id] = event.worker
    else:
        worker.register(event)
        _set_state(tables, event, WorkerState.HEALTHY)
    worker.last_heard_us = tables.time_us


def worker_heartbeats(tables: Tables, event: ev.WorkerHeartbeats) -> None:
    for number in event.workers:
        tables.get_worker(number).last_heard_us = tables.time_us


def worker_healthy(tables: Tables, event: ev.WorkerHealthy) -> None:
    _set_state(tables, event, WorkerState.HEALTHY)


def worker_unhealthy(tables: Tables, event: ev.WorkerUnhealthy) -> None:
    _set_state(tables, event, WorkerState.UNHEALTHY)
    tables.get_worker(event.worker).fault = event.reason


def worker_lost(tables: Tables, event: ev.WorkerLost) -> None:
    require(event, not tables.get_worker(event.worker).attempts, "it still holds attempts")
    _set_state(tables, event, WorkerState.DISCONNECTED)
    tables.holds.pop(event.worker, None)


def worker_draining(tables: Tables, event: ev.WorkerDraining) -> None:
    worker = tables.get_worker(event.worker)
    if event.stopping:
        worker.is_stopping = True
    else:
        worker.drain = Drain(event.reason, event.user)
    tables.holds.pop(event.worker, None)
    worker.touch()


def worker_undrained(tables: Tables, event: ev.WorkerUndrained) -> None:
    worker = tables.get_worker(event.worker)
    drains = worker.is_stopping if event.stopping else worker.drain is not None
    require(event, drains, "it does not drain")
    if event.stopping:
        worker.is_stopping = False
    else:
        worker.drain = None
    worker.touch()


def worker_deregistered(tables: Tables, event: ev.WorkerDeregistered) -> None:
    require(event, not tables.get_worker(event.worker).attempts, "it still holds attempts")
    _set_state(tables, event, WorkerState.DEREGISTERED)
    tables.holds.pop(event.worker, None)


def _set_state(tables: Tables, event: Any, state: WorkerState) -> None:
    worker = tables.get_worker(event.worker)
    if worker.state is not state:
        require(event, state in WORKER_TRANSITIONS[worker.state], f"it is {worker.state.name}")
        worker.state = state
        worker.fault = ""
        worker.touch()
