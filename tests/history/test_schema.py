"""The tables, and the scripts that make them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from titan.history.database import (
    VERSION_TABLE,
    HistoryRefused,
    check_form,
    migrate,
    open_for_reading,
    url_of,
)
from titan.history.schema import METADATA
from titan.history.store import Store


def test_the_scripts_make_the_tables_that_the_code_has(engine: sa.Engine, store: Store) -> None:
    # Once more does nothing.
    store.migrate()
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, METADATA) == []


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
