"""What is remembered of programs that clients started, and for how long."""

from __future__ import annotations

import pytest

from tests.worker.builders import launch
from titan.model import AttemptKey, Reason, ReportKind, State
from titan.worker.host import direct_book
from titan.worker.host.direct_book import DirectBook
from titan.worker.host.records import DirectRecord, recover
from titan.worker.messages import Report


def end_of(key: AttemptKey) -> Report:
    return Report(9, ReportKind.ENDED, key, State.COMPLETED, Reason.EXIT, 0, end_us=5)


def test_each_has_an_id_and_a_class_of_its_own() -> None:
    book = DirectBook()
    first, launched = book.add(launch("a", job_id=7, class_id=8, array_count=9))
    second, _ = book.add(launch("b"))
    assert (first, second) == (AttemptKey(0, -1, 0, 1), AttemptKey(0, -2, 0, 1))
    assert (launched.epoch, launched.job_id, launched.class_id, launched.array_count) == (
        0, -1, -1, 0,
    )  # fmt: skip
    assert (book.live(), book.live_count) == ([first, second], 2)
    assert book.end(end_of(first)).seq == 0
    assert (book.live(), book.live_count) == ([second], 1)


def test_those_that_ended_first_are_forgotten_and_what_runs_never_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(direct_book, "KEPT_MAX", 2)
    book = DirectBook()
    keys = [book.add(launch())[0] for _ in range(5)]
    for number in (4, 1, 3):
        book.end(end_of(keys[number]))
    assert book.find(keys[4]) is None
    assert book.find_end(keys[4]) is None
    assert sorted(book.keys()) == sorted([keys[0], keys[1], keys[2], keys[3]])
    assert book.live() == [keys[0], keys[2]]


def test_long_commands_are_forgotten_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_book, "KEPT_BYTES_MAX", 25)
    book = DirectBook()
    for _ in range(3):
        key, _ = book.add(launch("123456789"))
        book.end(end_of(key))
    # With its directory each takes ten.
    assert sorted(book.keys()) == [AttemptKey(0, -3, 0, 1), AttemptKey(0, -2, 0, 1)]


def test_what_a_journal_tells_is_taken_up_and_written_again_in_the_same_order() -> None:
    book = DirectBook()
    keys = [book.add(launch(name))[0] for name in "abc"]
    for number in (2, 0):
        book.end(end_of(keys[number]))
    recovered = recover(book.records())
    assert not recovered.ends
    again = DirectBook(recovered.direct)
    assert [again.find(key) for key in keys] == [
        DirectRecord(key, (name.encode(),), b"/") for key, name in zip(keys, "abc", strict=True)
    ]
    lost = again.find_end(keys[1])
    assert lost is not None
    assert (lost.state, lost.reason) == (State.LOST, Reason.WORKER_LOST)
    ends = [each.end.key for each in recover(again.records()).direct if each.end]
    assert ends == [keys[2], keys[0], keys[1]]
    assert again.add(launch())[0] == AttemptKey(0, -4, 0, 1)
