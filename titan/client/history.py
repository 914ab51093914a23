"""The calls of `titan.Client` about all that ever ran. `aio_history.py` is the same with await."""

from __future__ import annotations

import time
from typing import Unpack

from titan.accounting import HistoryRows, usage_view
from titan.client import accounting
from titan.client.accounting import Filter, Time
from titan.client.session import Session
from titan.client.views import View
from titan.rpc import history as messages
from titan.rpc.v1 import history_pb2


class HistoryCalls:
    """The part of a client that asks the history in SQL; all raise Refused where none is written.

    Times are Unix seconds, a datetime, or text as for --since. `which` attempts, in all of them:
    user, name, worker, state (a list), job (a number), source.
    """

    _session: Session

    def history(
        self,
        *,
        since: Time | None = None,
        until: Time | None = None,
        limit: int = 1000,
        slowest: bool = False,
        **which: Unpack[Filter],
    ) -> HistoryRows:
        """Attempts that ended from `since` to before `until`, the last first or the slowest.

        At most `limit`, of which a million is the most. `rows` are as `titan history --json` has
        them, and `lsn` and `time` say how far the history was.
        """
        question = accounting.attempts_question(limit, slowest=slowest)
        request = accounting.history_request(since, until, attempts=question, **which)
        return messages.attempts_of(self._session.history(request))

    def history_totals(
        self,
        by: str,
        *,
        since: Time | None = None,
        until: Time | None = None,
        **which: Unpack[Filter],
    ) -> HistoryRows:
        """Cpu-hours held and used, by "user", "worker" or "day" of this process's time zone."""
        question = history_pb2.TotalsQuestion(by=by)
        request = accounting.history_request(since, until, totals=question, **which)
        return messages.totals_of(self._session.history(request), by)

    def history_failing(
        self,
        *,
        since: Time | None = None,
        until: Time | None = None,
        limit: int = 1000,
        **which: Unpack[Filter],
    ) -> HistoryRows:
        """Names under which most attempts FAILED: name, user, failed, attempts, last_end_time."""
        question = accounting.failing_question(limit)
        request = accounting.history_request(since, until, most_failing=question, **which)
        return messages.failing_of(self._session.history(request))

    def usage(self, since: Time, until: Time | None = None, *, slots: int = 48) -> View:
        """How busy the cluster was until then, or now, as `titan stats --last --json` has it.

        Each series has `slots` numbers.
        """
        request = accounting.history_request(
            since, time.time() if until is None else until, usage=accounting.usage_question(slots)
        )
        return usage_view(messages.usage_of(self._session.history(request)))

    def timeline(
        self,
        since: Time,
        until: Time | None = None,
        *,
        limit: int = messages.BARS_MAX,
        **which: Unpack[Filter],
    ) -> View:
        """What ran between these times, and what still runs: a bar for each attempt, in columns.

        {workers: [name], jobs: [{job_id, name, user}], states: [name], bars: {worker, job, index,
        attempt, start_time, end_time, state}, more, lsn, time}, where each of bars is a list;
        worker, job and state in it are positions in the lists of these. The end of what runs is
        None. Where there are `more` than `limit` those that ended first are missing.
        """
        question = accounting.timeline_question(limit)
        request = accounting.history_request(
            since, time.time() if until is None else until, timeline=question, **which
        )
        return messages.timeline_of(self._session.history(request))
