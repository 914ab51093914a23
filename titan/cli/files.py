"""The files of a manager that does not run, asked as if they were the manager."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from titan import paths
from titan.client.requests import page_request
from titan.errors import Refused, TitanError
from titan.lookback.answers import Answers
from titan.lookback.past import Past
from titan.rpc.v1 import manager_pb2


class FileSession:
    """Answers from a data directory, as `titan.client.session.Session` does from a manager."""

    def __init__(self, directory: Path) -> None:
        """Raises TitanError for what is no manager's directory, Refused while one runs on it."""
        _check_directory(directory)
        _check_no_manager(directory)
        self._answer_from(directory)

    def _answer_from(self, directory: Path) -> None:
        self._past = Past(directory)
        self._answers = Answers(self._past)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._past.close()

    def status(self, request: manager_pb2.GetJobStatusRequest) -> manager_pb2.GetJobStatusResponse:
        """A job."""
        return self._answers.get_job_status(request)

    def why(self, request: manager_pb2.ExplainJobRequest) -> manager_pb2.ExplainJobResponse:
        """Why a task waits, or how it came to be where it is."""
        return self._answers.explain_job(request)

    def list_jobs(
        self,
        wanted: manager_pb2.JobFilter,
        limit: int,
        at: manager_pb2.Moment | None = None,
        *,
        stale: bool = False,
    ) -> manager_pb2.ListJobsResponse:
        """At most `limit` jobs, over as many pages as they take. Nothing of files is `stale`."""
        del stale
        whole = manager_pb2.ListJobsResponse()
        last_job_id = 0
        while True:
            left = limit - len(whole.jobs)
            page = self._answers.list_jobs(
                page_request(wanted, limit=left, last_job_id=last_job_id, at=at)
            )
            whole.MergeFrom(page)
            whole.more = page.more
            if not page.more or len(whole.jobs) >= limit:
                return whole
            last_job_id = page.jobs[-1].job_id
            at = manager_pb2.Moment(lsn=page.lsn)

    def workers(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.ListWorkersResponse:
        """All workers."""
        del stale
        return self._answers.list_workers(manager_pb2.ListWorkersRequest(at=at))

    def stats(
        self, at: manager_pb2.Moment | None = None, *, stale: bool = False
    ) -> manager_pb2.GetStatsResponse:
        """The cluster in numbers."""
        del stale
        return self._answers.get_stats(manager_pb2.GetStatsRequest(at=at))

    def events(
        self, request: manager_pb2.GetEventsRequest
    ) -> Iterator[manager_pb2.GetEventsResponse]:
        """All that happened to a job, in pages."""
        return self._answers.get_events(request)


def _check_directory(directory: Path) -> None:
    try:
        description = paths.read_json(directory / "titan.json")
    except (OSError, ValueError) as error:
        raise TitanError(f"{directory} cannot be read: {error}") from error
    if description is None:
        raise TitanError(
            f"{directory} is no data directory of Titan: it has no titan.json. "
            "`titan manager` says in its first lines which one it uses"
        )
    role = description.get("role")
    if role != "manager":
        raise TitanError(f"{directory} is the data directory of a {role}, not of a manager")


def _check_no_manager(directory: Path) -> None:
    """Holds the lock for a moment, shared: a manager that starts meanwhile tries again."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise Refused(
            f"a manager{f' (process {pid})' if pid else ''} runs on {directory}: ask it instead, "
            "without --data-dir"
        ) from error
    finally:
        os.close(descriptor)
