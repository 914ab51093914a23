"""Calls by method and code."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from titan.metrics.calls import Calls
from titan.metrics.family import Kind


class Context:
    """A call whose handler has set that code."""

    def __init__(self, code: object) -> None:
        self._code = code

    def code(self) -> object:
        return self._code


def counts(calls: Calls) -> dict[tuple[str, ...], object]:
    """How many there were, by method and code."""
    family, _ = calls.read()
    return dict(family.samples)


@pytest.mark.parametrize(
    ("code", "name"),
    [(None, "OK"), (0, "OK"), (5, "NOT_FOUND"), (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")],
)
def test_a_call_counts_by_the_code_that_its_handler_set(code: object, name: str) -> None:
    calls = Calls()
    with calls.measure("GetStats", Context(code)):
        pass
    assert counts(calls) == {("GetStats", name): 1}


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (asyncio.CancelledError, "CANCELLED"),
        (GeneratorExit, "CANCELLED"),
        (ZeroDivisionError, "UNKNOWN"),
    ],
)
def test_one_that_did_not_end_by_itself_counts_too(error: type[BaseException], name: str) -> None:
    calls = Calls()
    with pytest.raises(error), calls.measure("WatchJobs", Context(None)):
        raise error
    assert counts(calls) == {("WatchJobs", name): 1}
    _, durations = calls.read()
    assert durations.kind is Kind.HISTOGRAM
    assert [labels for labels, _ in durations.samples] == [("WatchJobs",)]


def test_what_was_not_let_in_is_counted_and_took_no_time() -> None:
    calls = Calls()
    calls.note("SubmitJob", "UNAUTHENTICATED")
    calls.note("SubmitJob", "UNAUTHENTICATED")
    family, durations = calls.read()
    assert dict(family.samples) == {("SubmitJob", "UNAUTHENTICATED"): 2}
    assert durations.samples == ()
