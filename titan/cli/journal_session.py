"""A journal in a database, asked as if it were the manager that writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from titan.cli.files import FileSession
from titan.rpc.v1 import manager_pb2
from titan.waltools.journal_files import JournalFiles


class JournalSession(FileSession):
    """Answers from what is fetched of a journal: for a moment's state no more than that takes."""

    def __init__(self, url: str) -> None:
        """Fetches nothing yet. Raises JournalRefused."""
        self._url = url
        self._fetched = ExitStack()
        self._has: tuple[int, int] | None = None

    def __exit__(self, *_: object) -> None:
        self._fetched.close()

    def status(self, request: manager_pb2.GetJobStatusRequest) -> manager_pb2.GetJobStatusResponse:
        """A job; it may be forgotten, so all that is kept is fetched."""
        self._fetch_all()
        return super().status(request)

    def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is; all is fetched."""
        self._fetch_all()
        return super().why(request)

    def list_jobs(
        self,
        wanted: manager_pb2.JobFilter,
        limit: int,
        at: manager_pb2.Moment | None = None,
        *,
        stale: bool = False,
    ) -> manager_pb2.ListJobsResponse:
        """At most `limit` jobs."""
        self._fetch_moment(at)
        return super().list_jobs(wanted, limit, at, stale=stale)

    def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        self._fetch_moment(at)
        return super().workers(at, stale=stale)

    def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        self._fetch_moment(at)
        return super().stats(at, stale=stale)

    def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job; all is fetched."""
        self._fetch_all()
        return super().events(request)

    def _fetch_all(self) -> None:
        self._fetch((-1, -1), JournalFiles.fetch_all)

    def _fetch_moment(self, at: manager_pb2.Moment | None) -> None:
        lsn, time_us = (at.lsn, at.time_us) if at is not None else (0, 0)
        self._fetch((lsn, time_us), lambda files: files.fetch_moment(lsn=lsn, time_us=time_us))

    def _fetch(self, wanted: tuple[int, int], fetch: Callable[[JournalFiles], None]) -> None:
        """Once for what is asked about again, as page after page is."""
        if self._has == wanted:
            return
        self._fetched.close()
        files = self._fetched.enter_context(JournalFiles(self._url))
        fetch(files)
        self._answer_from(files.places.root)
        self._fetched.callback(self._past.close)
        self._has = wanted
