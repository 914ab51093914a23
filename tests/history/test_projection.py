"""The tables say what users see of the state, row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from tests.history.builders import Rows, expected_rows, place, project, read_rows
from tests.lookback.builders import records as story
from tests.manager.kernel.test_histories import Histories as KernelHistories
from tests.postgresql import PostgreSQL
from titan.history.database import open_for_writing, url_of
from titan.history.projection import Projection, all_rows
from titan.history.schema import METADATA
from titan.history.store import HistoryMoved, Store
from titan.state.cluster import ClusterState


@pytest.mark.parametrize("records_each", [1, 7, 10_000])
def test_a_long_story_is_the_same_in_the_tables_and_in_the_state(
    engine: sa.Engine, store: Store, records_each: int
) -> None:
    project(store, story(), range(records_each, len(story()), records_each))
    expected = expected_rows(story())
    assert len(expected["jobs"]) > 200
    assert {row["state"] for row in expected["attempts"]} >= {
        "COMPLETED", "FAILED", "CANCELLED", "LOST", "RECALLED",
    }  # fmt: skip
    assert read_rows(engine) == expected
    found = store.find_place()
    assert found is not None
    assert found.position.lsn == len(story())


def test_a_batch_that_was_written_already_changes_nothing_and_another_one_is_refused(
    engine: sa.Engine, store: Store
) -> None:
    project(store, story()[:50])
    before = read_rows(engine)
    projection = Projection(ClusterState())
    for lsn, payload in enumerate(story()[:50], 1):
        projection.apply(lsn, payload)
    batch = projection.take_batch()
    batch.jobs[1]["state"] = "nonsense"
    store.write(batch, place(0), place(50))
    assert read_rows(engine) == before
    with pytest.raises(HistoryMoved):
        store.write(batch, place(0), place(40))
    with pytest.raises(HistoryMoved):
        store.write(batch, place(51), place(52))
    assert read_rows(engine) == before


def test_one_that_begins_with_a_state_in_the_middle_has_all_that_this_knows(
    engine: sa.Engine, store: Store
) -> None:
    middle = len(story()) // 2
    project(store, story()[:middle])
    whole = read_rows(engine, but=("lsn",))
    state = ClusterState()
    known = Projection(state)
    for lsn, payload in enumerate(story()[:middle], 1):
        known.apply(lsn, payload)
    with engine.begin() as connection:
        for table in METADATA.tables:
            connection.exec_driver_sql(f"DELETE FROM {table}")
    store.write_anew(place(middle), all_rows(state))
    found = read_rows(engine, but=("lsn",))
    remembered = set(state.jobs)
    assert 0 < len(remembered) < len(whole["jobs"])
    assert found["jobs"] == [row for row in whole["jobs"] if row["job_id"] in remembered]
    names = {row["number"]: row["name"] for row in whole["workers"]}
    assert len(names) == len(set(names.values()))
    assert found["attempts"] == [row for row in whole["attempts"] if row["job_id"] in remembered]
    assert found["workers"] == whole["workers"]
    assert found["running"] == whole["running"] != []
    # Workers that are there have been since then, as far as is known.
    there = {row["number"]: row["cpus"] for row in whole["worker_events"]}
    assert {row["number"]: row["cpus"] for row in found["worker_events"]} == {
        number: cpus for number, cpus in there.items() if cpus
    }
    assert {(row["event"], row["time"]) for row in found["worker_events"]} == {
        ("FOUND", state.time_us / 1e6)
    }
    # All of a job are one row there.
    tasks = tasks_cancelled(whole)
    assert {row["job_id"] for row in found["cancelled"]} == set(tasks) & remembered != set()
    assert all(row["tasks"] == tasks[row["job_id"]] for row in found["cancelled"])


def tasks_cancelled(rows: Rows) -> dict[int, int]:
    """Of each job, while they waited."""
    found: dict[int, int] = {}
    for row in rows["cancelled"]:
        found[row["job_id"]] = found.get(row["job_id"], 0) + row["tasks"]
    return found


def test_going_on_after_a_gap_keeps_what_the_log_has_forgotten(
    engine: sa.Engine, store: Store
) -> None:
    early, late, end = 60, 2 * len(story()) // 3, len(story())
    project(store, story()[:early])
    before = read_rows(engine, but=("lsn",))
    projection = Projection(ClusterState())
    for lsn, payload in enumerate(story()[:late], 1):
        projection.apply(lsn, payload)
    projection.take_batch()
    remembered = set(projection.state.jobs)
    store.write_anew(place(late), all_rows(projection.state))
    for lsn, payload in enumerate(story()[late:], late + 1):
        projection.apply(lsn, payload)
    store.write(projection.take_batch(), place(late), place(end))
    found = {row["job_id"]: row for row in read_rows(engine)["jobs"]}
    expected = {row["job_id"]: row for row in expected_rows(story())["jobs"]}
    lost = {row["job_id"] for row in before["jobs"]} - remembered
    assert {job_id for job_id, row in found.items() if row["state"] == "UNKNOWN"} == {
        row["job_id"] for row in before["jobs"] if row["end_time"] is None
    } & lost
    assert any(row["end_time"] is not None for row in before["jobs"] if row["job_id"] in lost)
    for row in before["jobs"]:
        if row["job_id"] in lost and row["end_time"] is not None:
            assert found[row["job_id"]] == row
    for job_id in remembered | {each for each in expected if each > max(remembered)}:
        assert found[job_id] == expected[job_id]


def test_reading_again_from_an_earlier_place_comes_to_the_same(
    engine: sa.Engine, store: Store
) -> None:
    project(store, story())
    whole = read_rows(engine)
    base = len(story()) // 2
    projection = Projection(ClusterState())
    for lsn, payload in enumerate(story()[:base], 1):
        projection.apply(lsn, payload)
    projection.take_batch()
    store.write_anew(place(base), all_rows(projection.state))
    for lsn, payload in enumerate(story()[base:], base + 1):
        projection.apply(lsn, payload)
    store.write(projection.take_batch(), place(base), place(len(story())))
    assert read_rows(engine) == whole


class Histories(KernelHistories):
    """The histories that the kernel is tried with, each of them projected at its end."""

    @initialize(seed=st.integers(0, 1000))
    def is_cut(self, seed: int) -> None:
        self.random = Random(seed)

    def teardown(self) -> None:
        super().teardown()
        records = self.rig.records
        with self.new_engine() as engine:
            store = Store(engine)
            store.migrate()
            ends: Any = self.random.sample(
                range(1, len(records) + 1), self.random.randrange(min(8, len(records)))
            )
            project(store, records, ends)
            assert read_rows(engine) == expected_rows(records)

    @staticmethod
    @contextmanager
    def new_engine() -> Iterator[sa.Engine]:
        """Of an empty database."""
        with tempfile.TemporaryDirectory() as name:
            engine = open_for_writing(url_of("", Path(name)))
            try:
                yield engine
            finally:
                engine.dispose()


Histories.TestCase.settings = settings(max_examples=25, stateful_step_count=40)
TestHistories = Histories.TestCase


def test_random_histories_are_the_same_in_postgresql(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    engine = open_for_writing(url_of(postgresql.make_database(), tmp_path))
    Store(engine).migrate()

    class OnPostgreSQL(Histories):
        @staticmethod
        @contextmanager
        def new_engine() -> Iterator[sa.Engine]:
            # A database for each would take most of the time.
            with engine.begin() as connection:
                for table in METADATA.tables:
                    connection.exec_driver_sql(f"TRUNCATE {table}")
            yield engine

    try:
        run_state_machine_as_test(
            OnPostgreSQL, settings=settings(max_examples=4, stateful_step_count=30)
        )
    finally:
        engine.dispose()
