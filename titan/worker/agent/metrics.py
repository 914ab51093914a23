"""What a worker tells Prometheus: of itself, of the tasks that it holds, and of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from titan import __version__
from titan.metrics.family import Family, Kind, counter, counters, gauge, gauges, histogram
from titan.model import HeldState
from titan.worker.agent.agent import Agent
from titan.worker.agent.node import Statistics

_FAILURES: Final = "Calls to the manager that failed, by what that means."


class WorkerMetrics:
    """Tells what one agent is like."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def read(self) -> Iterator[Family]:
        """What is known in the loop, as it is in this turn of it."""
        agent = self._agent
        yield Family(
            "titan_build_info", Kind.GAUGE, "1, and the version of Titan that runs.",
            ("version",), (((__version__,), 1),),
        )  # fmt: skip
        yield from self._attempts()
        # In the loop: of the cpus it is what each thread saw last that a measurement is compared
        # with. Without its directory there is nothing to be told of its disk.
        with suppress(OSError):
            yield from _node(agent.measure())
        yield gauge(
            "titan_worker_registered",
            "1 while the worker has a session with the manager, as far as it knows.",
            agent.is_registered,
        )
        yield gauge(
            "titan_worker_draining", "1 while it takes nothing new and leaves.", agent.is_ending
        )
        yield gauge(
            "titan_worker_faulty",
            "1 while something keeps it from taking tasks, such as a disk that is nearly full.",
            bool(agent.fault),
        )
        capacity = agent.offer.capacity
        yield gauge("titan_worker_cpus", "Cpus that it offers.", capacity.cpus_milli / 1000)
        yield gauge("titan_worker_memory_bytes", "Memory that it offers.", capacity.memory_bytes)
        yield histogram(
            "titan_worker_heartbeat_duration_seconds",
            "From sending a heartbeat to its answer; without those that the manager was to wait "
            "with.",
            agent.tally.heartbeat_seconds.read(),
        )
        yield counters(
            "titan_worker_manager_call_failures_total", _FAILURES, ("failure",),
            (((failure,), count) for failure, count in agent.tally.failures.items()),
        )  # fmt: skip

    def _attempts(self) -> Iterator[Family]:
        agent, tally = self._agent, self._agent.tally
        held = Counter(each.state for each in agent.held())
        yield gauges(
            "titan_worker_attempts",
            "Attempts that it holds, by state; those that ended until the manager knows it.",
            "state", {state.name: held[state] for state in HeldState},
        )  # fmt: skip
        yield gauge(
            "titan_worker_reports_pending",
            "Reports that the manager has not acknowledged.",
            agent.unacknowledged_count,
        )
        yield counter(
            "titan_worker_attempts_started_total",
            "Attempts that started here since the worker did.",
            tally.starts,
        )
        yield counters(
            "titan_worker_attempts_ended_total",
            "Attempts that ended here since the worker started, by state and reason.",
            ("state", "reason"),
            (((state.name, reason.name), count) for state, reason, count in tally.ends),
        )
        yield histogram(
            "titan_worker_task_run_seconds",
            "From the start of an attempt to its end, however it ended.",
            tally.run_seconds.read(),
        )


def _node(measured: Statistics) -> Iterator[Family]:
    yield gauge(
        "titan_node_cpu_usage_ratio",
        "How busy all processors of the machine are together, 0 to 1, since the heartbeat or the "
        "scrape before.",
        measured.cpu_percent / 100,
    )
    yield gauge(
        "titan_node_memory_used_bytes", "Memory in use on the machine.", measured.memory_used_bytes
    )
    yield gauge(
        "titan_node_memory_bytes", "Memory that the machine has.", measured.memory_total_bytes
    )
    yield gauge("titan_node_load1", "The load of the last minute.", measured.load_1m)
    yield gauge(
        "titan_node_disk_free_bytes",
        "What is free where the tasks' output goes.",
        measured.disk_free_bytes,
    )
