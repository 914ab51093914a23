"""What a worker should hold minus what it holds: the batches that go to one worker.

Level-triggered and pure: nothing of it is stored. It is made anew from the state when
the worker registers and forgotten with the session, so a restart of either side loses
no command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from titan.checks import SECRET_BYTES_MAX
from titan.model import AttemptKey, Held, State, Stop, StopMode
from titan.state.attempts import Attempt
from titan.state.cluster import ClusterState

# A batch is bounded by tasks (its answer has to come within the deadline of the call) and
# by the bytes of the distinct jobs in it (a message takes at most 16 MiB).
BATCH_TASKS_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024

_WishKey = tuple[AttemptKey, int]
_ABOUT: Final = range(3)
_ABOUT_OF: Final = {
    StopMode.CANCEL: 0,
    StopMode.RECALL: 0,
    StopMode.SUSPEND: 1,
    StopMode.RESUME: 1,
    StopMode.LIMIT: 2,
}


class Batch(NamedTuple):
    """What goes to the worker in one call: starts or stops, never both.

    `slots` says of each class in it how many may run at once there; it may stand alone.
    """

    dispatch_seq: int
    starts: list[Attempt]
    slots: dict[int, int]
    stops: list[Stop]


class Outbox:
    """The outbox of one session. At most one batch is under way."""

    def __init__(
        self,
        *,
        worker: int,
        session: bytes,
        instance: bytes,
        address: str,
        token: str,
        applied_seq: int,
        ready: dict[int, None],
        maybe_sent: Iterable[tuple[int, int]] = (),
        takes_secrets: bool = True,
    ) -> None:
        """`maybe_sent`: what the same host may have from an earlier session, by job and index.

        `takes_secrets`: its agent gives tasks their secrets.
        """
        self.takes_secrets = takes_secrets
        self.worker = worker
        self.session = session
        self.instance = instance
        self.address = address
        self.token = token
        # The last event of the task host that has been applied.
        self.applied_seq = applied_seq
        # The workers, by number, whose outboxes have something new; shared with the others.
        self._ready = ready
        self._dispatch_seq = 0
        self._starts: dict[tuple[int, int], Attempt] = {}
        # By attempt and by what the wish is about: the attempt itself, whether it stands still,
        # its limit. A later wish about the same takes the earlier one's place.
        self._stops: dict[_WishKey, Stop] = {}
        # With which batch an attempt was sent last.
        self._sent: dict[tuple[int, int], int] = {}
        # What may have come with an earlier batch than that, also with one of an earlier session.
        self._maybe_sent = set(maybe_sent)
        self._under_way: Batch | None = None
        # Jobs of whose class the worker should hear again how many may run, and those of them
        # that the batch under way tells of.
        self._slots_of: dict[int, None] = {}
        self._slots_told: dict[int, None] = {}
        # Attempts that have left the worker since that batch was made.
        self._gone: set[AttemptKey] = set()

    @property
    def is_fetched(self) -> bool:
        """Whether the worker comes for it, since it cannot be called."""
        return not self.address

    @property
    def dispatch_seq(self) -> int:
        """The number of the batch made last."""
        return self._dispatch_seq

    @property
    def has_work(self) -> bool:
        """Whether a batch can go now."""
        return self._under_way is None and bool(self._starts or self._stops or self._slots_of)

    def want_start(self, attempt: Attempt) -> None:
        """The worker should get this attempt."""
        self._starts[attempt.job_id, attempt.index] = attempt
        self._ready[self.worker] = None

    def want_stop(self, stop: Stop) -> None:
        """What is wished of an attempt that the worker has; the last cancel outweighs recalls."""
        key = stop.key
        start = self._starts.get((key.job_id, key.index))
        gives_up = stop.mode in (StopMode.CANCEL, StopMode.RECALL)
        if gives_up and start is not None and start.attempt == key.attempt:
            del self._starts[key.job_id, key.index]
        place = _wish_key(stop)
        if stop.mode is not StopMode.RECALL or place not in self._stops:
            self._stops[place] = stop
            self._ready[self.worker] = None

    def waiting_starts(self) -> list[Attempt]:
        """What the worker should get and was not sent yet."""
        return list(self._starts.values())

    def arrived(self, attempt: Attempt) -> None:
        """The worker has shown that it has the attempt: it need not be sent again."""
        self._starts.pop((attempt.job_id, attempt.index), None)

    def forget(self, attempt: Attempt, key: AttemptKey, class_id: int) -> None:
        """The attempt, of that class, has left the worker."""
        self._starts.pop((attempt.job_id, attempt.index), None)
        self._maybe_sent.discard((attempt.job_id, attempt.index))
        sent = self._sent.pop((attempt.job_id, attempt.index), None)
        if sent is None and attempt.state is State.SCHEDULED and not attempt.ahead:
            # Its slot never came to the worker: who inherits it there would wait for ever.
            self._slots_of[class_id] = None
            self._ready[self.worker] = None
        for about in _ABOUT:
            self._stops.pop((key, about), None)
        if self._under_way is not None:
            self._gone.add(key)

    def next_batch(self, state: ClusterState) -> Batch | None:
        """The next batch, stops first; None while one is under way or nothing is to be sent.

        Must be followed by `acknowledged` or `failed`.
        """
        if not self.has_work:
            return None
        if self._stops:
            stops = [self._stops.pop(key) for key in list(self._stops)[:BATCH_TASKS_MAX]]
            self._dispatch_seq += 1
            batch = Batch(self._dispatch_seq, [], {}, stops)
        else:
            starts = self._take_starts(state)
            self._slots_told, self._slots_of = self._slots_of, {}
            here = state.get_worker(self.worker).classes
            started = (each.job_class.class_id for each in starts)
            classes = (*started, *self._slots_told)
            slots = {each: here[each].slots for each in classes if each in here}
            if not slots:
                return None
            self._dispatch_seq += 1
            batch = Batch(self._dispatch_seq, starts, slots, [])
            for each in starts:
                key = (each.job_id, each.index)
                if key in self._sent:
                    self._maybe_sent.add(key)
                self._sent[key] = batch.dispatch_seq
        self._under_way = batch
        self._gone.clear()
        return batch

    def acknowledged(self, batch: Batch) -> None:
        """The worker has it."""
        if self._under_way is batch:
            self._under_way = None

    def failed(self, batch: Batch, state: ClusterState) -> None:
        """Nobody knows whether the worker has it: what is still wanted of it goes again."""
        if self._under_way is not batch:
            return
        self._under_way = None
        held = state.get_worker(self.worker).attempts
        for attempt in batch.starts:
            key = (attempt.job_id, attempt.index)
            waits = held.get(key) is attempt and attempt.state is State.SCHEDULED
            if waits and not attempt.is_given_up:
                self._starts[key] = attempt
        if not batch.stops:
            self._slots_of.update(self._slots_told)
        for stop in batch.stops:
            place = _wish_key(stop)
            later = self._stops.get(place)
            is_outweighed = later is not None and later.mode is not StopMode.RECALL
            if stop.key not in self._gone and not is_outweighed:
                self._stops[place] = stop

    def took_last(self, dispatch_seq: int, attempts: Mapping[tuple[int, int], Attempt]) -> None:
        """The worker, which has these attempts, took no batch after that one and takes none any
        more: what went with a later one waits to be sent."""
        for key, sent in list(self._sent.items()):
            if sent > dispatch_seq and key in attempts:
                del self._sent[key]
                self._starts[key] = attempts[key]

    def was_held(self, attempt: Attempt, held: Held) -> bool:
        """Whether the absence of the attempt from that list means something.

        It does for what was sent with that batch or before it, and for what was held
        when the session began, once every event up to the list's has been applied.
        """
        key = (attempt.job_id, attempt.index)
        if key in self._starts:
            return False
        return self._sent.get(key, 0) <= held.dispatch_seq and self.applied_seq >= held.report_seq

    def was_sent(self, attempt: Attempt) -> bool:
        """Whether the worker may have it, be it from an earlier session of the same host.

        That the list which the session began with lacks it says nothing: a registration that
        was read late is older than what the session before it sent.
        """
        key = (attempt.job_id, attempt.index)
        return key in self._sent or key in self._maybe_sent or key not in self._starts

    def _take_starts(self, state: ClusterState) -> list[Attempt]:
        taken: list[Attempt] = []
        jobs: set[int] = set()
        environments: set[bytes] = set()
        size = 0
        for key, attempt in list(islice(self._starts.items(), BATCH_TASKS_MAX)):
            if attempt.job_id not in jobs:
                job = state.get_job(attempt.job_id)
                size += sum(map(len, job.command)) + len(job.cwd)
                if job.environment not in environments:
                    # It is in the batch once, which with a script of 1 MiB makes a difference.
                    size += _environment_size(state, job.environment)
                    environments.add(job.environment)
                jobs.add(attempt.job_id)
            if taken and size > BATCH_BYTES_MAX:
                break
            taken.append(self._starts.pop(key))
        return taken


def fill_outbox(state: ClusterState, outbox: Outbox, held: Held) -> None:
    """Fills a new session's outbox: what the worker should hold and does not list."""
    listed = {each.key for each in held.attempts}
    for attempt in state.get_worker(outbox.worker).attempts.values():
        if attempt.is_given_up:
            outbox.want_stop(stop_of(state, attempt))
            continue
        if attempt.state is State.SCHEDULED and key_of(state, attempt) not in listed:
            # What it is sent with is what holds now.
            outbox.want_start(attempt)
            continue
        if attempt.was_suspended:
            mode = StopMode.SUSPEND if attempt.suspended else StopMode.RESUME
            outbox.want_stop(wish_of(state, attempt, mode))
        if attempt.limit_changed:
            outbox.want_stop(wish_of(state, attempt, StopMode.LIMIT))


def stop_of(state: ClusterState, attempt: Attempt) -> Stop:
    """The wish that an attempt is given up, as it was written down."""
    key = key_of(state, attempt)
    if attempt.cancel_requested:
        return Stop(key, StopMode.CANCEL, attempt.cancel_grace_ms, attempt.cancel_signal)
    if attempt.preempted:
        return Stop(key, StopMode.CANCEL, attempt.preempt_grace_ms)
    return Stop(key, StopMode.RECALL, 0)


def wish_of(state: ClusterState, attempt: Attempt, mode: StopMode) -> Stop:
    """The wish that an attempt stands still or goes on, or what its time limit is now."""
    time_limit_ms = state.get_job(attempt.job_id).time_limit_ms if mode is StopMode.LIMIT else 0
    return Stop(key_of(state, attempt), mode, 0, time_limit_ms=time_limit_ms)


def key_of(state: ClusterState, attempt: Attempt) -> AttemptKey:
    """The key of an attempt under way."""
    epoch = state.get_job(attempt.job_id).epoch
    return AttemptKey(epoch, attempt.job_id, attempt.index, attempt.attempt)


def _wish_key(stop: Stop) -> _WishKey:
    return stop.key, _ABOUT_OF[stop.mode]


def _environment_size(state: ClusterState, digest: bytes) -> int:
    stored = state.environments[digest]
    variables = (*stored.exported, *stored.set)
    # How large the values of secrets are the log does not say.
    secrets = SECRET_BYTES_MAX if stored.secret_id else 0
    return len(stored.script) + secrets + sum(len(name) + len(value) for name, value in variables)
