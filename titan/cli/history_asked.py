"""Whom commands ask about the history: the manager, or the tables where these are named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from titan.accounting import HistoryRows, Usage, Wanted
from titan.cli.command import Settings, check_no_manager_is_named
from titan.cli.history_files import opened_history
from titan.errors import ManagerUnreachable

if TYPE_CHECKING:
    from titan.client.session import Session
    from titan.rpc.v1.history_pb2 import HistoryFilter


class Asked(Protocol):
    """What answers questions about the history. All raise TitanError."""

    def list_attempts(self, wanted: Wanted, limit: int, *, slowest: bool = False) -> HistoryRows:
        """At most so many, the last ended first; or those that ran longest."""

    def most_failing(self, wanted: Wanted, limit: int) -> HistoryRows:
        """The names under which most attempts FAILED, by user."""

    def totals(self, wanted: Wanted, by: str) -> HistoryRows:
        """Sums by user, local day or worker."""

    def usage(self, since: float, until: float, count: int) -> Usage:
        """How busy the cluster was, in so many slots of time."""


@contextmanager
def asked_history(
    ctx: click.Context,
    retry_for_seconds: float,
    history: str | None,
    data_dir: Path | None,
    *,
    mine: bool = False,
) -> Iterator[Asked]:
    """The manager, unless --history or --data-dir is given. Raises TitanError.

    `mine`: the caller's own attempts, whatever a filter says; of the tables it is not asked.
    """
    if history is not None or data_dir is not None:
        check_no_manager_is_named(ctx, "--data-dir" if history is None else "--history")
        with opened_history(history, data_dir) as questions:
            yield questions
        return
    settings: Settings = ctx.obj
    try:
        with settings.session(retry_for_seconds) as session:
            yield _Remote(session, mine=mine)
    except ManagerUnreachable as error:
        raise ManagerUnreachable(
            f"{error}; without a manager --data-dir DIR reads the history where it was written"
        ) from error


class _Remote:
    """Asks the manager."""

    def __init__(self, session: Session, *, mine: bool) -> None:
        # It loads messages.
        from titan.rpc import history as messages  # noqa: PLC0415
        from titan.rpc.v1 import history_pb2  # noqa: PLC0415

        self._session = session
        self._mine = mine
        self._messages = messages
        self._pb2 = history_pb2

    def list_attempts(self, wanted: Wanted, limit: int, *, slowest: bool = False) -> HistoryRows:
        question = self._pb2.AttemptsQuestion(limit=limit, slowest=slowest)
        request = self._pb2.GetHistoryRequest(filter=self._filter(wanted), attempts=question)
        return self._messages.attempts_of(self._session.history(request))

    def most_failing(self, wanted: Wanted, limit: int) -> HistoryRows:
        question = self._pb2.FailingQuestion(limit=limit)
        request = self._pb2.GetHistoryRequest(filter=self._filter(wanted), most_failing=question)
        return self._messages.failing_of(self._session.history(request))

    def totals(self, wanted: Wanted, by: str) -> HistoryRows:
        question = self._pb2.TotalsQuestion(by=by)
        request = self._pb2.GetHistoryRequest(filter=self._filter(wanted), totals=question)
        return self._messages.totals_of(self._session.history(request), by)

    def usage(self, since: float, until: float, count: int) -> Usage:
        question = self._pb2.UsageQuestion(slots=count)
        wanted = self._filter(Wanted(since=since, until=until))
        request = self._pb2.GetHistoryRequest(filter=wanted, usage=question)
        return self._messages.usage_of(self._session.history(request))

    def _filter(self, wanted: Wanted) -> HistoryFilter:
        return self._messages.filter_message(wanted, mine=self._mine)
