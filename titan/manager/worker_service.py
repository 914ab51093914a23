"""WorkerService: what workers tell. Translates, calls, renders; decides nothing."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable

from titan.errors import NotFound, Refused
from titan.manager import permissions, translate_workers
from titan.manager.dispatch import Dispatcher
from titan.manager.kernel.commands import DeregisterWorker, Registered
from titan.manager.kernel.workers import REGISTER_AGAIN
from titan.manager.pull import PullLine, take_output
from titan.manager.roster import Roster
from titan.manager.shell import Shell
from titan.rpc.v1 import worker_pb2

_log = logging.getLogger("titan.workers")

SESSION_BYTES = 16
NOBODY_WAITS = "nobody waits for this answer any more"


class WorkerService:
    """The handlers, a method for each RPC of WorkerService."""

    def __init__(self, shell: Shell, dispatcher: Dispatcher, roster: Roster) -> None:
        self._shell = shell
        self._dispatcher = dispatcher
        self._roster = roster

    def RegisterWorker(  # noqa: N802  (gRPC's names)
        self, request: worker_pb2.RegisterWorkerRequest
    ) -> worker_pb2.RegisterWorkerResponse:
        """A worker calls in."""
        self._check_own(request)
        command = translate_workers.register_command(
            request,
            new_worker_id=uuid.uuid4().bytes,
            session=secrets.token_bytes(SESSION_BYTES),
        )
        answer: Registered = self._shell.execute(command)
        if answer.warning:
            _log.warning("%s", answer.warning)
        state = self._shell.kernel.state
        self._dispatcher.greet(self._shell.kernel.sessions[command.session])
        return worker_pb2.RegisterWorkerResponse(
            worker_id=answer.worker_id,
            session=command.session,
            cluster_id=state.cluster_id,
            heartbeat_interval_ms=self._shell.kernel.settings.heartbeat_interval_us // 1000,
            lsn=self._shell.lsn,
            term=self._shell.leadership.term,
        )

    def DeregisterWorker(  # noqa: N802
        self, request: worker_pb2.DeregisterWorkerRequest
    ) -> worker_pb2.DeregisterWorkerResponse:
        """A worker takes its leave."""
        self._check_session(request.session)
        dispatch_seq = request.dispatch_seq if request.HasField("dispatch_seq") else None
        self._shell.execute(DeregisterWorker(session=request.session, dispatch_seq=dispatch_seq))
        return worker_pb2.DeregisterWorkerResponse(lsn=self._shell.lsn)

    def Heartbeat(  # noqa: N802
        self, request: worker_pb2.HeartbeatRequest
    ) -> worker_pb2.HeartbeatResponse | Awaitable[worker_pb2.HeartbeatResponse]:
        """A worker is alive. The answer waits for nothing, unless it brings something."""
        self._check_session(request.session)
        self._shell.execute(translate_workers.heartbeat_command(request))
        self._roster.note(request.session, request.statistics)
        outbox = self._shell.kernel.sessions[request.session]
        if outbox.is_fetched and request.wait_ms > 0:
            line = self._dispatcher.pull_line(outbox)
            return line.poll(request.held.dispatch_seq, request.wait_ms / 1000)
        return worker_pb2.HeartbeatResponse(cannot_call=self._dispatcher.find_fault(outbox))

    async def PushOutput(  # noqa: N802
        self, requests: AsyncIterator[worker_pb2.PushOutputRequest]
    ) -> worker_pb2.PushOutputResponse:
        """Output that a worker was asked for, and cannot be called for."""
        first = await anext(requests, worker_pb2.PushOutputRequest())
        question = self._find_line(first.session).find_output(first.number)
        if question is None:
            raise NotFound(NOBODY_WAITS)
        await take_output(question, requests)
        return worker_pb2.PushOutputResponse()

    def PushTaskStatus(  # noqa: N802
        self, request: worker_pb2.PushTaskStatusRequest
    ) -> worker_pb2.PushTaskStatusResponse:
        """What a worker's tasks do, of one that cannot be called for it."""
        if not self._find_line(request.session).answer_status(request.number, request.status):
            raise NotFound(NOBODY_WAITS)
        return worker_pb2.PushTaskStatusResponse()

    def _check_own(self, request: worker_pb2.RegisterWorkerRequest) -> None:
        """Raises PermissionDenied for another worker's name, or another's id."""
        permissions.check_worker(request.name)
        state = self._shell.kernel.state
        number = state.worker_numbers.get(request.worker_id)
        if number is not None:
            permissions.check_worker(state.get_worker(number).name)

    def _check_session(self, session: bytes) -> None:
        """Raises PermissionDenied for another worker's session."""
        outbox = self._shell.kernel.sessions.get(session)
        if outbox is not None:
            permissions.check_worker(self._shell.kernel.state.get_worker(outbox.worker).name)

    def _find_line(self, session: bytes) -> PullLine:
        self._check_session(session)
        outbox = self._shell.kernel.sessions.get(session)
        if outbox is None:
            raise Refused(REGISTER_AGAIN)
        return self._dispatcher.pull_line(outbox)

    def ReportTaskStatus(  # noqa: N802
        self, request: worker_pb2.ReportTaskStatusRequest
    ) -> worker_pb2.ReportTaskStatusResponse:
        """What became of tasks."""
        self._check_session(request.session)
        report_seq: int = self._shell.execute(translate_workers.report_command(request))
        return worker_pb2.ReportTaskStatusResponse(
            report_seq=report_seq,
            lsn=self._shell.lsn,
            dispatch_seq=self._shell.kernel.sessions[request.session].dispatch_seq,
        )
