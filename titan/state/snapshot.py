"""The state as blocks of bytes, and back: what a snapshot of the log holds.

Each block is a msgpack array that begins with its kind; a kind may take several blocks:

    head          once, first: format, version of Titan, LSN, time and all single values
    users         (name, number of the job submitted last)
    environments  (digest, exported, set, script, jobs that refer to it), and where it has secrets
                  (digest, exported, set, script, secret_id, secret_names, jobs)
    classes       (number, key, run_us, samples, jobs, strays)
    live          ids, and packed jobs beside them, which have not ended, by id
    ended         the same of those that ended, in the order of their ends
    piece         a part of the next packed job that is too large for a block; it stands
                  as b"" in its place
    workers       (what it registered, drain, state, what it holds), by number
    scheduling    once: policy, holds, and what is still to be written of failed dependencies and
                  of jobs with too many failed tasks
    requests      keys, and values beside them, as RequestTable packs them; oldest first
    end           once, last: how many live jobs, ended jobs and workers there were

A state that is taken up from a snapshot goes on exactly as the one that it was made of:
also where an order counts that only the past could tell (invariant 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import msgpack
from sortedcontainers import SortedDict

from titan import events as ev
from titan.model import WorkerState
from titan.scheduling import PLAIN_SCHEDULING
from titan.state.cluster import ClusterState
from titan.state.job import Job
from titan.state.job_changes import deadline_entry, note_dependent
from titan.state.job_class import JobClass, class_key_fields, class_key_of
from titan.state.packed_job import pack_job, unpack_job
from titan.state.tables import ALL_TASKS, Hold
from titan.state.worker import ClassOnWorker, Drain, Worker

FORMAT: Final = 3
# Before it a command was an array of words, and the only attempt of a job a record as any other:
# the packed jobs say so themselves.
_FORMAT_WITH_WORDS: Final = 2
# Before it classes were (number, user, priority, demand, worker, run_us, samples, jobs), and there
# was nothing of `scheduling`.
_FORMAT_WITHOUT_SCHEDULING: Final = 1
_BLOCK_BYTES: Final = 1 << 20
_BLOCK_ITEMS: Final = 5_000
# An array of ten million ended tasks has 590 MB, and a block takes 16 MiB.
_PIECE_BYTES: Final = 8 << 20

_packer: Final = msgpack.Packer(use_bin_type=True)
# As they were before there were secrets, most still are.
_SECRETS_AT: Final = ev.EnvironmentStored._fields.index("secret_id")
_WORKER_STATES: Final = {int(state): state for state in WorkerState}


class SnapshotError(Exception):
    """The blocks are no state that this version can read; the text says why."""


class NewerSnapshot(SnapshotError):
    """A later version of Titan wrote it."""

    def __init__(self, found: int, version: str) -> None:
        super().__init__(
            f"it has format {found} and was written by Titan {version}; this version knows "
            f"format {FORMAT}"
        )
        self.format = found


class SnapshotHead(NamedTuple):
    """What the first block tells of a snapshot by itself."""

    version: str
    """Of the Titan that wrote it."""
    lsn: int
    time_us: int
    """Of the record of that LSN."""
    next_job_id: int


def encode_state(state: ClusterState, version: str) -> Iterator[bytes]:
    """The blocks, of about 1 MiB each. The state must not change until all are taken."""
    yield _pack("head", (
        FORMAT, version, state.lsn, state.time_us, state.next_job_id, state.cluster_id,
        state.epoch, state.version, state.next_worker, state.next_class, state.round_robin,
        state.task_counts, state.job_counts, state.jobs.ended_weight,
    ))  # fmt: skip
    yield from _blocks("users", state.last_job_of.items())
    yield from _blocks(
        "environments",
        (
            (
                *(each if each.secret_names else each[:_SECRETS_AT]),
                state.environment_jobs[each.digest],
            )
            for each in state.environments.values()
        ),
    )
    yield from _blocks(
        "classes",
        (
            (
                each.class_id, class_key_fields(each.key), each.run_us, each.samples, each.jobs,
                each.strays,
            )
            for each in state.classes.values()
        ),
    )  # fmt: skip
    yield from _job_blocks(
        "live", ((job_id, pack_job(job)) for job_id, job in state.live_jobs.items())
    )
    yield from _job_blocks("ended", state.jobs.ended_packed())
    yield from _blocks("workers", map(_pack_worker, state.workers.values()))
    yield _pack("scheduling", _pack_scheduling(state))
    yield from _request_blocks(state)
    yield _pack("end", (len(state.live_jobs), state.jobs.ended_count, len(state.workers)))


def read_head(block: bytes) -> SnapshotHead:
    """What the first block tells. Raises SnapshotError."""
    kind, fields = _unpack(block)
    if kind != "head":
        raise SnapshotError("it does not begin with a head")
    if fields[0] not in (FORMAT, _FORMAT_WITH_WORDS, _FORMAT_WITHOUT_SCHEDULING):
        raise NewerSnapshot(fields[0], fields[1])
    return SnapshotHead._make(fields[1:5])


def decode_state(blocks: Iterable[bytes]) -> ClusterState:
    """The state of those blocks. Raises SnapshotError, and what reading the blocks raises."""
    each_block = iter(blocks)
    first = next(each_block, b"")
    read_head(first)
    loader = _Loader()
    try:
        loader.load_head(_unpack(first)[1][2:])
        for block in each_block:
            loader.load(*_unpack(block))
        return loader.finish()
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise SnapshotError(f"its content is not understood: {error!r}") from error


class _Loader:
    """A state on its way out of its blocks."""

    def __init__(self) -> None:
        self._state = ClusterState()
        self._live: dict[int, Job] = {}
        self._ended: dict[int, bytes] = {}
        self._ended_weight = 0
        self._pieces = bytearray()
        self._counts: tuple[int, ...] | None = None

    def load_head(self, fields: tuple[Any, ...]) -> None:
        state = self._state
        (
            state.lsn, state.time_us, state.next_job_id, state.cluster_id, state.epoch,
            state.version, state.next_worker, state.next_class, state.round_robin,
            task_counts, job_counts, self._ended_weight,
        ) = fields  # fmt: skip
        state.task_counts, state.job_counts = list(task_counts), list(job_counts)

    def load(self, kind: str, content: Any) -> None:
        if self._counts is not None:
            raise SnapshotError("something stands behind its end")
        _LOADERS[kind](self, content)

    def finish(self) -> ClusterState:
        state = self._state
        state.jobs.load(self._live, self._ended, self._ended_weight)
        found = (len(state.live_jobs), state.jobs.ended_count, len(state.workers))
        if self._counts != found:
            raise SnapshotError(f"it ends with {self._counts} and holds {found}")
        pending: dict[int, dict[int, None]] = {}
        for job in self._live.values():
            if job.pending.count and job.may_start:
                pending.setdefault(job.job_class.class_id, {})[job.job_id] = None
            if job.scheduling != PLAIN_SCHEDULING or job.waits is not None:
                _index_waits(state, job)
        for class_id, jobs in pending.items():
            state.classes[class_id].pending_jobs = SortedDict(jobs)
        return state

    def _users(self, content: tuple[Any, ...]) -> None:
        self._state.last_job_of.update(content)

    def _environments(self, content: tuple[Any, ...]) -> None:
        for *fields, jobs in content:
            self._state.add_environment(ev.EnvironmentStored(*fields), jobs)

    def _classes(self, content: tuple[Any, ...]) -> None:
        for class_id, *fields in content:
            # In format 1 the parts of the key stood by themselves, and there were no strays.
            if isinstance(fields[0], str):
                key, counts = fields[:4], (*fields[4:], 0)
            else:
                key, *counts = fields
            each = JobClass(class_id, class_key_of(key))
            each.run_us, each.samples, each.jobs, each.strays = counts
            self._state.add_class(each)

    def _live_jobs(self, content: tuple[Any, ...]) -> None:
        classes, shared_terms = self._state.classes, self._state.shared_terms
        for job_id, data in zip(*content, strict=True):
            self._live[job_id] = unpack_job(data or self._take_pieces(), classes, shared_terms)

    def _ended_jobs(self, content: tuple[Any, ...]) -> None:
        # A dict keeps the order of the ends over all blocks.
        self._ended.update(zip(*content, strict=True))
        if self._pieces:
            self._ended[content[0][0]] = self._take_pieces()

    def _piece(self, content: bytes) -> None:
        self._pieces += content

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = bytes(self._pieces), bytearray()
        return pieces

    def _workers(self, content: tuple[Any, ...]) -> None:
        jobs = self._live
        for *fields, drain, is_stopping, fault, heard_us, state, free, keys, classes in content:
            worker = Worker(ev.WorkerRegistered(*fields), self._state.usage)
            worker.drain = Drain(*drain) if drain is not None else None
            worker.is_stopping = is_stopping
            worker.fault = fault
            worker.last_heard_us = heard_us
            worker.state = _WORKER_STATES[state]
            worker.free_cpus_milli, worker.free_memory_bytes, free_named = free
            worker.free_named = dict(free_named)
            for key in keys:
                worker.attempts[key] = jobs[key[0]].active[key[1]]
            for class_id, slots, unstarted, ahead in classes:
                here = worker.classes[class_id] = ClassOnWorker()
                here.slots = slots
                self._state.classes[class_id].hosts[worker.number] = None
                for key in unstarted:
                    here.unstarted[key] = worker.attempts[key]
                for key in ahead:
                    here.ahead[key] = worker.attempts[key]
            worker.count_held()
            self._state.workers[worker.number] = worker
            self._state.worker_numbers[worker.worker_id] = worker.number

    def _scheduling(self, content: tuple[Any, ...]) -> None:
        policy, holds, doomed, overfailed = content
        state = self._state
        state.policy = ev.PolicySet(*policy) if policy is not None else None
        state.holds = {worker: Hold(*hold) for worker, hold in holds}
        state.doomed = {job_id: dict(tasks) for job_id, tasks in doomed}
        state.overfailed = dict.fromkeys(overfailed)

    def _requests(self, content: tuple[Any, ...]) -> None:
        self._state.requests.load(zip(*content, strict=True))

    def _end(self, content: tuple[Any, ...]) -> None:
        self._counts = content


_LOADERS: Final[dict[str, Callable[[_Loader, Any], None]]] = {
    "users": _Loader._users,
    "environments": _Loader._environments,
    "classes": _Loader._classes,
    "live": _Loader._live_jobs,
    "ended": _Loader._ended_jobs,
    "piece": _Loader._piece,
    "workers": _Loader._workers,
    "scheduling": _Loader._scheduling,
    "requests": _Loader._requests,
    "end": _Loader._end,
}


def _pack(kind: str, content: object) -> bytes:
    packed: bytes = _packer.pack((kind, content))
    return packed


def _unpack(block: bytes) -> tuple[str, Any]:
    try:
        kind, content = msgpack.unpackb(block, use_list=False)
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"a block of {len(block)} bytes is not understood: {error}") from error
    return kind, content


def _blocks(kind: str, items: Iterable[Any]) -> Iterator[bytes]:
    """The items in blocks of bounded length, each of which holds at least one."""
    some: list[bytes] = []
    size_bytes = 0
    for item in items:
        some.append(_packer.pack(item))
        size_bytes += len(some[-1])
        if size_bytes >= _BLOCK_BYTES:
            yield _join(kind, some)
            some, size_bytes = [], 0
    if some:
        yield _join(kind, some)


def _join(kind: str, packed: list[bytes]) -> bytes:
    """The same as `_pack` of the items."""
    heads = (_packer.pack_array_header(2), _packer.pack(kind))
    return b"".join((*heads, _packer.pack_array_header(len(packed)), *packed))


def _job_blocks(kind: str, jobs: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    ids: list[int] = []
    packed: list[bytes] = []
    size_bytes = 0
    for job_id, data in jobs:
        is_large = len(data) > _PIECE_BYTES
        if is_large:
            if ids:
                yield _pack(kind, (ids, packed))
            for at in range(0, len(data), _PIECE_BYTES):
                yield _pack("piece", data[at : at + _PIECE_BYTES])
            ids, packed, size_bytes = [], [], 0
        ids.append(job_id)
        packed.append(b"" if is_large else data)
        size_bytes += len(data)
        if len(ids) == _BLOCK_ITEMS or size_bytes >= _BLOCK_BYTES:
            yield _pack(kind, (ids, packed))
            ids, packed, size_bytes = [], [], 0
    if ids:
        yield _pack(kind, (ids, packed))


def _request_blocks(state: ClusterState) -> Iterator[bytes]:
    entries = iter(state.requests.entries())
    while some := list(islice(entries, _BLOCK_ITEMS)):
        yield _pack("requests", tuple(zip(*some, strict=True)))


def _pack_scheduling(state: ClusterState) -> tuple[Any, ...]:
    return (
        state.policy,
        list(state.holds.items()),
        [(job_id, list(tasks.items())) for job_id, tasks in state.doomed.items()],
        list(state.overfailed),
    )


def _index_waits(state: ClusterState, job: Job) -> None:
    """Makes the state's indexes over what jobs wait for from one of them."""
    waits = job.waits
    if waits is not None:
        if waits.delayed:
            state.delayed.add((job.scheduling.begin_us, job.job_id, ALL_TASKS))
        for index, due_us in waits.not_before.items():
            state.delayed.add((due_us, job.job_id, index))
    if job.scheduling.deadline_us:
        state.deadlines.add(deadline_entry(job))
    for place, each in enumerate(job.scheduling.after):
        # Its number is below the next one: whoever is not remembered has ended.
        if each.job_id in state.live_jobs:
            note_dependent(state, job, place)


def _pack_worker(worker: Worker) -> tuple[Any, ...]:
    capacity = worker.capacity
    return (
        worker.number, worker.worker_id, worker.instance, worker.boot_id, worker.name,
        worker.address, capacity.cpus_milli, capacity.memory_bytes, capacity.named,
        worker.labels, worker.version, worker.output_directory, worker.limits, worker.drain,
        worker.is_stopping, worker.fault, worker.last_heard_us, int(worker.state),
        (worker.free_cpus_milli, worker.free_memory_bytes, list(worker.free_named.items())),
        list(worker.attempts),
        [
            (class_id, here.slots, list(here.unstarted), list(here.ahead))
            for class_id, here in worker.classes.items()
        ],
    )  # fmt: skip
