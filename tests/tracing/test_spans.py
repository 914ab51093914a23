"""The spans of jobs, made of events."""

from __future__ import annotations

from collections.abc import Sequence

from titan import events as ev
from titan.model import Execution, IndexRange, Reason, State
from titan.state.cluster import ClusterState
from titan.trace_context import Sampler, TraceContext, parse_parent
from titan.tracing.spans import SpanData, Spans

START_US = 1_800_000_000_000_000
EPOCH = 7
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Log:
    """Records, a second apart, and the spans that they end."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.state = ClusterState()
        self._spans = Spans(self.state, sampler or Sampler())
        assert not self.add(
            ev.ClusterCreated(b"C" * 16),
            ev.ManagerStarted(EPOCH, "test"),
            ev.EnvironmentStored(b"e" * 16, (), ()),
            ev.WorkerRegistered(
                1, b"w" * 16, b"i" * 16, "boot", "w1", "", 8000, 1 << 34, (), (), "", b"/out"
            ),
        )

    @property
    def now_us(self) -> int:
        """The time of the next record."""
        return START_US + self.state.lsn * 1_000_000

    def add(self, *events: ev.Event) -> list[SpanData]:
        return self._spans.apply(self.state.lsn + 1, self.now_us, events)

    def submit(self, trace_parent: str = "", array: Sequence[IndexRange] = ()) -> list[SpanData]:
        execution = Execution(trace_parent=trace_parent)
        return self.add(
            ev.JobSubmitted(
                self.state.next_job_id, "ada", "n", (b"true",), b"/", b"e" * 16, 1000, 0, (), 0,
                tuple(array), execution=execution,
            )
        )  # fmt: skip

    def assign(self, attempt: int, index: int = 0) -> list[SpanData]:
        return self.add(ev.TaskAssigned(1, index, attempt, 1, False, 1, 1, 0))

    def end(
        self,
        attempt: int,
        state: State,
        *,
        index: int = 0,
        start_us: int = 0,
        end_us: int,
        becomes: State | None = None,
    ) -> list[SpanData]:
        reason = Reason.WORKER_LOST if state is State.LOST else Reason.EXIT
        return self.add(
            ev.AttemptEnded(
                1, index, attempt, state, reason, 1 if state is State.FAILED else -1, -1,
                start_us, end_us, 0, 0, 0, "exit code 1" if state is State.FAILED else "",
                becomes or state,
            )
        )  # fmt: skip


def told(spans: Sequence[SpanData]) -> list[tuple[str, int, int]]:
    """Their names, and from when to when in tenths of a second since the first record."""
    return [
        (each.name, (each.start_us - START_US) // 100_000, (each.end_us - START_US) // 100_000)
        for each in spans
    ]


def test_an_attempt_is_told_when_it_ends_and_its_job_when_all_have() -> None:
    log = Log()
    assert log.submit() == []
    assert log.assign(1) == []
    # By a clock that is two seconds fast, and then is told of after five tenths.
    start_us = log.now_us + 300_000
    first = log.end(1, State.FAILED, start_us=start_us, end_us=start_us + 200_000,
                    becomes=State.PENDING)  # fmt: skip
    assert told(first) == [
        ("attempt", 10, 35),
        ("queued", 10, 20),
        ("dispatched", 20, 33),
        ("running", 33, 35),
        ("reported", 35, 35),
    ]
    assert [each.name for each in first if each.error] == ["attempt", "running"]
    assert first[0].error == "exit code 1"
    log.assign(2)
    last = log.end(2, State.COMPLETED, start_us=log.now_us, end_us=log.now_us)
    assert told(last)[:2] == [("attempt", 35, 50), ("queued", 35, 40)]
    assert told(last)[-2:] == [("job", 10, 50), ("submit", 10, 10)]
    assert not any(each.error for each in last)
    ids = {each.context.span_id for each in (*first, *last)}
    assert len(ids) == len(first) + len(last)
    assert {each.context.trace_id for each in (*first, *last)} == {last[-1].context.trace_id}


def test_a_worker_whose_clock_is_slow_makes_no_time_run_backwards() -> None:
    log = Log()
    log.submit()
    log.assign(1)
    spans = log.end(1, State.COMPLETED, start_us=START_US - 9, end_us=START_US - 5)
    assert told(spans)[:5] == [
        ("attempt", 10, 30),
        ("queued", 10, 20),
        ("dispatched", 20, 20),
        ("running", 20, 20),
        ("reported", 20, 30),
    ]


def test_what_never_started_has_no_span_of_running() -> None:
    log = Log()
    log.submit()
    log.assign(1)
    recalled = log.add(ev.RecallRequested(1, 0, 1), ev.Recalled(1, 0, 1))
    assert told(recalled) == [("attempt", 10, 30), ("queued", 10, 20), ("dispatched", 20, 30)]
    assert recalled[0].attributes["titan.state"] == "RECALLED"
    assert recalled[0].error is None
    log.assign(2)
    lost = log.end(2, State.LOST, end_us=log.now_us, becomes=State.PENDING)
    assert [each.name for each in lost] == ["attempt", "queued", "dispatched"]
    assert lost[0].error == "LOST"
    # What waits is cancelled, and nothing of it ran.
    assert [each.name for each in log.add(ev.CancelRequested(1, (), 0))] == ["job", "submit"]


def test_an_array_is_told_once_whatever_ends_with_its_last_task() -> None:
    log = Log()
    log.submit(array=[IndexRange(0, 3, 1)])
    for index in range(2):
        log.assign(1, index)
    names: list[str] = []
    for index in range(2):
        spans = log.end(1, State.COMPLETED, index=index, start_us=log.now_us, end_us=log.now_us)
        names += [each.name for each in spans if each.name in ("job", "attempt")]
        assert spans[0].attributes["titan.task.index"] == index
    names += [each.name for each in log.add(ev.CancelRequested(1, (IndexRange(2, 3, 1),), 0))]
    assert names == ["attempt", "attempt", "job", "submit"]
    assert log.add(ev.JobsForgotten((1,))) == []


def test_a_job_is_in_its_submitters_trace_and_in_none_where_that_is_not_sampled() -> None:
    parent = parse_parent(PARENT)
    assert parent is not None
    log = Log()
    log.submit(PARENT)
    job, submit = log.add(ev.CancelRequested(1, (), 0))
    assert job.parent == parent
    assert job.context.trace_id == submit.context.trace_id == parent.trace_id
    assert submit.parent == job.context == TraceContext(parent.trace_id, job.context.span_id, 1)
    silent = Log()
    silent.submit(PARENT[:-1] + "0")
    silent.assign(1)
    assert silent.end(1, State.COMPLETED, start_us=START_US, end_us=START_US) == []
    assert Log(Sampler(ratio=0.0)).submit() == []
