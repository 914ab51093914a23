"""What judges a run of `make chaos-ha` besides the judge of `make chaos`: pauses, calls, copies."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

import wal
from tools.chaos.several.copies import JournalRow, check_rows, compare_copy, read_copy, read_records
from tools.chaos.several.pauses import (
    Outage,
    Pause,
    bound_seconds,
    find_answer,
    find_failed_calls,
    find_slow,
    tell_pauses,
)


def submit(name: str, time: float) -> dict[str, Any]:
    return {"what": "submit", "request_id": name, "time": time}


def accepted(name: str, time: float) -> dict[str, Any]:
    return {"what": "accepted", "request_id": name, "job_ids": [1], "time": time}


def test_a_pause_ends_with_the_first_answer_to_what_was_sent_after_the_fault() -> None:
    users = [
        submit("r1", 9.0),
        # Sent before: whoever was killed may have answered that.
        accepted("r1", 10.1),
        submit("r2", 10.2),
        accepted("r2", 12.5),
        submit("r3", 10.5),
        accepted("r3", 12.0),
    ]
    assert find_answer(users, Outage(sent_after=10.0, since=10.0)) == 12.0
    assert find_answer(users[:3], Outage(sent_after=10.0, since=10.0)) is None


def test_where_nobody_can_be_served_the_pause_begins_when_that_is_over() -> None:
    users = [submit("r1", 9.0), accepted("r1", 10.1), submit("r2", 9.5), accepted("r2", 14.5)]
    assert find_answer(users, Outage(sent_after=float("-inf"), since=13.0)) == 14.5


def test_a_pause_that_is_too_long_for_its_kind_is_found() -> None:
    pauses = [
        Pause(1, "kill-leader", 4.4),
        Pause(2, "kill-leader", 4.6),
        Pause(3, "step-down", 1.4),
        Pause(4, "step-down", 1.6),
    ]
    assert [each.split(":")[0] for each in find_slow(pauses, 2, 0.5)] == ["round 2", "round 4"]
    assert (bound_seconds("fail-over", 2, 0), bound_seconds("step-down", 2, 0)) == (4, 1)


def test_the_table_has_a_line_for_each_kind_that_came() -> None:
    pauses = [Pause(number, "kill-leader", float(number)) for number in range(1, 12)]
    pauses.append(Pause(12, "step-down", 0.25))
    _, kill, step = tell_pauses(pauses, 2, 1)
    assert kill.split() == ["kill-leader", "11", "1.00", "6.00", "10.00", "11.00", "5.00"]
    assert step.split() == ["step-down", "1", "0.25", "0.25", "0.25", "0.25", "2.00"]


def test_a_call_that_failed_is_found() -> None:
    users = [submit("r1", 1.0), {"what": "failed", "error": "no manager answers", "time": 2.0}]
    assert [*find_failed_calls(users)] == ["a call of a user failed: no manager answers"]


def row(first_lsn: int, *payloads: bytes, term: int = 1) -> JournalRow:
    lengths = struct.pack(f"<{len(payloads)}I", *map(len, payloads))
    last_lsn = first_lsn + len(payloads) - 1
    return JournalRow(first_lsn, last_lsn, term, 0, lengths + b"".join(payloads))


def test_rows_without_gaps_whose_terms_never_fall_are_right() -> None:
    rows = [row(1, b"a", b"bb"), row(3, b""), row(4, b"c", term=3)]
    assert check_rows(rows) == []
    assert read_records(rows) == [(1, b"a"), (2, b"bb"), (3, b""), (4, b"c")]


def test_a_gap_between_rows_and_a_row_of_an_older_term_are_found() -> None:
    assert len(check_rows([row(1, b"a"), row(3, b"b")])) == 1
    assert len(check_rows([row(1, b"a", term=2), row(2, b"b", term=1)])) == 1


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ([b"a", b"b", b"c"], ""),
        # Of what came meanwhile it has nothing yet.
        ([b"a", b"b"], ""),
        ([b"a"], "it ends with record 1 of 2"),
        ([b"a", b"b", b"c", b"d"], "it has record 4, PostgreSQL ends with 3"),
        ([b"a", b"x", b"c"], "its record 2 is not what PostgreSQL has as 2"),
    ],
)
def test_a_copy_that_is_not_what_the_rows_are_is_found(
    tmp_path: Path, written: list[bytes], found: str
) -> None:
    log = wal.Log.open(str(tmp_path / "wal"))
    for payload in written:
        log.append(payload)
    log.close()
    rows = [row(1, b"a", b"b"), row(3, b"c")]
    assert compare_copy(read_copy(tmp_path), read_records(rows), 2) == found


def test_a_copy_that_is_not_there_is_found(tmp_path: Path) -> None:
    assert "can't be read" in compare_copy(read_copy(tmp_path), [(1, b"a")], 1)
