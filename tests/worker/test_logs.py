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


FORGED = "x\n2026-01-01T00:00:00.000Z INFO forged\r\x1b[2K\u2028y\x85z"


@pytest.mark.parametrize("how", ["message", "value", "field"])
def test_no_value_forges_a_second_line_or_speaks_to_a_terminal(how: str) -> None:
    lines = {
        "message": line_of(FORGED),
        "value": line_of("is %s", FORGED),
        "field": line_of("is", a=FORGED),
    }
    line = lines[how]
    assert line.splitlines() == [line]
    assert line.isprintable()
    assert "\\n2026-01-01T00:00:00.000Z INFO forged\\r\\x1b[2K\\u2028y\\x85z" in line


def test_no_error_forges_a_line_in_its_traceback() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        record = logging.LogRecord(
            "titan", logging.ERROR, "file", 1, "it broke", (), (type(error), error, None)
        )
    first, *rest = logs.LineFormatter().format(record).split("\n")
    assert first.endswith("ERROR it broke")
    assert rest
    # A line of the log begins with its time, never with a space.
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is no log level"):
        logs.set_up("loud")


def test_what_grpc_says_of_each_caller_who_is_gone_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up("info")
        said = "ExecuteBatchError raised in core by servicer method [%s]"
        logging.getLogger("grpc._cython.cygrpc").error(said, "/titan.v1.ManagerService/GetEvents")
        logging.getLogger("grpc._cython.cygrpc").error("Unexpected [%s] raised", "KeyError")
        # Whoever has his words in a line of Titan's cannot take it away with them.
        logging.getLogger("titan.audit").warning(said, "x")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[1] for line in lines] == ["ERROR", "WARNING"]
    assert "KeyError" in lines[0]
