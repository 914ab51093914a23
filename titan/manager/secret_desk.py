"""Secrets from the submit that brings them to the end of the last job that needs them.

    submit ──▶ stored, durable ──▶ event, durable ──▶ answer      (a crash between: an orphan,
    batch  ◀── store, or the memory                                removed by the next start)
    last end, durable ──▶ removed

The state tells which environments have secrets and which jobs live; what is counted here follows
from it. Owned by the loop; the store, files or a database, is called in threads of its own, so
that one that hangs holds up nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from titan.errors import NoRoom, Refused
from titan.logs import LogLine
from titan.manager.secret_store import (
    SecretsAway,
    SecretStore,
    SecretsUnreadable,
    Values,
    size_on_disk,
)
from titan.manager.shell import Shell
from titan.rpc.v1 import task_pb2

_log = logging.getLogger("titan.secrets")
_T = TypeVar("_T")

# On the disk, of all jobs that have not ended.
BYTES_MAX: Final = 1 << 30
# Of those that came or went last; others are read again.
KEPT_BYTES_MAX: Final = 16 << 20
# What is wrong with a disk or with the number of open files may pass.
READ_TRIES: Final = 3
READ_PAUSE_SECONDS: Final = 0.1
# What is away comes back, or another manager leads: no task fails for it.
AWAY_PAUSE_SECONDS: Final = 1.0
THREADS: Final = 4
# What could not be removed is tried again.
REMOVE_AGAIN_SECONDS: Final = 5.0
# A clean stop has five seconds for all.
CLOSE_SECONDS: Final = 1.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class SecretDesk:
    """All secrets of one manager."""

    def __init__(self, shell: Shell, store: SecretStore, *, bytes_max: int = BYTES_MAX) -> None:
        """Takes up what is there, and removes what no job needs that has not ended.

        Blocks; called before anything is served. The store is the desk's from here on. Raises
        OSError, SecretsAway.
        """
        self._shell = shell
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, "titan-secrets")
        self._gone = f"its secrets are gone from {store.place}: submit it anew"
        self._unreadable = f"its secrets can't be read from {store.place}: submit it anew"
        self._bytes_max = bytes_max
        # By job that has not ended, and how many there are of each.
        self._secret_of: dict[int, bytes] = {}
        self._jobs_of: Counter[bytes] = Counter()
        # What the files take, with those that are being written.
        self._sizes: dict[bytes, int] = {}
        self.size_bytes = 0
        self._kept: dict[bytes, Values] = {}
        self._kept_bytes = 0
        self._writing: dict[bytes, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        state = shell.kernel.state
        if any(each.secret_id for each in state.environments.values()):
            self.watch(state.live_jobs)
        found = self._store.list()
        for secret_id, size_bytes in found.items():
            if secret_id in self._jobs_of:
                self._account(secret_id, size_bytes)
        if unneeded := found.keys() - self._jobs_of.keys():
            self._store.remove(*unneeded)
        if strange := self._store.unreadable():
            _log.error(LogLine("secrets can't be opened: tasks will fail", detail=strange))
        gone = sum(jobs for secret_id, jobs in self._jobs_of.items() if secret_id not in found)
        if gone:
            _log.warning(
                LogLine("secrets are gone, as in a restored backup: tasks will fail", jobs=gone)
            )
        shell.feed.listen(self._changed)

    def keep(self, secrets: Mapping[bytes, Values]) -> Awaitable[None]:
        """Have them, by id, on the disk; to be followed by `settle`, whatever comes of it.

        Awaiting it raises NoRoom, Refused where the disk does not take them, and SecretsAway, after
        which the same request may come again.
        """
        sizes = {each: size_on_disk(_size(values)) for each, values in secrets.items()}
        if self.size_bytes + sum(sizes.values()) > self._bytes_max:
            raise NoRoom(
                f"secrets of jobs take {self.size_bytes} bytes, the most is {self._bytes_max}; try "
                "again when some have ended"
            )
        for secret_id, size_bytes in sizes.items():
            self._account(secret_id, size_bytes)
        writing = self._start(self._write(dict(secrets)))
        self._writing.update(dict.fromkeys(secrets, writing))

        def written(task: asyncio.Task[None]) -> None:
            for secret_id in secrets:
                del self._writing[secret_id]
            if not task.cancelled():
                # Whoever waited may have gone before it failed.
                task.exception()

        writing.add_done_callback(written)
        # Whoever waits may go; what is being written is then removed after it.
        return asyncio.shield(writing)

    def settle(self, secret_ids: Iterable[bytes]) -> None:
        """Lets those go that no job came to need."""
        left = [each for each in secret_ids if each not in self._jobs_of]
        if left:
            self._start(self._remove(left, 0))

    def watch(self, job_ids: Iterable[int]) -> None:
        """Jobs that are there now: keeps their secrets, if they have any, until they have ended."""
        state = self._shell.kernel.state
        for job_id in job_ids:
            job = state.live_jobs.get(job_id)
            if job is None or job_id in self._secret_of:
                continue
            secret_id = state.environments[job.environment].secret_id
            if secret_id:
                self._secret_of[job_id] = secret_id
                self._jobs_of[secret_id] += 1

    async def fill(
        self, request: task_pb2.StartTaskRequest, secret_ids: Mapping[int, bytes]
    ) -> None:
        """Puts the values into the environments of a batch, which hold the names.

        `secret_ids`: by the environment's place. Where there is no file the worker is told to let
        the tasks fail, and why.
        """
        for place, secret_id in secret_ids.items():
            environment = request.environments[place]
            values, fault = self._kept.get(secret_id), ""
            if values is None:
                values, fault = await self._read(secret_id)
            if not fault and any(each.name not in values for each in environment.secrets):
                fault = self._unreadable
            if fault:
                del environment.secrets[:]
                environment.secrets_fault = fault
            else:
                for each in environment.secrets:
                    each.value = values[each.name]

    async def close(self) -> None:
        """Nothing is decided any more: waits for what is being written and removed."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            if late:
                # Their threads may still be at it; what they leave the next start removes.
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
                self._threads.shutdown(wait=False, cancel_futures=True)
                return
        # A batch that was given up may have left a thread in it, which the loop does not wait for.
        await asyncio.wait({self._in_thread(self._store.close)}, timeout=CLOSE_SECONDS)
        self._threads.shutdown(wait=False)

    def _changed(self, job_ids: list[int], lsn: int) -> None:
        """Records up to that one changed these jobs."""
        if not self._secret_of:
            return
        live = self._shell.kernel.state.live_jobs
        unneeded: list[bytes] = []
        for job_id in job_ids:
            if job_id in live or (secret_id := self._secret_of.pop(job_id, None)) is None:
                continue
            self._jobs_of[secret_id] -= 1
            if not self._jobs_of[secret_id]:
                del self._jobs_of[secret_id]
                unneeded.append(secret_id)
        if unneeded:
            self._start(self._remove(unneeded, lsn))

    async def _write(self, secrets: dict[bytes, Values]) -> None:
        try:
            await self._in_thread(lambda: self._store.write(secrets))
        except SecretsAway as error:
            _log.error(LogLine("secrets were not written", detail=error))
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if error.errno in _FULL:
                raise NoRoom(f"the manager's disk has no room for secrets: {reason}") from error
            _log.error(LogLine("secrets were not written", detail=reason))
            raise Refused(f"the manager can't keep secrets: {reason}") from error
        for secret_id, values in secrets.items():
            self._remember(secret_id, values)

    async def _remove(self, secret_ids: list[bytes], lsn: int) -> None:
        """Takes the files away, once that record is durable: what it says might come undone."""
        for secret_id in secret_ids:
            self._forget(secret_id)
        writing = {self._writing[each] for each in secret_ids if each in self._writing}
        if writing:
            await asyncio.wait(writing)
        # Whether the manager still leads or not: what is durable stays.
        await self._shell.journal.wait_durable(lsn)
        while True:
            try:
                await self._in_thread(lambda: self._store.remove(*secret_ids))
                break
            except (OSError, SecretsAway) as error:
                _log.error(LogLine("secrets were not removed", detail=_reason(error)))
                await asyncio.sleep(REMOVE_AGAIN_SECONDS)
        for secret_id in secret_ids:
            self._account(secret_id, 0)
            self._forget(secret_id)

    async def _read(self, secret_id: bytes) -> tuple[Values, str]:
        """The values, or a sentence why there are none."""
        tries, was_away = 0, False
        while tries < READ_TRIES:
            try:
                values = await self._in_thread(lambda: self._store.read(secret_id))
            except SecretsUnreadable as error:
                _log.error(LogLine("secrets are unreadable", file=secret_id.hex(), detail=error))
                return {}, self._unreadable
            except SecretsAway as error:
                if secret_id not in self._jobs_of:
                    return {}, self._gone
                if not was_away:
                    _log.error(LogLine("secrets are away: tasks wait", detail=error))
                was_away = True
                await asyncio.sleep(AWAY_PAUSE_SECONDS)
                continue
            except OSError as error:
                _log.error(
                    LogLine("secrets are unreadable", file=secret_id.hex(), detail=error.strerror)
                )
                tries += 1
                await asyncio.sleep(READ_PAUSE_SECONDS)
                continue
            if values is None:
                # Those of a job that has ended meanwhile nobody misses.
                if secret_id in self._jobs_of:
                    _log.error(LogLine("secrets are gone", file=secret_id.hex()))
                return {}, self._gone
            if secret_id in self._jobs_of:
                self._remember(secret_id, values)
            return values, ""
        return {}, self._unreadable

    def _in_thread(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _remember(self, secret_id: bytes, values: Values) -> None:
        self._forget(secret_id)
        self._kept[secret_id] = values
        self._kept_bytes += _size(values)
        while self._kept_bytes > KEPT_BYTES_MAX:
            self._forget(next(iter(self._kept)))

    def _forget(self, secret_id: bytes) -> None:
        values = self._kept.pop(secret_id, None)
        if values is not None:
            self._kept_bytes -= _size(values)

    def _account(self, secret_id: bytes, size_bytes: int) -> None:
        """The file takes so much; 0: it is not there any more."""
        self.size_bytes += size_bytes - self._sizes.pop(secret_id, 0)
        if size_bytes:
            self._sizes[secret_id] = size_bytes

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _size(values: Values) -> int:
    return sum(len(name) + len(value) for name, value in values.items())


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
