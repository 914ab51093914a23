"""Tables and text for people."""

import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.cli import text
from titan.cli.describe import (
    first_failure,
    job_exit_code,
    outcome_sentence,
    why_ended,
)
from titan.cli.table import table_lines
from titan.rpc.v1 import manager_pb2, types_pb2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_acts_upon(value: str) -> None:
    shown = text.printable(value)
    assert all(character.isprintable() or ord(character) > 159 for character in shown)
    assert not set(shown) & set("\x1b\x9b\n\r\x07\u202e\u2028")
    shown.encode()


def test_printable_text_is_otherwise_as_it_was() -> None:
    assert text.printable("naïve 東京 ✓") == "naïve 東京 ✓"
    assert text.printable("a\x1b[31m\tb\x00\udcff") == "a\\x1b[31m\\tb\\x00\\udcff"


def test_columns_are_aligned_and_numbers_to_the_right() -> None:
    lines = table_lines(("N", "NAME", "X"), [("1", "a", "x"), ("10", "long", "")], right=("N",))
    assert lines == [" N  NAME  X", " 1  a     x", "10  long"]


def test_wide_characters_take_two_cells() -> None:
    lines = table_lines(("A", "B"), [("東京", "x"), ("abcd", "y"), ("e\u0301", "z")])
    assert lines == ["A     B", "東京  x", "abcd  y", "e\u0301     z"]


def test_a_narrow_terminal_shortens_the_widest_columns_that_may_be() -> None:
    lines = table_lines(("A", "B"), [("x" * 30, "y" * 30)], cut=("A", "B"), width=40)
    assert lines[1] == "x" * 18 + "…  " + "y" * 18 + "…"
    kept = table_lines(("A", "B"), [("x" * 30, "y" * 30)], cut=("A",), width=10)
    assert kept[1] == "x" * 7 + "…  " + "y" * 30


def test_a_table_without_rows_is_its_headings() -> None:
    assert table_lines(("A", "BB"), []) == ["A  BB"]


def test_states_are_coloured_on_a_terminal_unless_no_colour_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert text.coloured_state("FAILED", Terminal()) == "\x1b[31mFAILED\x1b[0m"
    assert text.coloured_state("FAILED", io.StringIO()) == "FAILED"
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.coloured_state("FAILED", Terminal()) == "FAILED"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert text.coloured_state("FAILED", Terminal()) == "FAILED"


def test_colour_does_not_move_columns() -> None:
    def colour(heading: str, cell: str) -> str:
        return f"<{cell}>" if heading == "S" else cell

    lines = table_lines(("S", "T"), [("a", "1"), ("bbb", "2")], colour=colour)
    assert lines == ["S    T", "<a>    1", "<bbb>  2"]


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text.local_time(None) == "-"
    assert len(text.local_time(0.5)) == len("1970-01-01 00:00:00")


def test_json_is_one_line_of_ascii_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    text.print_json({"name": "\u009b ü"})
    assert capsys.readouterr().out == '{"name": "\\u009b \\u00fc"}\n'
    assert not sys.stdout.isatty()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"state": types_pb2.COMPLETED, "exit_code": 0}, 0),
        ({"state": types_pb2.FAILED, "exit_code": 3}, 3),
        ({"state": types_pb2.FAILED, "signal": 15}, 143),
        ({"state": types_pb2.FAILED, "signal": 9, "exit_code": 137}, 137),
        ({"state": types_pb2.FAILED, "reason": types_pb2.REASON_LAUNCH_ERROR}, 127),
        ({"state": types_pb2.FAILED, "reason": types_pb2.REASON_WORKER_LOST}, 1),
        ({"state": types_pb2.CANCELLED, "exit_code": 0}, 130),
        ({"state": types_pb2.FAILED}, 1),
        ({"state": types_pb2.FAILED, "exit_code": 256}, 1),
    ],
)
def test_a_job_becomes_an_exit_code(fields: dict[str, int], code: int) -> None:
    assert job_exit_code(manager_pb2.Job(**fields)) == code  # type: ignore[arg-type]


def test_of_several_exit_codes_the_first_that_is_not_0_counts() -> None:
    assert first_failure([0, 0, 3, 4]) == 3
    assert first_failure([0, 0]) == 0
    assert first_failure([]) == 0


def test_a_job_cancelled_while_it_waited_says_so() -> None:
    job = manager_pb2.Job(job_id=5, state=types_pb2.CANCELLED)
    assert outcome_sentence(job) == "job 5 CANCELLED: before it started"


def test_a_running_job_has_no_reason_yet() -> None:
    assert why_ended(manager_pb2.Job(state=types_pb2.RUNNING)) == ""


def test_a_name_of_a_signal_that_is_none_is_left_out() -> None:
    job = manager_pb2.Job(job_id=5, state=types_pb2.FAILED, signal=99)
    assert outcome_sentence(job) == "job 5 FAILED: signal 99"


def test_the_state_home_of_tests_is_not_the_users() -> None:
    assert "TITAN_TEST_RUN" in os.environ
