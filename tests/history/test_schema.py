"""The tables, and the scripts that make them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from titan.history import migrations
from titan.history.database import (
    VERSION_TABLE,
    HistoryRefused,
    check_form,
    migrate,
    open_for_reading,
    url_of,
    writing,
)
from titan.history.schema import CANCELLED, JOBS, LOG_POSITION, METADATA
from titan.history.store import Store


def test_the_scripts_make_the_tables_that_the_code_has(engine: sa.Engine, store: Store) -> None:
    # Once more does nothing.
    store.migrate()
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, METADATA) == []


def test_older_tables_get_what_was_cancelled_before_its_first_attempt(engine: sa.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    job = {column.name: 0 for column in JOBS.columns} | {
        "name": "n", "user_name": "ada", "command": "[]", "cwd": "/", "resources": "{}",
        "array": None, "tasks": 3, "tasks_cancelled": 3, "state": "CANCELLED",
        "reason": "DEADLINE", "submit_time": 5.0, "end_time": 7.5, "submit_lsn": 2, "cpus": 2.0,
    }  # fmt: skip
    position = {"id": 1, "cluster_id": "", "log_id": "", "lsn": 90, "chain": 0, "time": 9.0}
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        jobs = [
            job | {"job_id": 1},
            job | {"job_id": 2, "attempts": 1},
            job | {"job_id": 3, "state": "PENDING", "end_time": None},
            job | {"job_id": -4, "submit_lsn": 0, "reason": None},
        ]
        connection.execute(sa.insert(JOBS), jobs)
        connection.execute(sa.insert(LOG_POSITION), position)
    migrate(engine)
    with engine.begin() as connection:
        found = connection.execute(sa.select(CANCELLED).order_by(CANCELLED.c.job_id)).all()
    assert [tuple(row) for row in found] == [
        (-4, 0, 0, 3, "n", "ada", "CANCELLED", 5.0, 7.5, 2.0, 0),
        (1, 90, -1, 3, "n", "ada", "DEADLINE", 5.0, 7.5, 2.0, 0),
    ]


def test_every_table_and_column_is_documented() -> None:
    for table in METADATA.sorted_tables:
        assert table.comment
        assert [column.name for column in table.columns if not column.comment] == []


def test_tables_of_another_version_are_neither_written_nor_read(
    engine: sa.Engine, store: Store
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(HistoryRefused, match="a later version of Titan"):
        migrate(engine)
    with engine.begin() as connection, pytest.raises(HistoryRefused, match="have the form 9999"):
        check_form(connection)


def test_what_is_not_there_yet_is_told(engine: sa.Engine, tmp_path: Path) -> None:
    with engine.begin() as connection, pytest.raises(HistoryRefused, match="no history yet"):
        check_form(connection)
    with pytest.raises(HistoryRefused, match="there is no history in"):
        open_for_reading(url_of("", tmp_path / "absent"))


@pytest.mark.parametrize(
    "given", ["history.sqlite", "mysql://h/n", "sqlite://", "sqlite:///:memory:", "://secret"]
)
def test_what_is_no_database_of_a_history_is_refused_without_its_words(
    given: str, tmp_path: Path
) -> None:
    with pytest.raises(HistoryRefused) as raised:
        url_of(given, tmp_path)
    assert "secret" not in str(raised.value)


def test_a_reader_can_change_nothing(engine: sa.Engine, store: Store, tmp_path: Path) -> None:
    reading = open_for_reading(engine.url)
    try:
        with reading.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one() == 0
            with pytest.raises(sa.exc.DBAPIError, match=r"read.?only"):
                connection.execute(sa.text("DELETE FROM jobs"))
    finally:
        reading.dispose()


def test_the_file_is_its_owners(tmp_path: Path) -> None:
    from titan.history.database import open_for_writing

    engine = open_for_writing(url_of("", tmp_path))
    migrate(engine)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("history.sqlite*")} == {0o600}
    engine.dispose()
