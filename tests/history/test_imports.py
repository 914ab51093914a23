"""Jobs of other schedulers in the history: once, all or none, and beside what the log tells."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa

import wal
from tests.cli.conftest import Titan, titan
from tests.cluster import Cluster, wait_until
from tests.history.builders import expected_rows, place, project, read_rows, rows_at
from tests.history.import_files import (
    RAN,
    SWF,
    T0,
    read_mini_slurm,
    read_swf,
    row,
    write_mini_slurm,
    write_swf,
)
from tests.history.writing import WRITER_SECONDS
from tests.lookback.builders import History
from tests.lookback.builders import records as story
from tests.simulator.builders import swf_line
from titan.accounting import Wanted
from titan.history import imports as written
from titan.history.database import (
    HistoryRefused,
    WriterBusy,
    open_for_reading,
    open_for_writing,
    url_of,
    writing,
)
from titan.history.imported import ImportedJob
from titan.history.imports import AlreadyImported, Imported, import_jobs
from titan.history.projector import Projector
from titan.history.questions import Questions
from titan.history.schema import ATTEMPTS, CANCELLED, IMPORTS, JOBS
from titan.history.store import Place, Store
from titan.history.swf import TREATMENT as SWF_TREATMENT
from titan.history.swf import read_jobs
from titan.traces.lines import OddLines

__all__ = ["titan"]


def rows_of(engine: sa.Engine, table: sa.Table) -> list[dict[str, Any]]:
    with engine.begin() as connection:
        query = sa.select(table).order_by(*table.primary_key)
        return [dict(each) for each in connection.execute(query).mappings()]


def import_swf(engine: sa.Engine, *lines: str) -> Imported:
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return import_jobs(engine, "swf", "t.swf", read_swf(*lines)[0], digest=digest)


@pytest.fixture
def questions(engine: sa.Engine, store: Store) -> Iterator[Questions]:
    """Of what the log of the long story tells."""
    project(store, story())
    reading = open_for_reading(engine.url)
    yield Questions(reading)
    reading.dispose()


def test_words_that_are_no_text_are_imported_as_well_as_they_can_be(
    engine: sa.Engine, store: Store, tmp_path: Path
) -> None:
    path = write_mini_slurm(
        tmp_path / "m.db", [row(1, nodes='["n\\ud800\\u0000"]', command="a\0b")]
    )
    import_jobs(engine, "mini-slurm", "m\udcff.db", read_mini_slurm(path)[0])
    (attempt,) = rows_of(engine, ATTEMPTS)
    assert attempt["worker"] == "n\ufffd\ufffd"
    (imported,) = rows_of(engine, IMPORTS)
    assert imported["file"] == "m\ufffd.db"


def test_what_was_cancelled_before_it_ran_is_in_the_answers(
    engine: sa.Engine, store: Store, tmp_path: Path
) -> None:
    cancelled = row(3, status="CANCELLED", start_time=None, end_time=None, return_code=None)
    path = write_mini_slurm(tmp_path / "m.db", [RAN, cancelled])
    import_jobs(engine, "mini-slurm", "m.db", read_mini_slurm(path)[0])
    reading = open_for_reading(engine.url)
    try:
        found = (
            Questions(reading)
            .list_attempts(Wanted(source="mini-slurm", states=("CANCELLED",)), 10)
            .rows
        )
    finally:
        reading.dispose()
    assert [(each["source_job"], each["state"], each["tasks"], each["attempt"], each["index"])
            for each in found] == [(3, "CANCELLED", 1, None, 0)]  # fmt: skip


def test_imported_jobs_have_ids_below_0_and_are_told_with_the_clusters(
    engine: sa.Engine, questions: Questions, tmp_path: Path
) -> None:
    before = read_rows(engine)
    everything = questions.list_attempts(Wanted(), 10_000).rows
    jobs, _ = read_mini_slurm(
        write_mini_slurm(tmp_path / "m.db", [row(1), row(5, status="FAILED", return_code=1)])
    )
    assert import_jobs(engine, "mini-slurm", "m.db", jobs) == Imported(2, 0)
    assert import_swf(engine, *SWF) == Imported(3, 0)
    after = read_rows(engine)
    for table in ("jobs", "attempts"):
        assert [each for each in after[table] if each["job_id"] > 0] == before[table]
    found = questions.list_attempts(Wanted(source="mini-slurm"), 10).rows
    assert [(each["job_id"], each["source"], each["source_job"]) for each in found] == [
        (-2, "mini-slurm", 1),
        (-6, "mini-slurm", 5),
    ]
    assert [(each["cpu_efficiency"], each["memory_efficiency"]) for each in found] == [
        (0.25, None)
    ] * 2
    found = questions.list_attempts(Wanted(source="swf"), 10).rows
    assert [(each["job_id"], each["source_job"], each["cpu_efficiency"]) for each in found] == [
        (-14, 7, None),
        (-9, 2, None),
        (-8, 1, None),
    ]
    own = questions.list_attempts(Wanted(source="titan"), 10_000).rows
    assert own == everything
    assert {(each["source"], each["source_job"]) for each in own} == {("titan", None)}
    assert len(questions.list_attempts(Wanted(), 10_000).rows) == len(own) + 5
    (total,) = questions.totals(Wanted(source="mini-slurm"), "user").rows
    assert (total["user"], total["attempts"], total["failed"]) == ("ada", 2, 1)
    assert total["cpu_efficiency"] == pytest.approx(0.25)
    (total,) = questions.totals(Wanted(source="swf"), "worker").rows
    assert (total["cpu_hours"], total["cpu_efficiency"]) == (pytest.approx(30 / 3600), None)
    (failing,) = questions.most_failing(Wanted(source="mini-slurm"), 10).rows
    assert (failing["name"], failing["failed"]) == ("python", 1)


def test_how_busy_the_cluster_was_is_not_changed_by_an_import(
    engine: sa.Engine, questions: Questions
) -> None:
    ends = [each["end_time"] for each in expected_rows(story())["attempts"]]
    since, until = min(ends) - 10, max(ends) + 10
    before = questions.usage(since, until, 7)
    lines = [swf_line(number, number, run=5, allocated=9) for number in range(1, 40)]
    import_jobs(
        engine, "swf", "t", list(read_jobs(lines, since + 1, OddLines(SWF_TREATMENT))), digest="d"
    )
    assert len(questions.list_attempts(Wanted(source="swf", since=since, until=until), 99).rows) > 5
    assert questions.usage(since, until, 7) == before


def test_a_file_that_was_imported_changes_nothing(
    engine: sa.Engine, store: Store, tmp_path: Path
) -> None:
    path = write_mini_slurm(
        tmp_path / "m.db", [row(1), row(2, status="RUNNING", end_time=None), row(3)]
    )

    def import_again() -> Imported:
        return import_jobs(engine, "mini-slurm", "m.db", read_mini_slurm(path)[0])

    assert import_again() == Imported(2, 0)
    import_swf(engine, *SWF)
    before = [rows_of(engine, table) for table in (JOBS, ATTEMPTS, IMPORTS)]
    assert import_again() == Imported(0, 2)
    with pytest.raises(AlreadyImported):
        import_swf(engine, *SWF)
    assert [rows_of(engine, table) for table in (JOBS, ATTEMPTS, IMPORTS)] == before
    # What has ended since comes in, and the same number of another file is another job.
    write_mini_slurm(path, [row(2)])
    assert import_again() == Imported(1, 2)
    other = write_mini_slurm(tmp_path / "other.db", [row(1, submit_time=T0 + 7)])
    assert import_jobs(engine, "mini-slurm", "o", read_mini_slurm(other)[0]) == Imported(1, 0)
    assert len(rows_of(engine, JOBS)) == 3 + 3 + 1
    assert [each["jobs"] for each in rows_of(engine, IMPORTS)] == [2, 3, 1, 1]


def test_what_fails_on_the_way_leaves_nothing(
    engine: sa.Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "_ROWS_AT_ONCE", 2)
    import_swf(engine, *SWF)
    before = [rows_of(engine, table) for table in (JOBS, ATTEMPTS, IMPORTS)]
    jobs, _ = read_swf(*(swf_line(number) for number in range(1, 8)))
    seen: list[int] = []

    def cut_off() -> Iterator[ImportedJob]:
        yield from jobs[:5]
        assert seen == [2, 4]
        raise HistoryRefused("cut off")

    with pytest.raises(HistoryRefused, match="cut off"):
        import_jobs(engine, "swf", "t", cut_off(), digest="d", on_progress=seen.append)
    assert [rows_of(engine, table) for table in (JOBS, ATTEMPTS, IMPORTS)] == before
    assert import_jobs(engine, "swf", "t", jobs, digest="d") == Imported(7, 0)


def test_a_rebuild_from_the_log_keeps_what_was_imported_once(
    engine: sa.Engine, store: Store, tmp_path: Path
) -> None:
    project(store, story())
    path = write_mini_slurm(
        tmp_path / "m.db", [row(1), row(2, status="CANCELLED", start_time=None, end_time=None)]
    )
    import_jobs(engine, "mini-slurm", "m.db", read_mini_slurm(path)[0])
    import_swf(engine, *SWF)
    before = [rows_of(engine, table) for table in (JOBS, ATTEMPTS, CANCELLED, IMPORTS)]
    # All that the log told goes, and is told again.
    project(store, story())
    assert [rows_of(engine, table) for table in (JOBS, ATTEMPTS, CANCELLED, IMPORTS)] == before
    assert len(before[0]) == len(expected_rows(story())["jobs"]) + 5


def test_ids_go_on_below_what_is_left_where_somebody_has_removed_rows(
    engine: sa.Engine, store: Store
) -> None:
    import_swf(engine, *SWF)
    with engine.begin() as connection:
        connection.execute(sa.delete(IMPORTS))
    assert import_swf(engine, *SWF) == Imported(3, 0)
    ids = [each["job_id"] for each in rows_of(engine, JOBS)]
    assert ids == [-16, -11, -10, -8, -3, -2]


def test_tables_of_the_first_form_are_brought_up_to_date(engine: sa.Engine, store: Store) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE imports"))
        connection.execute(sa.text("DROP TABLE cancelled"))
        connection.execute(sa.text("UPDATE titan_history_version SET version_num = '0001'"))
    assert import_swf(engine, *SWF) == Imported(3, 0)


def test_two_never_write_into_a_file_of_sqlite_at_once(tmp_path: Path) -> None:
    url = url_of("", tmp_path)
    first, second = open_for_writing(url), open_for_writing(url)
    store = Store(first)
    store.migrate()
    is_inside, may_end = Event(), Event()

    def jobs() -> Iterator[ImportedJob]:
        yield from read_swf(*SWF)[0]
        is_inside.set()
        assert may_end.wait(30)

    done: list[Imported] = []
    thread = Thread(target=lambda: done.append(import_jobs(second, "swf", "t", jobs(), digest="d")))
    thread.start()
    try:
        assert is_inside.wait(30)
        # The projector tries again after it, as it does while a database is away.
        with pytest.raises(WriterBusy, match="another process writes"):
            store.write_anew(place(0), [])
    finally:
        may_end.set()
        thread.join()
    assert done == [Imported(3, 0)]
    store.write_anew(place(0), [])
    with writing(first) as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(JOBS)) == 3
    assert isinstance(store.find_place(), Place)
    first.dispose()
    second.dispose()


def test_a_projector_waits_until_an_import_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = History(tmp_path / "manager")
    log.append(story())
    url = url_of("", log.directory)
    lock = wal.Lock(f"{url.database}.lock")
    projector = Projector(log.directory, Store(open_for_writing(url)), stop=Event())
    thread = Thread(target=lambda: projector.run(until_end=True))
    thread.start()
    try:
        wait_until(lambda: "another process writes into it" in caplog.text, "it is told")
    finally:
        lock.release()
        thread.join()
        log.close()
    assert rows_at(f"sqlite:///{url.database}", tmp_path) == expected_rows(story())


def test_a_running_manager_goes_on_with_its_history_beside_an_import(
    tmp_path: Path, new_url: Callable[[], str]
) -> None:
    url = new_url()
    path = write_mini_slurm(tmp_path / "m.db", [row(number) for number in range(1, 50)])
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager("--history", url)
        cluster.start_worker("w1")

        def rows(*options: str) -> list[Any]:
            done = cluster.titan("history", "--history", url, "--json", *options)
            return list(json.loads(done.stdout)) if done.returncode == 0 else []

        cluster.submit("--", "true")
        wait_until(lambda: len(rows()) == 1, "the first job", WRITER_SECONDS)
        told = cluster.ok("history", "import", "mini-slurm", str(path), "--history", url)
        assert told == b"49 jobs imported\n"
        cluster.submit("--", "true")
        wait_until(lambda: len(rows("--source", "titan")) == 2, "the second job", WRITER_SECONDS)
        found = rows("--source", "mini-slurm", "--since", "2026-01-01", "--columns", "source_job")
        assert sorted(each["source_job"] for each in found) == [*range(1, 50)]


def test_the_command_tells_what_it_did(titan: Titan, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    path = write_swf(tmp_path / "t.swf", [*SWF, swf_line(9, run=-1)])
    result = titan("history", "import", "swf", str(path), *where)
    assert (result.code, result.out) == (0, "3 jobs imported\n")
    assert "1 line left out, no run time: line 5 has the run time -1" in result.err
    # Gzipped it is the same one.
    zipped = tmp_path / "t.swf.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    result = titan("history", "import", "swf", str(zipped), *where, "--json")
    assert result.code == 0
    assert json.loads(result.out)["known"] == 3
    assert f"{zipped} was imported at" in result.err
    shown = titan("history", *where, "--job", "-8", "--columns", "job,source,source_job", "--csv")
    assert shown.out == "job,source,source_job\n-8,swf,7\n"
    database = write_mini_slurm(tmp_path / "m.db", [RAN])
    result = titan("history", "import", "mini-slurm", str(database), *where)
    assert (result.code, result.out, result.err) == (0, "1 job imported\n", "")
    result = titan("history", "import", "mini-slurm", str(database), *where)
    assert result.out == "0 jobs imported, 1 there already\n"


def test_the_command_refuses_what_it_cannot_import(titan: Titan, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    nothing = write_swf(tmp_path / "text", ["This is no workload, and has no number."])
    result = titan("history", "import", "swf", str(nothing), *where)
    assert result.code == 1
    assert "UnixStartTime" in result.err
    result = titan("history", "import", "swf", str(nothing), "--start", "2026-01-01", *where)
    assert (result.code, result.out) == (1, "")
    assert "has no job that could be imported" in result.err
    zipped = tmp_path / "cut.swf.gz"
    zipped.write_bytes(gzip.compress("\n".join(SWF).encode())[:-12])
    result = titan("history", "import", "swf", str(zipped), *where)
    assert "damaged or cut off" in result.err
    result = titan("history", "import", "mini-slurm", str(nothing), *where)
    assert (result.code, result.out) == (1, "")
    assert "is no database of SQLite" in result.err
    assert titan("history", "import", "swf", str(tmp_path / "absent"), *where).code == 2
    shown = titan("history", *where, "--since", "1990-01-01", "--json")
    assert json.loads(shown.out) == []
