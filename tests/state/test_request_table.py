"""RequestTable: what is remembered, for how long, and how many."""

from __future__ import annotations

import pytest

from titan.state import request_table
from titan.state.request_table import KEPT_US, SLACK_US, Request, RequestTable


def request_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def known(table: RequestTable, *numbers: int) -> list[int]:
    return [each for each in numbers if table.get("ada", request_id(each)) is not None]


def test_what_was_answered_is_told_to_its_user_alone() -> None:
    table = RequestTable()
    answered = Request(b"content", 42, 3, 1_000)
    table.add("ada", request_id(1), answered)
    table.add("Grüße", request_id(1), answered._replace(first_job_id=7))
    assert table.get("ada", request_id(1)) == answered
    assert table.get("ada", request_id(2)) is None
    assert table.get("grace", request_id(1)) is None
    other = table.get("Grüße", request_id(1))
    assert other is not None
    assert other.first_job_id == 7
    assert len(table) == 2


def test_it_is_remembered_for_a_day_and_not_for_much_longer() -> None:
    table = RequestTable()
    for number, time_us in ((1, 0), (2, SLACK_US)):
        table.add("ada", request_id(number), Request(b"", 1, 1, time_us))
    table.add("ada", request_id(3), Request(b"", 1, 1, KEPT_US + SLACK_US))
    assert known(table, 1, 2, 3) == [1, 2, 3]
    table.add("ada", request_id(4), Request(b"", 1, 1, KEPT_US + SLACK_US + 1))
    assert known(table, 1, 2, 3, 4) == [3, 4], "those of a day and more ago go together"


def test_of_too_many_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_table, "KEPT", 5)
    monkeypatch.setattr(request_table, "SLACK", 2)
    table = RequestTable()
    for number in range(8):
        table.add("ada", request_id(number), Request(b"", 1, 1, number))
        assert len(table) <= 7
    assert known(table, *range(8)) == [3, 4, 5, 6, 7]


def test_it_goes_into_a_snapshot_and_out_of_it() -> None:
    table, again = RequestTable(), RequestTable()
    for number in range(5):
        table.add("ada", request_id(number), Request(b"c%d" % number, number, 2, number))
    again.load(iter(list(table.entries())))
    assert list(again.entries()) == list(table.entries())
    late = Request(b"", 1, 1, KEPT_US + SLACK_US + 3)
    for each in (table, again):
        each.add("ada", request_id(9), late)
    assert list(again.entries()) == list(table.entries())
    assert known(again, 0, 1, 2, 3, 4, 9) == [9]
