"""The two PostgreSQL servers of the chaos with several managers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg
import pytest

from tests.cluster import is_alive, wait_until
from tests.postgresql import a_pair
from tools.chaos.several.postgresql import Pair


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with a_pair() as pair:
        with psycopg.connect(pair.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE written (number bigint PRIMARY KEY)")
        yield pair


@pytest.fixture(autouse=True)
def _is_whole_again(pair: Pair) -> Iterator[None]:
    yield
    pair.wait_synchronous()


class Writer(threading.Thread):
    """Inserts numbers one after the other by the URL of both, and knows what was acknowledged."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[int] = []
        self._url = url
        self._is_over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(self._url, autocommit=True, connect_timeout=2) as connection,
            ):
                while not self._is_over.is_set():
                    number += 1
                    connection.execute("INSERT INTO written VALUES (%s)", (number,))
                    self.acknowledged.append(number)

    def stop(self) -> None:
        self._is_over.set()
        self.join(30)
        assert not self.is_alive()

    def wait_more(self, count: int = 20) -> None:
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal, "more is written", 60)


def read_all(pair: Pair) -> set[int]:
    with psycopg.connect(pair.url) as connection:
        return {number for (number,) in connection.execute("SELECT number FROM written")}


def test_what_was_acknowledged_is_there_after_each_failover(pair: Pair) -> None:
    with psycopg.connect(pair.url, autocommit=True) as connection:
        connection.execute("TRUNCATE written")
    writer = Writer(pair.url)
    writer.start()
    try:
        for _ in range(2):
            writer.wait_more()
            pair.fail_over()
            writer.wait_more()
            pair.rebuild_standby()
    finally:
        writer.stop()
    assert {*writer.acknowledged} <= read_all(pair)


def test_a_primary_that_is_killed_or_restarted_has_all_that_was_acknowledged(pair: Pair) -> None:
    with psycopg.connect(pair.url, autocommit=True) as connection:
        connection.execute("TRUNCATE written")
    writer = Writer(pair.url)
    writer.start()
    try:
        writer.wait_more()
        pair.primary.kill()
        pair.primary.start()
        writer.wait_more()
        pair.primary.stop()
        pair.primary.start()
        writer.wait_more()
    finally:
        writer.stop()
    assert {*writer.acknowledged} <= read_all(pair)


def test_of_a_server_that_was_killed_no_process_is_left(pair: Pair) -> None:
    """One that still were there would not let the next one start."""
    connection = pair.primary.connect()
    first = psutil.Process(connection.info.backend_pid).parent()
    assert first is not None
    family = [first.pid, *(each.pid for each in first.children(recursive=True))]
    assert connection.info.backend_pid in family
    pair.primary.kill()
    assert not [*filter(is_alive, family)]
    connection.close()
    pair.primary.start()


def test_a_commit_waits_for_the_standby(pair: Pair) -> None:
    pair.standby.pause()
    try:
        with psycopg.connect(pair.primary.url, autocommit=True) as connection:
            notices: list[str] = []
            connection.add_notice_handler(lambda notice: notices.append(notice.sqlstate or ""))
            waiting = threading.Thread(
                target=connection.execute, args=("INSERT INTO written VALUES (-1)",)
            )
            waiting.start()
            question = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            wait_until(lambda: pair.primary.ask(question) == 1, "it waits for the standby", 60)
            connection.cancel()
            waiting.join(60)
        # It is said to be committed, and only the warning says that it may not be on the standby.
        assert notices == ["01000"]
    finally:
        pair.standby.go_on()
