"""An agent's core in some state, and what it is told."""

from __future__ import annotations

from typing import TypeVar

from tests.worker.builders import key
from titan.model import HeldAttempt, Reason, ReportKind, State
from titan.worker.agent.actions import Action, Register
from titan.worker.agent.core import Core, HostState
from titan.worker.messages import Report

A = TypeVar("A", bound=Action)


def the(kind: type[A], actions: list[Action]) -> A:
    """The one action of that kind."""
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def started(seq: int, index: int = 0) -> Report:
    return Report(seq, ReportKind.STARTED, key(index=index), start_us=1_000)


def ended(seq: int, index: int = 0) -> Report:
    return Report(
        *(seq, ReportKind.ENDED, key(index=index), State.COMPLETED, Reason.EXIT, 0),
        start_us=1_000,
        end_us=2_000,
    )


def host_state(*reports: Report, live: tuple[HeldAttempt, ...] = ()) -> HostState:
    return HostState(
        instance=b"I",
        cluster_id=b"C" if reports or live else b"",
        live=live,
        reports=reports,
        report_seq=reports[-1].seq if reports else 0,
        starts=3,
    )


def register(core: Core, call: int, session: bytes = b"S1", cluster: bytes = b"C") -> list[Action]:
    return core.registered(
        call, worker_id=b"W", session=session, cluster_id=cluster, heartbeat_interval_ms=3_000
    )


def registered() -> Core:
    """An agent in session S1, with a host that holds nothing."""
    core = Core(b"W")
    register(core, the(Register, core.host_connected(host_state())).call)
    return core
