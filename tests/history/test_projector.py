"""Following a real log: from its beginning, from where it was, and past what is gone."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread

import psycopg
import pytest

import wal
from tests.cluster import wait_until
from tests.history.builders import expected_rows, rows_at
from tests.lookback.builders import History
from tests.lookback.builders import records as story
from tests.postgresql import PostgreSQL
from titan.following import HISTORY_SLOT
from titan.history import projector
from titan.history.database import HistoryRefused, open_for_writing, url_of
from titan.history.projector import Projector
from titan.history.store import Place, Store
from titan.rpc.history_frames import URL_VARIABLE


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """An empty log, to be appended to."""
    made = History(tmp_path / "manager")
    yield made
    made.close()


def follow(
    directory: Path, url: str, stop: Event | None = None, on_batch: Callable[[Place], object] = id
) -> None:
    """To the end of the log."""
    Projector(
        directory,
        Store(open_for_writing(url_of(url, directory))),
        stop=stop or Event(),
        on_batch=on_batch,
    ).run(until_end=True)


def slot_lsn(directory: Path) -> int:
    """How far the slot has come, the one there is; 0: there is none yet."""
    slots = wal.read_slots(directory / "readers", on_warning=pytest.fail)
    assert [slot.name for slot in slots] in ([HISTORY_SLOT], [])
    return slots[0].position.lsn if slots else 0


def test_a_log_is_followed_from_its_first_record_and_from_where_it_was_left(
    history: History, new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH_EVENTS", 100)
    url, third = new_url(), len(story()) // 3
    seen: list[int] = []
    for part in (story()[:third], story()[third:-1], story()[-1:], ()):
        history.append(part)
        follow(history.directory, url, on_batch=lambda place: seen.append(place.position.lsn))
    assert seen == sorted(set(seen))
    assert seen[-1] == len(story()) == slot_lsn(history.directory)
    assert len(seen) > 5
    assert rows_at(url, history.directory) == expected_rows(story())


def test_it_goes_on_from_the_snapshot_before_its_place(
    history: History, new_url: Callable[[], str]
) -> None:
    url, middle = new_url(), len(story()) // 2
    history.append(story()[:middle])
    follow(history.directory, url)
    history.append(story()[middle:])
    history.take_snapshots(middle - 20, middle + 20)
    # Only the younger one lies behind the place, and the other one is needed: the log begins there.
    wal.remove_segments_before(history.directory / "wal", middle - 19)
    assert wal.list_segments(history.directory / "wal")[0].first_lsn > 1
    follow(history.directory, url)
    assert rows_at(url, history.directory) == expected_rows(story())


def test_after_its_place_was_removed_from_the_log_it_goes_on_with_a_warning(
    history: History, new_url: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    url, early, late = new_url(), 40, len(story()) - 60
    history.append(story()[:early])
    follow(history.directory, url)
    kept = rows_at(url, history.directory)
    history.append(story()[early:])
    history.take_snapshots(late)
    wal.remove_segments_before(history.directory / "wal", late + 1)
    wal.remove_slot(history.directory / "readers", HISTORY_SLOT)
    with caplog.at_level(logging.WARNING, "titan.history"):
        follow(history.directory, url)
    assert "has not got what the history went on from" in caplog.text
    assert slot_lsn(history.directory) == len(story())
    found = {row["job_id"]: row for row in rows_at(url, history.directory)["jobs"]}
    expected = expected_rows(story())["jobs"]
    assert {row["job_id"] for row in kept["jobs"]} <= set(found)
    unknown = {job_id for job_id, row in found.items() if row["state"] == "UNKNOWN"}
    assert all(found[row["job_id"]] == row for row in expected if row["job_id"] in found
               and row["job_id"] not in unknown)  # fmt: skip
    assert expected[-1] == found[expected[-1]["job_id"]]
    # The next start has nothing to complain of.
    caplog.clear()
    with caplog.at_level(logging.WARNING, "titan.history"):
        follow(history.directory, url)
    assert caplog.text == ""


def test_the_history_of_another_cluster_is_left_alone(
    history: History, new_url: Callable[[], str], tmp_path: Path
) -> None:
    url = new_url()
    history.append(story())
    follow(history.directory, url)
    before = rows_at(url, history.directory)
    other = tmp_path / "other"
    with wal.Log.open(other / "wal") as log:
        from titan import events as ev

        log.append(ev.encode_record(1, [ev.ClusterCreated(b"another cluster!")]))
        assert log.flush()
    with pytest.raises(HistoryRefused, match="the database has the history of cluster 0001"):
        follow(other, url)
    assert rows_at(url, history.directory) == before


def test_two_do_not_follow_the_same_log(history: History, new_url: Callable[[], str]) -> None:
    history.append(story())
    url = new_url()
    follow(history.directory, url)
    lock = wal.Lock(history.directory / "readers" / "history.lock")
    try:
        with pytest.raises(wal.Locked):
            follow(history.directory, url)
    finally:
        lock.release()


def start_process(directory: Path, url: str, log: Path) -> subprocess.Popen[bytes]:
    """As a manager does; but it does not give way to whatever else runs, which is waited for."""
    # Nobody asks it anything.
    ours, theirs = socket.socketpair()
    with ours, theirs, log.open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "titan.history.process"),
                *(str(directory), "info", "text", str(os.getpid()), str(theirs.fileno()), "0"),
            ],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, URL_VARIABLE: url, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=output,
            stderr=output,
        )


def is_written(url: str) -> bool:
    """Whether anybody has a session there. What a process does with a file ends with it."""
    if url.startswith("sqlite"):
        return False
    with psycopg.connect(url) as connection:
        (sessions,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'titan history'"
        ).fetchone() or (0,)
    return bool(sessions)


class Load:
    """A manager that writes: the story up to an end, a part of it at a time."""

    def __init__(self, history: History, end: int) -> None:
        self._history = history
        self._end = end
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._append)
        self._thread.start()

    def _append(self) -> None:
        try:
            for start in range(0, self._end, 5):
                self._history.append(story()[start : min(start + 5, self._end)])
                # No wait for anything: the load lasts over several kills.
                time.sleep(0.02)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self._failure = error

    @property
    def is_on(self) -> bool:
        return self._thread.is_alive()

    def finish(self) -> None:
        self._thread.join()
        assert self._failure is None


def test_killed_again_and_again_it_ends_with_what_a_fresh_one_says(
    history: History, new_url: Callable[[], str], tmp_path: Path
) -> None:
    url, random, log = new_url(), Random(9), tmp_path / "history.log"
    history.append(story()[:0])
    load = Load(history, len(story()))
    kills = 0
    while load.is_on or kills < 5:
        process = start_process(history.directory, url, log)
        try:
            # It needs most of a second to start; it is killed before, in and after its first batch.
            process.wait(random.uniform(0.3, 2.0))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        assert process.wait() == -signal.SIGKILL, log.read_text()
        # A server may still be at the last commit of one that is gone: the next would find that
        # somebody else writes, and end.
        wait_until(lambda: not is_written(url), "its last transaction is over")
    load.finish()
    follow(history.directory, url)
    fresh = new_url()
    follow(history.directory, fresh)
    assert rows_at(url, tmp_path) == rows_at(fresh, tmp_path) == expected_rows(story())


def test_a_database_that_is_killed_is_waited_for(
    history: History, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    if not postgresql.is_own:
        pytest.skip("NOT TESTED: the PostgreSQL that was named is not this test's to kill")
    url, random, log = postgresql.make_database(), Random(7), tmp_path / "history.log"
    end = len(story()) - 5
    load = Load(history, end)
    process = start_process(history.directory, url, log)
    try:
        wait_until(lambda: slot_lsn(history.directory), "something is written", seconds=60)
        kills = 0
        while load.is_on or kills < 3:
            # The moment of a kill is chance; nothing is expected to have happened by then.
            time.sleep(random.uniform(0.2, 1.0))
            postgresql.kill()
            kills += 1
            postgresql.start()
        load.finish()
        wait_until(lambda: slot_lsn(history.directory) == end, "that is written", seconds=60)
        # One commit meets with no database for certain.
        tries = log.read_text().count("trying again in")
        postgresql.kill()
        history.append(story()[end:])
        wait_until(
            lambda: log.read_text().count("trying again in") > tries, "it is tried", seconds=60
        )
        postgresql.start()
        wait_until(
            lambda: slot_lsn(history.directory) == len(story()), "all is written", seconds=60
        )
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait() == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    fresh = postgresql.make_database()
    follow(history.directory, fresh)
    assert rows_at(url, tmp_path) == rows_at(fresh, tmp_path) == expected_rows(story())


def test_a_file_that_is_removed_under_its_hands_is_made_anew(
    history: History, tmp_path: Path
) -> None:
    file, log = tmp_path / "h.sqlite", tmp_path / "log"
    history.append(story()[:50])
    for part in (story()[50:100], story()[100:]):
        process = start_process(history.directory, f"sqlite:///{file}", log)
        try:
            wait_until(
                lambda: slot_lsn(history.directory) >= 50 and file.exists(), "it is up", seconds=60
            )
            wait_until(lambda: log.read_text().count("is followed"), "it is up", seconds=60)
            for each in tmp_path.glob("h.sqlite*"):
                # SQLite may have removed one by now.
                each.unlink(missing_ok=True)
            history.append(part)
            assert process.wait(60) == 1, log.read_text()
        finally:
            process.kill()
            process.wait()
        log.write_text("")
    follow(history.directory, f"sqlite:///{file}")
    assert rows_at(f"sqlite:///{file}", tmp_path) == expected_rows(story())


def test_it_waits_for_a_log_and_stops_when_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start_process(tmp_path, f"sqlite:///{tmp_path}/h.sqlite", log)
    try:
        wait_until(lambda: "the history goes to" in log.read_text(), "it is up", seconds=60)
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_password_is_in_no_log_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start_process(tmp_path, "postgresql://ada:geheim@127.0.0.1:1/titan", log)
    try:
        wait_until(lambda: "the history goes to" in log.read_text(), "it is up", seconds=60)
    finally:
        process.kill()
        process.wait()
    assert "geheim" not in log.read_text()
    assert "ada:***@127.0.0.1" in log.read_text()
