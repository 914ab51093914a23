"""The line for who was denied something: what it says, and how many there are."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.manager.harness import until
from titan.logs import LineFormatter
from titan.rpc.audit import LINES_PER_SECOND, Audit


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "titan.audit")
    return caplog


def deny(audit: Audit, who: str = "user bob", why: str = "no") -> None:
    audit.denied(who=who, what="CancelJob", peer="ipv4:10.0.0.7:4711", why=why)


def test_a_line_says_who_what_from_where_and_why(lines: pytest.LogCaptureFixture) -> None:
    deny(Audit(), why="job 7 is alice's, and you are bob")
    assert lines.messages == [
        'denied who="user bob" what=CancelJob from=ipv4:10.0.0.7:4711 '
        'why="job 7 is alice\'s, and you are bob"'
    ]
    assert lines.records[0].levelname == "WARNING"


def test_no_name_begins_a_line_or_moves_the_cursor(lines: pytest.LogCaptureFixture) -> None:
    deny(Audit(), who="a\nb' what=x", why="\x1b[2J\r\u202e\udc80")
    line = LineFormatter().format(lines.records[0])
    assert line.isprintable()
    assert line.isascii()
    assert "\\n" in line
    assert "\\x1b[2J\\r\\u202e" in line


def test_in_a_second_there_are_so_many_and_the_rest_is_counted(
    lines: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    audit = Audit(clock)
    for _ in range(LINES_PER_SECOND + 7):
        deny(audit)
    assert len(lines.messages) == LINES_PER_SECOND
    clock.now += 0.9
    deny(audit)
    assert len(lines.messages) == LINES_PER_SECOND
    clock.now += 0.1
    deny(audit)
    assert lines.messages[LINES_PER_SECOND:] == [
        "denied more than is written here times=8",
        lines.messages[0],
    ]
    # And not again.
    clock.now += 1
    deny(audit)
    assert lines.messages[LINES_PER_SECOND + 2 :] == [lines.messages[0]]


def test_in_a_server_the_rest_is_told_though_nobody_is_denied_anything_after_it(
    lines: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        audit = Audit(Clock())
        for _ in range(LINES_PER_SECOND + 7):
            deny(audit)
        assert len(lines.messages) == LINES_PER_SECOND
        await until(lambda: len(lines.messages) > LINES_PER_SECOND)
        assert lines.messages[-1] == "denied more than is written here times=7"

    asyncio.run(scenario())
