"""What `dump_events` selects, compared with going through every event by hand."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import wal
from tests.waltools.builders import SEGMENT_BYTES, append, decoded, history, make_directory
from tests.waltools.corruptions import make_rich_directory
from titan import events as ev
from titan.model import IndexRange, State
from titan.queries.mentions import tells_of
from titan.waltools.dump import dump_events
from titan.waltools.selection import JobTasks, Picker, Selection


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_directory(tmp_path_factory.mktemp("dump") / "manager")


def found(directory: Path, **selection: Any) -> list[tuple[int, str]]:
    return [
        (int(str(each["lsn"])), str(each["event"]))
        for each in dump_events(directory, Selection(**selection))
    ]


def all_events() -> list[tuple[int, int, ev.Event]]:
    return decoded(history())


def test_without_a_selection_it_tells_every_event_in_order(directory: Path) -> None:
    expected = [(lsn, type(event).__name__) for lsn, _, event in all_events()]
    assert found(directory) == expected
    assert found(directory / "wal") == expected


def test_a_range_of_records_includes_both_ends(directory: Path) -> None:
    for first, last in ((1, 1), (17, 40), (len(history()), len(history())), (9_999, 10_000)):
        lsns = {lsn for lsn, _ in found(directory, from_lsn=first, to_lsn=last)}
        assert lsns == set(range(first, min(last, len(history())) + 1))


def test_a_span_of_time_includes_both_ends_wherever_it_begins(directory: Path) -> None:
    times = sorted({time_us for _, time_us, _ in all_events()})
    for since, until in ((0, 10**18), (times[5], times[9]), (times[-1], times[-1]), (1, 2)):
        assert found(directory, since_us=since, until_us=until) == [
            (lsn, type(event).__name__)
            for lsn, time_us, event in all_events()
            if since <= time_us <= until
        ]
    assert [found(directory, since_us=each)[0][0] for each in times] == [
        next(lsn for lsn, time_us, _ in all_events() if time_us == each) for each in times
    ]


def speaks_of(event: Any, job_id: int) -> bool:
    if isinstance(event, ev.RequestAccepted):
        return event.first_job_id <= job_id < event.first_job_id + event.jobs
    return bool(getattr(event, "job_id", None) == job_id)


@pytest.mark.parametrize("job_id", [1, 5, 42, 130])
def test_a_job_has_all_events_that_speak_of_it(directory: Path, job_id: int) -> None:
    expected = [
        (lsn, type(event).__name__) for lsn, _, event in all_events() if speaks_of(event, job_id)
    ]
    assert expected
    assert found(directory, jobs=(JobTasks(job_id),)) == expected


def test_several_jobs_are_told_together_and_a_limit_ends_it(directory: Path) -> None:
    both = found(directory, jobs=(JobTasks(5), JobTasks(42)))
    each = found(directory, jobs=(JobTasks(5),)) + found(directory, jobs=(JobTasks(42),))
    assert sorted(both) == sorted(each)
    assert found(directory, jobs=(JobTasks(5), JobTasks(42)), limit=3) == both[:3]
    assert found(directory, limit=0) == []


def test_kinds_of_events_are_alternatives(directory: Path) -> None:
    kinds = frozenset({ev.WorkerRegistered, ev.RequestAccepted})
    assert found(directory, kinds=kinds) == [
        (lsn, type(event).__name__) for lsn, _, event in all_events() if type(event) in kinds
    ]


def test_a_worker_has_what_names_it_and_what_its_attempts_did(directory: Path) -> None:
    by_name = found(directory, worker="worker3")
    number = next(
        event.worker
        for _, _, event in all_events()
        if isinstance(event, ev.WorkerRegistered) and event.name == "worker3"
    )
    assert by_name == found(directory, worker=number)
    given: set[tuple[int, int, int]] = set()
    expected = []
    for lsn, _, event in all_events():
        if isinstance(event, ev.TaskAssigned) and event.worker == number:
            given.add(event[:3])
        named = getattr(event, "worker", None) == number or number in getattr(event, "workers", ())
        if named or event[:3] in given:
            expected.append((lsn, type(event).__name__))
    assert {"WorkerRegistered", "TaskAssigned", "AttemptEnded"} <= {name for _, name in expected}
    assert by_name == expected
    late = [each for each in expected if each[0] >= 30]
    assert found(directory, worker="worker3", from_lsn=30) == late


def picked(selection: Selection, *records: tuple[ev.Event, ...]) -> list[ev.Event]:
    picker = Picker(selection)
    return [
        event
        for lsn, events in enumerate(records, 1)
        if picker.may_hold(ev.encode_record(lsn, events))
        for event in picker.pick(lsn, lsn, events)
    ]


def registered(number: int, name: str) -> ev.WorkerRegistered:
    return ev.WorkerRegistered(
        number, b"%d" % number, b"", "", name, "", 1000, 0, (), (), "1", b"/out"
    )


def assigned(job_id: int, worker: int, attempt: int = 1) -> ev.TaskAssigned:
    return ev.TaskAssigned(job_id, 0, attempt, worker, False, 1, 1, 0)


def ended(job_id: int, task_state: State) -> ev.AttemptEnded:
    return ev.AttemptEnded(job_id, 0, 1, 3, 1, 0, -1, 0, 0, 0, 0, 0, "", task_state)


def test_a_worker_name_moves_with_the_registration() -> None:
    told = (
        (registered(1, "a"),),
        (assigned(1, 1), assigned(2, 1)),
        (registered(1, "b"),),
        (registered(2, "a"), assigned(3, 1), assigned(4, 2)),
        (ended(1, State.COMPLETED), ended(3, State.COMPLETED)),
    )
    assert picked(Selection(worker="a"), *told) == [
        told[0][0], *told[1], told[3][0], told[3][2], told[4][0],
    ]  # fmt: skip


def test_an_attempt_that_was_given_up_and_adopted_is_still_its_workers() -> None:
    told = (
        (registered(1, "a"), assigned(7, 1)),
        (ended(7, State.PENDING), ev.WorkerLost(1)),
        (ev.Adopted(7, 0, 1, 5), ended(7, State.COMPLETED), ended(7, State.COMPLETED)),
    )
    assert picked(Selection(worker=1), *told) == [*told[0], *told[1], *told[2][:2]]


def test_a_task_has_what_concerns_its_whole_job_too() -> None:
    told = (
        ev.JobSubmitted(9, "u", "n", (), b"", b"", 1, 0, (), 0, (IndexRange(0, 9),)),
        ev.RequestAccepted("u", b"", b"", 8, 2),
        ev.TaskStarted(9, 4, 1, 0),
        ev.TaskStarted(9, 5, 1, 0),
        ev.CancelRequested(9, (IndexRange(0, 9, 2),), 0),
        ev.CancelRequested(9, (IndexRange(1, 9, 2),), 0),
        ev.CancelRequested(9, (), 0),
        ev.TaskStarted(10, 4, 1, 0),
    )
    wanted = Selection(jobs=(JobTasks(9, (IndexRange(4, 5),)),))
    assert picked(wanted, told) == [told[0], told[1], told[2], told[4], told[6]]


def test_a_cancel_of_some_indexes_concerns_the_tasks_that_are_among_them() -> None:
    ranges = [
        IndexRange(start, stop, step)
        for start in (0, 1, 5)
        for stop in range(start + 1, start + 16, 3)
        for step in (1, 2, 3, 4, 6, 9)
    ]
    for cancelled, wanted in product(ranges, repeat=2):
        told = tells_of(ev.CancelRequested(9, (cancelled,), 0), 9, (wanted,))
        assert told == bool({*cancelled.indexes} & {*wanted.indexes}), (cancelled, wanted)
    whole = IndexRange(0, 10_000_000, 2)
    assert not tells_of(ev.CancelRequested(9, (whole,), 0), 9, (whole._replace(start=1),))


def test_following_goes_on_with_what_is_appended(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager", history()[:10])
    log = wal.Log.open(directory / "wal", segment_bytes=SEGMENT_BYTES)
    rounds = iter(range(10, 50, 5))

    def wait() -> bool:
        start = next(rounds)
        append(log, history()[start : start + 5])
        return True

    selection = Selection(to_lsn=47)
    told = list(dump_events(directory, selection, wait=wait))
    log.close()
    assert [each["lsn"] for each in told] == [
        each["lsn"] for each in dump_events(directory, dataclasses.replace(selection))
    ]
    assert told[-1]["lsn"] == 47


def test_a_log_whose_oldest_segments_are_gone_is_told_from_where_it_begins(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "manager")
    first, second, *_ = sorted((directory / "wal").glob("*.wal"))
    first.unlink()
    begin = int(second.stem)
    assert found(directory) == [
        (lsn, type(event).__name__) for lsn, _, event in all_events() if lsn >= begin
    ]
    assert found(directory, from_lsn=2, to_lsn=begin)[0][0] == begin


def test_a_worker_is_known_by_name_when_its_registration_is_gone(tmp_path: Path) -> None:
    directory = make_rich_directory(tmp_path / "manager")
    whole = found(directory, worker="worker3")
    wal.remove_segments_before(directory / "wal", 61)
    rest = found(directory, worker="worker3")
    # The oldest snapshot is of record 60: what went on then is known, what had ended before is not.
    assert [each for each in rest if each[0] > 60] == [each for each in whole if each[0] > 60]
    assert {name for _, name in rest} >= {"TaskAssigned", "AttemptEnded"}
