"""`titan journal init`."""

from __future__ import annotations

import json

import pytest

from tests.postgresql import PostgreSQL
from titan.cli.main import main
from titan.journal.database import Database


def test_it_makes_a_journal_and_warns_of_what_may_lose_it(
    postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgresql.make_database()
    assert main(["journal", "init", url]) == 0
    out, err = capsys.readouterr()
    log_id = Database(url).meta().log_id.hex()
    assert out == f"Made a journal in {Database(url)}, log {log_id}\n"
    assert "warning: synchronous_standby_names is empty" in err
    assert main(["journal", "init", url]) == 1
    out, err = capsys.readouterr()
    assert "a journal is not made twice" in err
    assert not out


def test_its_url_may_come_by_the_environment(
    postgresql: PostgreSQL, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.make_database()
    monkeypatch.setenv("TITAN_JOURNAL", url)
    assert main(["journal", "init", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["log_id"] == Database(url).meta().log_id.hex()
    assert told["database"] == str(Database(url))
    assert len(told["warnings"]) == 1


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///geheim", "postgresql://HOST/NAME"),
        ("postgresql://ada:geheim@127.0.0.1:1/titan", "Connection refused"),
    ],
)
def test_what_does_not_work_is_a_sentence_without_the_password(
    url: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "init", url]) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "geheim" not in err
    assert err.count("\n") == 1
