"""What jobs look like in messages."""

from __future__ import annotations

from tests.lookback.builders import states
from titan.queries.views import job_message
from titan.scheduler.summary import Known


def test_jobs_that_are_told_together_are_told_as_each_would_be_alone() -> None:
    compared = made = 0
    for state in states():
        if state.lsn % 20:
            continue
        together = Known()
        for job in state.jobs.values():
            assert job_message(state, job, together) == job_message(state, job, Known())
            compared += 1
        made += len(together.terms)
    assert compared > 500
    assert made < compared
