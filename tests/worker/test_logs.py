"""The log lines of Titan's servers."""

from __future__ import annotations

import logging
import re

import pytest

from titan import logs


def line_of(message: str, *values: object, **fields: object) -> str:
    record = logging.LogRecord("titan", logging.WARNING, "file", 1, message, values, None)
    record.fields = fields
    return logs.LineFormatter().format(record)


def test_a_line_has_utc_time_level_message_and_fields() -> None:
    line = line_of("lost %s", "w1", lsn=7, path="/a b", quote='say "x"')
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'WARNING lost w1 lsn=7 path="/a b" quote="say \\"x\\""'


def test_a_message_of_two_lines_is_one_line() -> None:
    assert line_of("one\ntwo").endswith("one\\ntwo")


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is no log level"):
        logs.set_up("loud")
