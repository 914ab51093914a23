"""The agent: the worker's side of the wire, in asyncio. `core.py` decides, this performs.

It runs beside its task host, keeps the manager informed, and serves TaskService. It may be
ended and started again at any time: the host keeps the tasks, and all that the agent has in
memory it gets again from the host and the manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
from collections.abc import Coroutine, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any, Final, assert_never

from titan.logs import LogLine
from titan.model import AttemptKey, HeldAttempt, ReportKind, Stop
from titan.rpc.v1 import worker_pb2
from titan.worker import directory, processes, protocol
from titan.worker.agent import actions, node, translate
from titan.worker.agent.actions import Action
from titan.worker.agent.capacity import Offer
from titan.worker.agent.core import Core, Failure, HostState, Verdict
from titan.worker.agent.disk_room import DiskRoom
from titan.worker.agent.host_process import HostConnection, HostError, HostProcess, WrongVersion
from titan.worker.agent.host_questions import HostQuestions, NotNow
from titan.worker.agent.manager_link import CallFailed, ManagerLink
from titan.worker.agent.output_stream import OutputStreams
from titan.worker.agent.push import Pusher
from titan.worker.agent.registration import HostAbilities, Identity, registration_request
from titan.worker.agent.tally import Tally
from titan.worker.agent.task_status import TaskStatuses
from titan.worker.messages import Report, StartBatch
from titan.worker.output.retention import OutputRetention
from titan.worker.output.shelf import Limits, Name
from titan.worker.run_as import NO_POLICY, LivePolicy

LEAVE_GRACE_MS: Final = 10_000
# After the tasks are gone: for the last reports and the good-bye.
LEAVE_CALLS_SECONDS: Final = 5.0
# A manager may call before the answer to the registration is read here.
REGISTERING_SECONDS: Final = 2.0
HOST_RETRY_SECONDS: Final = 2.0

_log = logging.getLogger("titan.worker")


class OnStop(Enum):
    """What a worker does at SIGTERM."""

    KEEP = "keep"
    """End; the tasks run on under their host."""
    LEAVE = "leave"
    """Stop the tasks, hand them back and end."""
    DRAIN = "drain"
    """Take nothing new, and leave once nothing is left."""


class Agent:
    """One agent. `run` ends when it is told to, with the process's exit code."""

    def __init__(
        self,
        path: Path,
        identity: Identity,
        worker_id: bytes,
        manager: ManagerLink,
        host: HostProcess,
        *,
        disk_room: DiskRoom,
        output_limits: Limits,
        on_stop: OnStop = OnStop.KEEP,
        run_as: LivePolicy = NO_POLICY,
    ) -> None:
        """`disk_room` judges the disk under `path`. `on_stop`: what SIGTERM asks for.

        `run_as` is only told to the manager: it is the host that keeps to it.
        """
        self._path = path
        self._disk_room = disk_room
        self._on_stop = on_stop
        self._identity = identity
        self._manager = manager
        self._host_process = host
        self._host: HostConnection | None = None
        self._core = Core(worker_id, fetches=not identity.address)
        self.tally = Tally()
        self.questions = HostQuestions()
        self.retention = OutputRetention(path / "output", output_limits, self)
        self.outputs = OutputStreams(path / "output", self)
        self.statuses = TaskStatuses(path / "output", self.questions)
        self._pusher = Pusher(manager, self.outputs, self.statuses, self._spawn)
        self._meter = node.Meter(path)
        self._registered = asyncio.Event()
        self._done = asyncio.Event()
        self._exit_code = 0
        self._has_left = False
        # Owned here; each ends by itself or is cancelled at the end.
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._abilities = HostAbilities()
        self._run_as = run_as
        # As the manager was told it.
        self._grants = run_as.grants()

    async def run(self) -> int:
        """Serve until SIGTERM (as was chosen) or SIGINT (tasks are handed back)."""
        loop = asyncio.get_running_loop()
        on_stop = {OnStop.KEEP: self._done.set, OnStop.LEAVE: self.leave, OnStop.DRAIN: self.drain}
        loop.add_signal_handler(signal.SIGTERM, on_stop[self._on_stop])
        loop.add_signal_handler(signal.SIGINT, self.leave)
        self._look_at_disk()
        self._spawn(self._keep_host())
        self._spawn(self.retention.run())
        try:
            await self._done.wait()
        finally:
            await self._close()
        return self._exit_code

    def leave(self) -> None:
        """Hand all tasks back and end; the second time without grace."""
        is_first = not self._has_left
        self._has_left = True
        _log.info("leaving: handing the tasks back" if is_first else "leaving at once")
        grace_ms = LEAVE_GRACE_MS if is_first else 0
        todo = self._core.leave(grace_ms)
        self._perform(todo)
        if not todo:
            # The host has stopped all; only the manager is still waited for.
            self._spawn(self._give_up(LEAVE_CALLS_SECONDS))

    def drain(self) -> None:
        """Take nothing new, and end once nothing is left; the second time leave."""
        if self._core.is_draining or self._core.is_leaving:
            self.leave()
        else:
            self._perform(self._core.drain())

    # The manager's calls ------------------------------------------------------------------

    async def start(self, session: bytes, dispatch_seq: int, batch: StartBatch) -> Verdict:
        """Start tasks, once per batch."""
        await self._wait_registered(session)
        verdict, todo = self._core.start(session, dispatch_seq, batch)
        self._perform(todo)
        return verdict

    async def stop(self, session: bytes, dispatch_seq: int, stops: tuple[Stop, ...]) -> Verdict:
        """Stop attempts, once per batch."""
        await self._wait_registered(session)
        verdict, todo = self._core.stop(session, dispatch_seq, stops)
        self._perform(todo)
        return verdict

    @property
    def offer(self) -> Offer:
        """What the worker offers now."""
        return self._identity.offer

    async def change_offer(self, offer: Offer) -> bool:
        """From now on it offers this. Whether the manager knows it already.

        Raises NotNow when it leaves.
        """
        if self._core.is_leaving:
            raise NotNow("this worker is leaving")
        if offer != self._identity.offer:
            _log.info("what this worker offers changes to %s", offer)
            self._identity = self._identity._replace(offer=offer)
            self._host_process.offer(offer.devices)
            if self._host is not None:
                self._host.send(protocol.OfferDevices(offer.devices))
            self._perform(self._core.offer_changed())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._registered.wait(), REGISTERING_SECONDS)
        return self._core.is_registered

    @property
    def is_registered(self) -> bool:
        """Whether a session is in force, as far as the agent knows."""
        return self._core.is_registered

    @property
    def is_ending(self) -> bool:
        """Whether it takes nothing new, and ends."""
        return self._core.is_draining or self._core.is_leaving

    @property
    def fault(self) -> str:
        """What keeps this worker from taking tasks; empty: nothing."""
        return self._core.fault

    @property
    def unacknowledged_count(self) -> int:
        """How many reports the manager has not acknowledged."""
        return self._core.unacknowledged_count

    def measure(self) -> node.Statistics:
        """The machine, as of the last second. Raises OSError."""
        return self._meter.measure()

    def held(self) -> Sequence[HeldAttempt]:
        """All attempts held."""
        return self._core.held().attempts

    def find_held(self, key: AttemptKey) -> HeldAttempt | None:
        """The attempt, if it is held."""
        return self._core.find_held(key) or self.questions.find_held(key)

    def why_gone(self, key: AttemptKey, end_us: int) -> str:
        """What became of the output of an attempt that ended then; empty: nothing known."""
        return self.retention.find_sentence(key, end_us)

    def held_names(self) -> AbstractSet[Name] | None:
        """Job, index and attempt of all that is held; None: without a host that is not known."""
        if self._host is None:
            return None
        return {key[1:] for key in chain(self._core.held_keys(), self.questions.live)}

    async def _wait_registered(self, session: bytes) -> None:
        """Wait while the answer that may bring this session is on its way."""
        if session != self._core.session and not self._core.is_registered:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._registered.wait(), REGISTERING_SECONDS)

    # Actions ---------------------------------------------------------------------------------

    def _perform(self, todo: Sequence[Action]) -> None:
        if self._core.is_registered:
            self._registered.set()
        else:
            self._registered.clear()
        for action in todo:
            match action:
                case (
                    actions.Register()
                    | actions.SendReports()
                    | actions.SendHeartbeat()
                    | actions.Deregister()
                ):
                    self._spawn(self._call(action))
                case (
                    actions.PassCluster()
                    | actions.PassStart()
                    | actions.PassStop()
                    | actions.PassAcknowledged()
                    | actions.PassLease()
                ):
                    self._pass(action)
                case actions.PassLeave():
                    self._pass(action)
                    self._spawn(self._give_up(action.grace_ms / 1000 + LEAVE_CALLS_SECONDS))
                case actions.KeepIdentity():
                    directory.store_identity(self._path, action.worker_id)
                    _log.info(LogLine("this worker has its id", worker_id=action.worker_id.hex()))
                case actions.BeatEvery():
                    self._beat_every(action.interval_ms / 1000)
                case actions.Say():
                    _log.log(action.level, "%s", action.message)
                case actions.Quit():
                    self._done.set()
                case _:
                    assert_never(action)

    def _pass(
        self,
        action: actions.PassCluster
        | actions.PassStart
        | actions.PassStop
        | actions.PassAcknowledged
        | actions.PassLease
        | actions.PassLeave,
    ) -> None:
        if self._host is None:
            return
        message: protocol.Message
        match action:
            case actions.PassStart():
                self._host.start(action.batch)
                return
            case actions.PassStop():
                message = protocol.StopTasks(self._host.understood(action.stops))
            case actions.PassAcknowledged():
                message = protocol.Acknowledge(action.report_seq)
            case actions.PassCluster():
                message = protocol.Cluster(action.cluster_id)
            case actions.PassLease():
                message = protocol.Lease(action.until_us)
            case actions.PassLeave():
                # A host that leaves says nothing any more of what it does not know.
                self._host.recall_withheld()
                message = protocol.Leave(action.grace_ms)
        self._host.send(message)

    async def _call(
        self,
        action: actions.Register | actions.SendReports | actions.SendHeartbeat | actions.Deregister,
    ) -> None:
        """Make the call and give the answer to the core."""
        if isinstance(action, actions.Register | actions.SendReports) and action.delay_us:
            # Workers that lost the manager together must not come back together.
            await asyncio.sleep(action.delay_us / 1e6 * random.uniform(0.5, 1.0))
        if not self._core.awaits(action.call):
            return
        try:
            todo = await self._answered(action)
        except CallFailed as error:
            self.tally.note_failure(error.failure.value)
            todo = self._core.failed(action.call, error.failure, str(error))
        except OSError as error:
            todo = self._core.failed(action.call, Failure.UNREACHABLE, str(error))
        self._perform(todo)

    async def _answered(
        self,
        action: actions.Register | actions.SendReports | actions.SendHeartbeat | actions.Deregister,
    ) -> list[Action]:
        """What the core makes of the answer. Raises CallFailed, OSError."""
        match action:
            case actions.Register():
                return await self._register(action)
            case actions.SendReports():
                taken = await self._manager.report(translate.report_request(action))
                todo = self._core.reports_taken(action.call, taken.report_seq, taken.dispatch_seq)
                self._retain(action.reports)
                return todo
            case actions.SendHeartbeat():
                request = translate.heartbeat_request(action, self._meter.measure())
                sent_us = processes.boottime_us()
                answer = await self._manager.heartbeat(request)
                if not action.wait_ms:
                    took_us = processes.boottime_us() - sent_us
                    self.tally.heartbeat_seconds.observe(took_us / 1e6)
                return self._core.lease_renewed(sent_us) + self._fetched(action, answer)
            case actions.Deregister():
                await self._manager.deregister(action.session, action.dispatch_seq)
                _log.info("deregistered")
                return self._core.deregistered(action.call)

    def _retain(self, reports: Sequence[Report]) -> None:
        """What the manager knows to have ended is kept no longer than the worker's limits say."""
        for report in reports:
            is_over = report.kind == ReportKind.ENDED and self._core.find_held(report.key) is None
            if is_over:
                self.retention.ended(report.key, report.end_us)

    def _fetched(
        self, action: actions.SendHeartbeat, answer: worker_pb2.HeartbeatResponse
    ) -> list[Action]:
        try:
            fetched = translate.fetched_of(answer)
        except translate.BadMessage as error:
            raise CallFailed(Failure.REFUSED, f"a batch makes no sense: {error}") from error
        self._pusher.answer(action.session, answer)
        return self._core.heartbeat_taken(action.call, fetched)

    async def _register(self, action: actions.Register) -> list[Action]:
        identity = self._identity
        if self._core.fetches:
            identity = identity._replace(address="")
        output_directory = self._path / "output"
        request = registration_request(
            action, identity, self._abilities, self._grants, output_directory
        )
        sent_us = processes.boottime_us()
        answer = await self._manager.register(request, passes_on=action.passes_on)
        is_over = self._core.is_over(answer.term, answer.cluster_id)
        if not is_over:
            _log.info(LogLine("registered with the manager", address=self._manager.address))
        todo = self._core.registered(
            action.call,
            worker_id=answer.worker_id,
            session=answer.session,
            cluster_id=answer.cluster_id,
            heartbeat_interval_ms=answer.heartbeat_interval_ms,
            term=answer.term,
        )
        return todo if is_over else self._core.lease_renewed(sent_us) + todo

    # Timers -----------------------------------------------------------------------------------

    def _beat_every(self, seconds: float) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self._beating = self._spawn(self._beat(max(seconds, 0.01)))

    async def _beat(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # By the clock, so that the time a beat takes adds nothing; a late one is not made up.
            due = max(due + seconds, loop.time())
            await asyncio.sleep(due - loop.time())
            self._look_at_disk()
            if self._run_as.grants() != self._grants:
                self._grants = self._run_as.grants()
                self._perform(self._core.offer_changed())
            self._perform(self._core.heartbeat_due())

    def _look_at_disk(self) -> None:
        try:
            use = node.disk_use(self._path)
        except OSError as error:
            fault = f"its data directory cannot be looked at: {error}"
        else:
            fault = self._disk_room.judge(use)
        self._perform(self._core.note_fault(fault))

    async def _give_up(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        _log.warning("the manager or the tasks do not answer; ending all the same")
        self._perform(self._core.give_up())

    # The host ----------------------------------------------------------------------------------

    async def _keep_host(self) -> None:
        """Have a host, always: take up the one that runs or start one, and listen to it."""
        while not self._done.is_set():
            try:
                connection = await self._host_process.connect()
            except WrongVersion as error:
                _log.error("%s", error)
                self._exit_code = 1
                self._done.set()
                return
            except (HostError, OSError) as error:
                _log.error("%s", error)
                await asyncio.sleep(HOST_RETRY_SECONDS)
                continue
            self._host = connection
            await self._listen(connection)
            self._host = None
            self.questions.lost()
            self._perform(self._core.host_lost())
            if not self._done.is_set():
                _log.warning("the task host is gone; starting another")
            await connection.close()

    async def _listen(self, connection: HostConnection) -> None:
        welcome = connection.welcome
        _log.info(
            LogLine(
                "the task host is there",
                pid=welcome.pid,
                attempts=len(welcome.live),
                reports=len(welcome.reports),
            )
        )
        host = HostState(
            instance=welcome.instance,
            cluster_id=welcome.cluster_id,
            live=welcome.live,
            reports=welcome.reports,
            report_seq=welcome.report_seq,
            starts=welcome.starts,
        )
        self._abilities = HostAbilities(
            welcome.limits, welcome.sandboxes, welcome.minor >= protocol.MINOR_ISOLATION
        )
        self.questions.connected(connection)
        self.retention.look_again()
        self.tally.note_host(host.reports, host.report_seq, self._core.find_held)
        self._perform(self._core.host_connected(host))
        try:
            while (messages := await connection.receive()) is not None:
                for message in messages:
                    if isinstance(message, protocol.Reports):
                        self.tally.note_reports(message.reports, self._core.find_held)
                        self._perform(self._core.host_reported(message.reports))
                    elif isinstance(message, protocol.LeftAll):
                        self._perform(self._core.host_left())
                    else:
                        self.questions.take(message)
                        if isinstance(message, protocol.DirectEnded):
                            self.retention.ended(message.key, 0)
        except protocol.ProtocolError as error:
            _log.error("the task host sends what cannot be read: %s", error)

    # The end --------------------------------------------------------------------------------------

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours. The tasks are safe with the host; a supervisor starts us again.
            _log.critical("the agent failed", exc_info=error)
            self._exit_code = 1
            self._done.set()

    async def _close(self) -> None:
        host, self._host = self._host, None
        # Batches that come now are refused: nobody would run them.
        self._core.host_lost()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._manager.close()
        if host is not None:
            await host.close()
            if self._core.is_leaving:
                # It ends as soon as the agent is gone and its tasks are.
                await self._host_process.wait_gone(host.welcome.pid, LEAVE_CALLS_SECONDS)
