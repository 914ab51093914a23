"""The same commands give the same records and the same state, at every run and everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.manager.builders import START_US, Rig, new_job, submit
from tests.manager.kernel import story
from titan import events as ev
from titan.state import ClusterState, check_invariants, digest

ROOT = Path(__file__).parents[3]


def test_records_and_digest_are_the_same_under_every_hash_seed() -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.manager.kernel.story"],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "4294967295")
    ]
    printed = [program.communicate(timeout=60)[0].strip() for program in programs]
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert set(printed) == {story.summary()}


def test_the_story_holds_enough_to_mean_something() -> None:
    rig = story.tell()
    events = [event for payload in rig.records for event in ev.decode_record(payload)[1]]
    counts = Counter(type(event) for event in events)
    assert set(counts) == set(ev.EVENT_OF_CODE.values())
    assert sum(event.ahead for event in events if isinstance(event, ev.TaskAssigned)) > 20
    check_invariants(rig.state)
    assert digest(rig.state) == digest(rig.twin)


def test_every_prefix_of_a_log_replays_to_the_state_that_the_manager_had_invariant_5() -> None:
    rig = story.tell()
    state = ClusterState()
    for lsn, payload in enumerate(rig.records, 1):
        time_us, events = ev.decode_record(payload)
        state.apply_record(lsn, time_us, events)
        assert (state.lsn, state.time_us) == (lsn, time_us)
        if lsn % 50 == 0:
            check_invariants(state)
    assert digest(state) == digest(rig.state)


def test_record_times_never_decrease_though_the_clock_does() -> None:
    rig = Rig()
    rig.submit(new_job())
    rig.now_us -= 5_000_000
    rig.submit(new_job())
    rig.worker()
    times = [ev.decode_record(payload)[0] for payload in rig.records]
    assert times == sorted(times)
    assert rig.state.time_us == START_US


def test_what_is_decided_in_one_turn_is_one_record() -> None:
    rig = Rig()
    rig.worker()
    kernel = rig.kernel
    before = len(rig.records)
    lsn = rig.state.lsn
    for _ in range(2):
        kernel.decide(submit(new_job()), rig.now_us, rig.turned_us)
        rig.now_us += 10
    kernel.schedule(rig.now_us)
    assert rig.state.lsn == lsn + 1
    rig.settle()
    (payload,) = rig.records[before:]
    time_us, events = ev.decode_record(payload)
    assert time_us == START_US
    assert [type(each) for each in events] == [
        ev.EnvironmentStored, ev.JobSubmitted, ev.JobSubmitted, ev.TaskAssigned,
    ]  # fmt: skip
    assert kernel.take_record() is None
    assert kernel.take_changed_jobs() == [1, 2]
    assert kernel.take_changed_jobs() == []


def test_a_new_log_begins_with_the_cluster_and_each_start_with_an_epoch() -> None:
    rig = Rig()
    assert [type(each) for each in ev.decode_record(rig.records[0])[1]] == [
        ev.ClusterCreated, ev.ManagerStarted,
    ]  # fmt: skip
    rig.submit(new_job())
    rig.restart()
    assert ev.decode_record(rig.records[-1])[1] == [ev.ManagerStarted(2, "0.1.0")]
    rig.submit(new_job())
    assert [rig.state.get_job(each).epoch for each in (1, 2)] == [1, 2]


def test_ten_thousand_ends_fill_a_record_and_the_rest_goes_on_in_the_next() -> None:
    rig = Rig(checks=False)
    host = rig.worker(25_000)
    rig.submit(new_job(array=[(0, 25_000)]))
    while rig.kernel.schedule_wanted:
        rig.schedule()
    before = len(rig.records)
    host.deregister()
    sizes = [len(ev.decode_record(payload)[1]) for payload in rig.records[before:]]
    assert sizes == [10_000, 10_000, 5_001]
    assert rig.kernel.events_count == 0
    assert digest(rig.state) == digest(rig.twin)


def test_a_submit_is_one_record_however_many_jobs_it_holds_invariant_1() -> None:
    rig = Rig(checks=False)
    before = len(rig.records)
    rig.submit(*[new_job()] * 10_000, request_id=b"r" * 16)
    (payload,) = rig.records[before:]
    events = ev.decode_record(payload)[1]
    assert (type(events[0]), type(events[-1])) == (ev.EnvironmentStored, ev.RequestAccepted)
    assert len(events) == 10_002
