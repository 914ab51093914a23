"""The log lines of Titan's servers."""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path

import pytest

from titan import logs


def record_of(message: object, *values: object) -> logging.LogRecord:
    return logging.LogRecord("titan.x", logging.WARNING, "file", 1, message, values, None)


def line_of(message: str, *values: object, **fields: object) -> str:
    said = logs.LogLine(message, **fields) if fields else message
    return logs.LineFormatter().format(record_of(said, *values))


def object_of(message: object, *values: object) -> dict[str, object]:
    line = logs.JsonFormatter().format(record_of(message, *values))
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, object] = json.loads(line)
    return found


def test_a_line_has_utc_time_level_message_and_fields() -> None:
    line = line_of("lost", worker="w1", nothing=None, lsn=7, path="/a b", quote='say "x"')
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'WARNING lost worker=w1 lsn=7 path="/a b" quote="say \\"x\\""'
    assert line_of("lost %s", "w1").endswith(" WARNING lost w1")


def test_a_line_of_json_has_them_as_fields_of_their_kinds() -> None:
    path = Path("/a b")
    found = object_of(logs.LogLine("lost", worker="w1", nothing=None, lsn=7, held=True, path=path))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(found.pop("time")))
    assert list(found.items()) == [
        ("level", "WARNING"),
        ("logger", "titan.x"),
        ("message", "lost"),
        ("worker", "w1"),
        ("lsn", 7),
        ("held", True),
        ("path", "/a b"),
    ]
    assert object_of("lost %s", "w1 lsn=7")["message"] == "lost w1 lsn=7"


def test_what_is_no_number_of_json_is_a_string() -> None:
    line = logs.JsonFormatter().format(
        record_of(logs.LogLine("is", a=math.nan, b=-math.inf, c=0.5, d=1 << 70))
    )

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    found = json.loads(line, parse_constant=refuse)
    assert [found[name] for name in "abcd"] == ["nan", "-inf", 0.5, 1 << 70]


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


def test_in_json_what_a_terminal_acts_upon_stays_escaped_once_it_is_read() -> None:
    found = object_of(
        logs.LogLine("is", name=FORGED, path=b"\xff".decode(errors="surrogateescape"))
    )
    assert found["name"] == "x\\n2026-01-01T00:00:00.000Z INFO forged\\r\\x1b[2K\\u2028y\\x85z"
    assert found["path"] == "\\udcff"
    assert str(object_of("is %s", FORGED)["message"]).isprintable()


def test_in_json_a_traceback_is_a_field() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        record = record_of("it broke")
        record.exc_info = (type(error), error, None)
    found = json.loads(logs.JsonFormatter().format(record))
    assert found["message"] == "it broke"
    assert "ValueError: x" in found["traceback"]
    assert all(line.isprintable() for line in found["traceback"].split("\n"))


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


def test_a_format_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'xml' is no log format; use one of text, json"):
        logs.set_up("info", "xml")


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
        logs.set_up("debug")
        # Of what libraries are given, such as rows and messages, nothing is told at any level.
        logging.getLogger("sqlalchemy.engine").debug("INSERT %s", "x")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[1] for line in lines] == ["ERROR", "WARNING"]
    assert "KeyError" in lines[0]
