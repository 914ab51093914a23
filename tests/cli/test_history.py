"""`titan history`, as far as it needs no cluster: that is in tests/history."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Titan

WRONG = [
    (("--totals", "user", "--slowest"), "give one of them"),
    (("--csv", "--json"), "give one of them"),
    (("--columns", "jib"), "there is no column 'jib'"),
    (("--totals", "day", "--columns", "job"), "--columns chooses"),
    (("--since", "sometime"), "'sometime' is no time"),
    (("--since", "7 days"), "'7 days' is no"),
    (("--history", "none"), "none is no database"),
    (("--me", "--user", "ada"), "give one of them"),
    (("--history", "mysql://u:geheim@h/n"), "postgresql://HOST/NAME"),
    (("--user", "ada", "run"), "--user stands before run"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=range(len(WRONG)))
def test_what_makes_no_sense_is_a_usage_error(
    titan: Titan, options: tuple[str, ...], sentence: str
) -> None:
    result = titan("history", *options)
    assert result.code == 2
    assert sentence in " ".join(result.err.split())
    assert "geheim" not in result.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--png", "f.png"), "--png and --history go with --last"),
        (("--history", "sqlite:///f"), "--png and --history go with --last"),
        (("--last", "day", "--at", "1h ago"), "--last is up to now"),
        (("--last", "month"), "'month' is not one of"),
    ],
)
def test_what_goes_with_the_last_day_goes_with_it_alone(
    titan: Titan, options: tuple[str, ...], sentence: str
) -> None:
    result = titan("stats", *options)
    assert result.code == 2
    assert sentence in " ".join(result.err.split())


def test_where_nothing_was_written_that_is_said(titan: Titan, tmp_path: Path) -> None:
    result = titan("history", "--data-dir", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert f"there is no history in {tmp_path}/history.sqlite" in result.err


def test_a_database_that_does_not_answer_is_an_error_without_the_password(titan: Titan) -> None:
    result = titan("history", "--history", "postgresql://ada:geheim@127.0.0.1:1/titan")
    assert (result.code, result.out) == (1, "")
    assert "the history does not answer" in result.err
    assert "geheim" not in result.err
