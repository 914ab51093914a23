"""The outbox of one session: what goes in which batch, and what goes again."""

from __future__ import annotations

import pytest

from tests.manager.builders import FakeHost, Rig, new_job, prove_short
from titan.manager.kernel import outbox as limits
from titan.manager.kernel.outbox import BATCH_BYTES_MAX, BATCH_TASKS_MAX, Batch, Outbox
from titan.model import AttemptKey, Held, State, Stop, StopMode


def outbox_of(host: FakeHost) -> Outbox:
    assert host.outbox is not None
    return host.outbox


def batch_of(host: FakeHost) -> Batch:
    batch = host.next_batch()
    assert batch is not None
    return batch


def tasks(batch: Batch) -> list[tuple[int, int]]:
    return [(each.job_id, each.index) for each in batch.starts]


def key(job_id: int) -> AttemptKey:
    return AttemptKey(1, job_id, 0, 1)


def test_one_batch_is_under_way_and_what_gathers_meanwhile_goes_in_the_next() -> None:
    rig = Rig()
    host = rig.worker(8)
    rig.submit(new_job())
    rig.schedule()
    first = batch_of(host)
    rig.submit(new_job(), new_job())
    rig.schedule()
    assert host.next_batch() is None
    assert not outbox_of(host).has_work
    outbox_of(host).acknowledged(first)
    second = batch_of(host)
    assert (tasks(first), tasks(second)) == ([(1, 0)], [(2, 0), (3, 0)])
    assert (first.dispatch_seq, second.dispatch_seq) == (1, 2)
    outbox_of(host).acknowledged(second)
    assert host.next_batch() is None


def test_an_acknowledgement_of_another_batch_counts_for_nothing() -> None:
    rig = Rig()
    host = rig.worker(8)
    rig.submit(new_job())
    rig.schedule()
    first = batch_of(host)
    outbox_of(host).acknowledged(first)
    rig.submit(new_job())
    rig.schedule()
    second = batch_of(host)
    outbox_of(host).acknowledged(first)
    outbox_of(host).failed(first, rig.state)
    assert host.next_batch() is None
    outbox_of(host).failed(second, rig.state)
    assert tasks(batch_of(host)) == tasks(second)


def test_what_is_still_wanted_of_a_failed_batch_goes_again_with_a_new_number() -> None:
    rig = Rig()
    host = rig.worker(8)
    for _ in range(4):
        rig.submit(new_job())
    rig.schedule()
    first = batch_of(host)
    assert tasks(first) == [(1, 0), (2, 0), (3, 0), (4, 0)]
    # It had arrived after all: one runs, one has ended; one is cancelled meanwhile.
    host.receive(first)
    host.end(host.key_of(2))
    host.send_reports()
    rig.cancel(3, grace_ms=9)
    host.held.pop(host.key_of(4))
    rig.state.get_job(4).active[0].state = State.SCHEDULED
    outbox_of(host).failed(first, rig.state)
    stops = batch_of(host)
    assert [stop.key.job_id for stop in stops.stops] == [3]
    outbox_of(host).acknowledged(stops)
    again = batch_of(host)
    assert (tasks(again), again.dispatch_seq) == ([(4, 0)], 3)


def test_a_failed_start_whose_task_was_cancelled_meanwhile_does_not_go_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = batch_of(host)
    rig.cancel(1)
    outbox_of(host).failed(batch, rig.state)
    assert [each.starts for each in host.receive_all()] == [[]]
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED


def test_a_failed_start_that_was_asked_back_meanwhile_does_not_go_again() -> None:
    rig = Rig()
    host = rig.worker()
    prove_short(rig, host)
    rig.submit(new_job(array=[(0, 2)]))
    rig.start_here(host, 3)
    host.end(host.key_of(3, 0))
    host.send_reports()
    rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    batch = batch_of(host)
    rig.worker()
    rig.tick(200_000)
    asked = rig.state.get_job(4).active[0]
    assert asked.recall_requested
    outbox_of(host).failed(batch, rig.state)
    assert [stop.mode for stop in batch_of(host).stops] == [StopMode.RECALL]
    again = outbox_of(host)._starts
    assert (4, 0) not in again
    assert (4, 1) in again


def test_a_start_that_failed_and_then_proved_to_have_arrived_does_not_go_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = batch_of(host)
    host.receive(batch)
    outbox_of(host).failed(batch, rig.state)
    host.send_reports()
    assert rig.task_state(1) is State.RUNNING
    assert host.next_batch() is None


def test_a_start_that_failed_and_of_which_only_the_end_was_told_does_not_go_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    batch = batch_of(host)
    host.receive(batch)
    host.end(host.key_of(1))
    outbox_of(host).failed(batch, rig.state)
    host.report(host.unacknowledged[-1]._replace(seq=1))
    assert rig.task_state(1) is State.COMPLETED
    assert host.next_batch() is None


def test_a_stop_drops_a_start_that_was_not_sent() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    rig.cancel(1, grace_ms=5)
    batch = batch_of(host)
    assert (batch.starts, batch.stops) == ([], [Stop(key(1), StopMode.CANCEL, 5)])
    outbox_of(host).acknowledged(batch)
    assert host.next_batch() is None


def test_stops_go_before_starts() -> None:
    rig = Rig()
    host = rig.worker(2)
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.submit(new_job())
    rig.schedule()
    rig.cancel(1)
    batches = [batch_of(host)]
    outbox_of(host).acknowledged(batches[0])
    batches.append(batch_of(host))
    assert [(bool(each.stops), bool(each.starts)) for each in batches] == [
        (True, False), (False, True),
    ]  # fmt: skip


def test_the_last_cancel_outweighs_a_recall_and_an_earlier_cancel() -> None:
    rig = Rig()
    box = outbox_of(rig.worker())
    box.want_stop(Stop(key(1), StopMode.RECALL, 0))
    box.want_stop(Stop(key(1), StopMode.CANCEL, 900))
    box.want_stop(Stop(key(1), StopMode.RECALL, 0))
    box.want_stop(Stop(key(1), StopMode.CANCEL, 100))
    batch = box.next_batch(rig.state)
    assert batch is not None
    assert batch.stops == [Stop(key(1), StopMode.CANCEL, 100)]


def test_a_failed_stop_goes_again_but_not_over_a_later_one() -> None:
    rig = Rig()
    box = outbox_of(rig.worker())
    box.want_stop(Stop(key(1), StopMode.CANCEL, 900))
    box.want_stop(Stop(key(2), StopMode.CANCEL, 900))
    batch = box.next_batch(rig.state)
    assert batch is not None
    box.want_stop(Stop(key(1), StopMode.CANCEL, 0))
    box.failed(batch, rig.state)
    again = box.next_batch(rig.state)
    assert again is not None
    assert sorted(again.stops) == [
        Stop(key(1), StopMode.CANCEL, 0),
        Stop(key(2), StopMode.CANCEL, 900),
    ]


def test_wishes_about_different_things_of_one_attempt_go_together_the_last_of_each() -> None:
    rig = Rig()
    box = outbox_of(rig.worker())
    for stop in [
        Stop(key(1), StopMode.SUSPEND, 0),
        Stop(key(1), StopMode.LIMIT, 0, time_limit_ms=1000),
        Stop(key(1), StopMode.RECALL, 0),
        Stop(key(1), StopMode.RESUME, 0),
        Stop(key(1), StopMode.LIMIT, 0, time_limit_ms=0),
        Stop(key(1), StopMode.CANCEL, 7),
        Stop(key(2), StopMode.SUSPEND, 0),
    ]:
        box.want_stop(stop)
    batch = box.next_batch(rig.state)
    assert batch is not None
    assert batch.stops == [
        Stop(key(1), StopMode.RESUME, 0),
        Stop(key(1), StopMode.LIMIT, 0),
        Stop(key(1), StopMode.CANCEL, 7),
        Stop(key(2), StopMode.SUSPEND, 0),
    ]


def test_of_a_failed_batch_each_wish_goes_again_unless_a_later_one_is_about_the_same() -> None:
    rig = Rig()
    box = outbox_of(rig.worker())
    box.want_stop(Stop(key(1), StopMode.SUSPEND, 0))
    box.want_stop(Stop(key(1), StopMode.LIMIT, 0, time_limit_ms=1000))
    batch = box.next_batch(rig.state)
    assert batch is not None
    box.want_stop(Stop(key(1), StopMode.RESUME, 0))
    box.want_stop(Stop(key(1), StopMode.RECALL, 0))
    box.failed(batch, rig.state)
    again = box.next_batch(rig.state)
    assert again is not None
    assert sorted(again.stops, key=lambda stop: stop.mode) == [
        Stop(key(1), StopMode.RECALL, 0),
        Stop(key(1), StopMode.RESUME, 0),
        Stop(key(1), StopMode.LIMIT, 0, time_limit_ms=1000),
    ]


def test_a_suspend_leaves_a_start_that_was_not_sent_alone_and_a_limit_too() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    rig.update(1, limit=9000)
    stops, starts = batch_of(host), None
    outbox_of(host).acknowledged(stops)
    starts = batch_of(host)
    assert [each.mode for each in stops.stops] == [StopMode.LIMIT]
    assert tasks(starts) == [(1, 0)]


def test_nothing_that_was_wished_of_an_attempt_outlives_it() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job(time_limit_ms=1000))
    key_here = rig.start_here(host, 1)
    rig.suspend(1)
    rig.update(1, limit=2000)
    under_way = batch_of(host)
    rig.cancel(1)
    host.end(key_here)
    host.send_reports()
    outbox_of(host).failed(under_way, rig.state)
    assert host.next_batch() is None


def test_a_failed_stop_of_what_has_ended_meanwhile_does_not_go_again() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.start_here(host, 1)
    rig.cancel(1)
    batch = batch_of(host)
    host.receive(batch)
    host.send_reports()
    assert rig.task_state(1) is State.CANCELLED
    outbox_of(host).failed(batch, rig.state)
    assert host.next_batch() is None


def test_a_batch_takes_no_more_tasks_than_its_limit() -> None:
    rig = Rig(checks=False)
    host = rig.worker(1500)
    rig.submit(new_job(array=[(0, 1500)]))
    rig.schedule()
    sizes = [len(each.starts) for each in host.receive_all()]
    assert sizes == [BATCH_TASKS_MAX, 500]


def test_a_batch_takes_no_more_stops_than_its_limit() -> None:
    rig = Rig(checks=False)
    host = rig.worker()
    for number in range(1, 1202):
        outbox_of(host).want_stop(Stop(key(number), StopMode.CANCEL, 0))
    assert [len(each.stops) for each in host.receive_all()] == [BATCH_TASKS_MAX, 201]


def test_a_batch_takes_no_more_bytes_than_its_limit_counting_each_job_once() -> None:
    rig = Rig(checks=False)
    host = rig.worker(100)
    large = (b"x" * 100_000,) * 10
    for _ in range(9):
        rig.submit(new_job(command=large, array=[(0, 3)]))
    rig.schedule()
    batches = host.receive_all()
    per_batch = BATCH_BYTES_MAX // 1_000_000
    assert [len(each.starts) for each in batches] == [3 * per_batch, 3 * per_batch, 3]


def test_a_job_over_the_limit_of_bytes_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 10)
    rig = Rig()
    host = rig.worker(4)
    for _ in range(2):
        rig.submit(new_job(command=(b"a" * 100,)))
    rig.schedule()
    assert [len(each.starts) for each in host.receive_all()] == [1, 1]


def test_a_script_that_jobs_of_a_batch_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1_000)
    rig = Rig()
    host = rig.worker(4)
    one, other = ((bytes([n]) * 16, (), (), b"#!" + b"a" * 600) for n in range(2))
    jobs = [new_job(environment=n) for n in (0, 0, 0, 1)]
    rig.submit(*jobs, environments=(one, other))
    rig.schedule()
    assert [len(each.starts) for each in host.receive_all()] == [3, 1]


def test_a_batch_says_of_each_class_in_it_how_many_may_run_there() -> None:
    rig = Rig()
    host = rig.worker(5)
    prove_short(rig, host)
    rig.submit(new_job(array=[(0, 3)]), new_job(cpus=2))
    rig.schedule()
    (batch,) = host.receive_all()
    assert batch.slots == {1: 3, 2: 1}
    host.send_reports()
    # What goes ahead changes no slot.
    rig.submit(new_job(array=[(0, 2)]))
    rig.schedule()
    (batch,) = host.receive_all()
    assert [each.ahead for each in batch.starts] == [True, True]
    assert batch.slots == {1: 3}
    assert len(host.running) == 4


def test_an_outbox_that_got_something_is_reported_once() -> None:
    rig = Rig()
    host = rig.worker(2)
    assert rig.kernel.take_ready_outboxes() == []
    rig.submit(new_job(), new_job())
    rig.schedule()
    assert rig.kernel.take_ready_outboxes() == [host.outbox]
    assert rig.kernel.take_ready_outboxes() == []


def test_absence_means_nothing_of_what_still_waits_to_be_sent() -> None:
    rig = Rig()
    host = rig.worker()
    rig.submit(new_job())
    rig.schedule()
    attempt = rig.state.get_job(1).active[0]
    everything = Held((), 1 << 40, 0)
    assert not outbox_of(host).was_held(attempt, everything)
    batch = batch_of(host)
    assert not outbox_of(host).was_held(attempt, Held((), 0, 0))
    assert outbox_of(host).was_held(attempt, Held((), batch.dispatch_seq, 0))
    assert not outbox_of(host).was_held(attempt, Held((), batch.dispatch_seq, 1))
