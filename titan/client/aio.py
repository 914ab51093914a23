"""`titan.AsyncClient`: the manager from asyncio. `sync.py` is the same for threads."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

from titan.client import requests, retry, submission, views
from titan.client.aio_control import AioControl
from titan.client.aio_history import AioHistoryCalls
from titan.client.aio_session import AioSession
from titan.client.connection import Credentials, os_user
from titan.client.cursors import Ends, OutputCursor, WatchCursor
from titan.client.dependencies import NamedJob, Waited
from titan.client.jobspec import DEFAULT_EXPORT, JobSpec, SecretEnv, Word
from titan.client.moments import Moment, TimeToCome, moment
from titan.client.output import OutputChunk
from titan.client.tracing import find_trace
from titan.client.ulimits import Value
from titan.client.views import JobsChanged, View
from titan.model import State


class AsyncClient(AioControl, AioHistoryCalls):
    """A connection to the manager at `manager` ("HOST:PORT"), as the CLI finds it if None.

    Several ("a:50051,b:50051") are those of one cluster: the one that leads is called, and while
    another takes over a call waits within its `retry_for_seconds`.

    To be closed, or used as an asynchronous context manager, on one loop. Calls raise
    ManagerUnreachable, NotFound, InvalidJob or Refused, all of them TitanError. What
    they return are the dicts that the CLI prints with --json.
    """

    def __init__(
        self,
        manager: str | None = None,
        *,
        access_file: str | os.PathLike[str] | None = None,
        tls_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
        insecure_i_know: bool = False,
        retry_for_seconds: float = retry.RETRY_FOR_SECONDS,
    ) -> None:
        """Connects at the first call; one that was sent is repeated for `retry_for_seconds`.

        `tls_dir`: directory or bundle of certificates, as --tls-dir. `token`: a user's, in place of
        a certificate of his own. `insecure_i_know`: call another machine without any.
        Raises ValueError for what is no address, or no certificates.
        """
        session = AioSession(
            manager,
            given=Credentials(
                None if access_file is None else Path(access_file),
                None if tls_dir is None else os.fspath(tls_dir),
                token,
                insecure_i_know,
            ),
            retry_for_seconds=retry_for_seconds,
        )
        super().__init__(session, os_user())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection. Jobs run on."""
        await self._session.close()

    async def submit(
        self,
        command: Sequence[Word] | str = (),
        *,
        name: str | None = None,
        cpus: float | str = 1,
        memory: int | str = 0,
        resources: Mapping[str, int] | None = None,
        priority: int = 0,
        array: str | Iterable[int] | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        secret_env: SecretEnv | None = None,
        export: Iterable[str] | str = DEFAULT_EXPORT,
        cwd: Word | None = None,
        shell: bool = False,
        time_limit: float | str | None = None,
        grace: float | str | None = None,
        signal_before_end: str | None = None,
        on: str | None = None,
        umask: int | str | None = None,
        script: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
        worker_script: str | os.PathLike[str] | None = None,
        interpreter: str | Sequence[str | bytes] | None = None,
        stdin: Word | None = None,
        stdout: Word | None = None,
        stderr: Word | None = None,
        ulimits: Mapping[str, Value] | None = None,
        pids_limit: int | None = None,
        cpu_limit: bool = False,
        pin: bool = False,
        array_limit: int | None = None,
        after: Sequence[Waited] | Waited = (),
        constraints: Sequence[str] | str = (),
        affinity: Sequence[NamedJob] | NamedJob = (),
        anti_affinity: Sequence[NamedJob] | NamedJob = (),
        spread: str | None = None,
        exclusive: bool = False,
        retries: int = 0,
        retry_on: Sequence[int] = (),
        max_fails: int | None = None,
        begin: TimeToCome | None = None,
        deadline: TimeToCome | None = None,
        preemptible: bool = False,
        at_most_once: bool = False,
        hold: bool = False,
        user: str | None = None,
        sandbox: str = "none",
        no_network: bool = False,
        request_id: str | bytes | None = None,
    ) -> AsyncJob:
        """Submits one job; see JobSpec for what the arguments mean.

        A submit repeated with the same `request_id` answers with the same job.
        """
        spec = JobSpec(
            command=command,
            name=name,
            cpus=cpus,
            memory=memory,
            resources=resources or {},
            priority=priority,
            array=array,
            env=env or {},
            secret_env=secret_env or {},
            export=export,
            cwd=cwd,
            shell=shell,
            time_limit=time_limit,
            grace=grace,
            signal_before_end=signal_before_end,
            on=on,
            umask=umask,
            script=script,
            worker_script=worker_script,
            interpreter=interpreter,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            ulimits=ulimits or {},
            pids_limit=pids_limit,
            cpu_limit=cpu_limit,
            pin=pin,
            array_limit=array_limit,
            after=after,
            constraints=constraints,
            affinity=affinity,
            anti_affinity=anti_affinity,
            spread=spread,
            exclusive=exclusive,
            retries=retries,
            retry_on=retry_on,
            max_fails=max_fails,
            begin=begin,
            deadline=deadline,
            preemptible=preemptible,
            at_most_once=at_most_once,
            hold=hold,
            user=user,
            sandbox=sandbox,
            no_network=no_network,
        )
        return (await self.submit_many([spec], request_id=request_id))[0]

    async def submit_many(
        self, specs: Iterable[JobSpec], *, request_id: str | bytes | None = None
    ) -> list[AsyncJob]:
        """Submits jobs in order, in chunks of at most 10,000.

        Each chunk is accepted whole or not at all; an error may leave earlier chunks
        accepted. The whole can be repeated safely with the same `request_id`: what was
        accepted already answers with the same jobs.

        Where a job names another one of them, as JobSpec(after=[other]), all are accepted
        together or not at all, and 10,000 are the most.
        """
        root = submission.parse_request_id(request_id or secrets.token_bytes(16))
        chunks = submission.submit_requests(
            specs, user=self._user, request_id=root, environ=os.environb, trace=find_trace()
        )
        return [
            AsyncJob(self, number)
            for chunk in chunks
            for number in (await self._session.submit(chunk)).job_ids
        ]

    def job(self, job_id: int) -> AsyncJob:
        """A handle on a job that is there already; asks nothing."""
        return AsyncJob(self, job_id)

    async def show(
        self,
        job: str | int,
        *,
        attempts: int = 100,
        state: Sequence[str | State] = (),
        at: Moment | None = None,
        stale: bool = False,
    ) -> View:
        """A job ("42", "42.7", "last", "name:x") with its first attempts, those in `state` only.

        `at` asks for the past, here and elsewhere: an int is an LSN, a float Unix seconds,
        text is as for --at. Raises OutOfRange for a moment that the log does not reach.
        `stale`, here and elsewhere: of several managers one that stands by may answer, from what
        it has read of the log, which may be a little old.
        """
        return views.show_view(
            await self._session.status(
                requests.status_request(
                    job,
                    user=self._user,
                    attempts=attempts,
                    states=state,
                    at=moment(at),
                    stale=stale,
                )
            )
        )

    async def queue(
        self,
        *,
        all: bool = False,  # noqa: A002 - the CLI's name
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
        limit: int = 1000,
        at: Moment | None = None,
        stale: bool = False,
    ) -> list[View]:
        """Jobs without attempts: those not ended, oldest first, or `all`, newest first."""
        wanted = requests.job_filter(all=all, states=state, user=user, name=name)
        listed = await self._session.list_jobs(wanted, limit, moment(at), stale=stale)
        return [views.job_view(job) for job in listed.jobs]

    async def cancel(
        self,
        *jobs: str | int,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
        grace: float | str = requests.GRACE_SECONDS,
        signal: str | int = "TERM",
    ) -> list[View]:
        """Cancels those jobs, or all that match. Says {job_id, state, exit_code} of each.

        What runs gets `signal` and, `grace` (seconds, or text with a unit) later, SIGKILL.
        """
        wanted = requests.filter_of(states=state, user=user, name=name)
        request = requests.cancel_request(
            jobs, user=self._user, filter=wanted, grace=grace, signal=signal
        )
        return [views.outcome_view(job) for job in (await self._session.cancel(request)).jobs]

    async def wait(
        self,
        *jobs: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the sync client's name
    ) -> list[View]:
        """Waits until they have ended. Says {job_id, state, exit_code} of each, in that order.

        Raises TimeoutError after `timeout` seconds, NotFound.
        """
        end = None if timeout is None else time.monotonic() + timeout
        ends = Ends(jobs)
        for job in jobs:
            # A watch is silent about jobs that do not exist.
            ends.take([(await self._session.status(requests.whole_job_request(job))).job])
        if ends.open_ids:
            async with aclosing(self._session.watch(WatchCursor(jobs), end=end)) as changes:
                async for changed in changes:
                    ends.take(changed)
                    if not ends.open_ids:
                        break
        if ends.open_ids:
            raise TimeoutError(
                f"{len(ends.open_ids)} of {len(set(jobs))} jobs have not ended after {timeout} s"
            )
        return [views.outcome_view(ends.ended[job]) for job in jobs]

    async def watch(self, *jobs: int, after_lsn: int = 0) -> AsyncIterator[JobsChanged]:
        """Jobs each time they change, for ever; no `jobs` are all jobs.

        Goes on after an LSN seen before. With jobs and no LSN they come first as they are.
        """
        cursor = WatchCursor(jobs, after_lsn)
        async for changed in self._session.watch(cursor):
            yield JobsChanged(cursor.lsn, [views.job_view(job) for job in changed])

    def stream_output(
        self,
        job_id: int,
        index: int = 0,
        *,
        attempt: int = 0,
        streams: Sequence[str] = ("stdout", "stderr"),
        tail: int = 0,
        follow: bool = True,
    ) -> AsyncIterator[OutputChunk]:
        """What a task wrote and, with `follow`, writes until it has ended.

        Raises NotFound if it never started, OutputUnavailable if its worker is away.
        """
        cursor = OutputCursor(
            job_id, index, attempt=attempt, streams=streams, tail_lines=tail, follow=follow
        )
        patience = retry.WORKER_PATIENCE_SECONDS if follow else 0
        return self._session.output(cursor, patience_seconds=patience)

    async def workers(self, *, at: Moment | None = None, stale: bool = False) -> list[View]:
        """All workers."""
        listed = await self._session.workers(moment(at), stale=stale)
        return [views.worker_view(worker) for worker in listed.workers]

    async def drain(self, *workers: str, reason: str = "") -> list[View]:
        """Gives those workers, by name or id, no new tasks until `undrain`. Says how each is.

        What runs there runs on; what waits there goes elsewhere. Raises NotFound, and Refused
        for a name that several have.
        """
        request = requests.drain_request(workers, user=self._user, reason=reason)
        answer = await self._session.drain(request)
        return [views.worker_view(worker) for worker in answer.workers]

    async def undrain(self, *workers: str) -> list[View]:
        """Gives those workers tasks again. Says how each is."""
        request = requests.drain_request(workers, user=self._user, undrain=True)
        answer = await self._session.drain(request)
        return [views.worker_view(worker) for worker in answer.workers]

    async def stats(self, *, at: Moment | None = None, stale: bool = False) -> View:
        """The cluster in numbers."""
        return views.stats_view(await self._session.stats(moment(at), stale=stale))

    async def events(self, job: str | int, *, at: Moment | None = None) -> AsyncIterator[View]:
        """All that happened to a job ("42", "42.7", "last", "name:x"), in order.

        Each is a dict of lsn, time, event and its fields by name, as `titan wal dump` has it.
        """
        request = requests.events_request(job, user=self._user, at=moment(at))
        async with aclosing(self._session.events(request)) as pages:
            async for page in pages:
                for event in page.events:
                    yield views.event_view(event)


class AsyncJob:
    """A handle on one job."""

    def __init__(self, client: AsyncClient, job_id: int) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncJob({self.id})"

    async def show(self, *, attempts: int = 100) -> View:
        """The job with its first attempts."""
        return await self._client.show(self.id, attempts=attempts)

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the sync client's name
    ) -> View:
        """Waits until it has ended and shows it. Raises TimeoutError after so many seconds."""
        await self._client.wait(self.id, timeout=timeout)
        return await self.show()

    async def cancel(
        self, *, grace: float | str = requests.GRACE_SECONDS, signal: str | int = "TERM"
    ) -> View:
        """Cancels it; changes nothing if it has ended."""
        return (await self._client.cancel(self.id, grace=grace, signal=signal))[0]

    async def hold(self) -> View:
        """Starts no more of its tasks until `release`; what runs runs on."""
        return (await self._client.hold(self.id))[0]

    async def release(self) -> View:
        """Lifts its hold."""
        return (await self._client.release(self.id))[0]

    async def suspend(self) -> View:
        """Stops its running tasks where they are, until `resume`."""
        return (await self._client.suspend(self.id))[0]

    async def resume(self) -> View:
        """Lets it go on, as soon as its cpus are free."""
        return (await self._client.resume(self.id))[0]

    async def update(
        self, *, priority: int | None = None, time_limit: float | str | None = None
    ) -> View:
        """Gives it another priority or time limit; "none" lifts the limit."""
        changed = await self._client.update(self.id, priority=priority, time_limit=time_limit)
        return changed[0]

    async def requeue(self, *, grace: float | str = requests.GRACE_SECONDS) -> View:
        """Puts what runs back to the queue; if it has ended, submits again what did not complete.

        Says {job_id, state, submitted_again}; the last is the new job's number, or None.
        """
        return (await self._client.requeue(self.id, grace=grace))[0]

    async def why(self, index: int | None = None) -> View:
        """Why that task waits, or its first that does, or how it came to be where it is."""
        return await self._client.why(self.id if index is None else f"{self.id}.{index}")

    async def output(self, index: int = 0, *, stream: str = "stdout", attempt: int = 0) -> bytes:
        """All that a task has written so far to "stdout" or "stderr", whole in memory.

        Of more than its worker keeps (its --output-max, 1 GiB) the middle is missing;
        `stream_output` tells where, by chunks with `hole_bytes`.
        Raises NotFound if it never started, OutputUnavailable if its worker is away.
        """
        chunks = self._client.stream_output(
            self.id, index, attempt=attempt, streams=[stream], follow=False
        )
        return b"".join([chunk.data async for chunk in chunks])

    def events(self) -> AsyncIterator[View]:
        """All that happened to it, in order."""
        return self._client.events(self.id)

    def stream_output(self, index: int = 0) -> AsyncIterator[OutputChunk]:
        """What a task writes, until it has ended."""
        return self._client.stream_output(self.id, index)
