"""`--stale`: reads that one of several managers may answer that only stands by."""

from __future__ import annotations

import time

import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager

READS = (
    (["queue"], "ListJobs"),
    (["show", "1"], "GetJobStatus"),
    (["workers"], "ListWorkers"),
    (["stats"], "GetStats"),
)


@pytest.mark.parametrize(("words", "method"), READS, ids=str)
def test_the_request_allows_it_and_the_answer_says_how_far_it_is(
    manager: FakeManager, titan: Titan, words: list[str], method: str
) -> None:
    # Its age is 0 s for an hour, however long this takes.
    job = manager.add_job(submit_us=int((time.time() + 3600) * 1e6))
    manager.touch(job)
    fresh, stale = titan(*words), titan(*words, "--stale")
    assert (fresh.code, fresh.err) == (0, "")
    assert stale.code == 0
    assert stale.err == "up to LSN 2\n"
    assert stale.out == fresh.out
    assert [each.allow_stale for each in manager.called(method)] == [False, True]
    assert titan(*words, "--stale", "--json").err == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["queue", "--stale", "--watch"], "--watch is told by the manager that leads"),
        (["show", "1", "--stale", "--events"], "--events is told by the manager that leads"),
        (["stats", "--stale", "--last", "day"], "--last is told by the history"),
        (["queue", "--stale", "--data-dir", "/x"], "--data-dir asks no manager"),
        (["why", "1", "--stale"], "No such option"),
    ],
    ids=str,
)
def test_what_only_the_leader_tells_is_not_asked_of_another(
    titan: Titan, words: list[str], sentence: str
) -> None:
    result = titan(*words)
    assert result.code == 2
    assert sentence.lower() in result.err.lower()


def test_each_page_is_at_least_as_new_as_the_one_before(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titan.client.requests.PAGE_JOBS_MAX", 2)
    for _ in range(3):
        manager.add_job()
    assert titan("queue", "--stale").code == 0
    first, second = manager.called("ListJobs")
    assert (first.at_least_lsn, second.at_least_lsn) == (0, 3)
