"""WorkerService: what workers tell. Translates, calls, renders; decides nothing."""

from __future__ import annotations

import logging
import secrets
import uuid

from titan.manager import translate
from titan.manager.kernel.commands import DeregisterWorker, Registered
from titan.manager.roster import Roster
from titan.manager.shell import Shell
from titan.rpc.v1 import worker_pb2

_log = logging.getLogger("titan.workers")

SESSION_BYTES = 16


class WorkerService:
    """The handlers, a method for each RPC of WorkerService."""

    def __init__(self, shell: Shell, roster: Roster) -> None:
        self._shell = shell
        self._roster = roster

    def RegisterWorker(  # noqa: N802  (gRPC's names)
        self, request: worker_pb2.RegisterWorkerRequest
    ) -> worker_pb2.RegisterWorkerResponse:
        """A worker calls in."""
        command = translate.register_command(
            request,
            new_worker_id=uuid.uuid4().bytes,
            session=secrets.token_bytes(SESSION_BYTES),
        )
        answer: Registered = self._shell.execute(command)
        if answer.warning:
            _log.warning("%s", answer.warning)
        _log.info(
            "a worker registered worker=%s address=%s holds=%d",
            request.name,
            request.address,
            len(request.held.attempts),
        )
        state = self._shell.kernel.state
        return worker_pb2.RegisterWorkerResponse(
            worker_id=answer.worker_id,
            session=command.session,
            cluster_id=state.cluster_id,
            heartbeat_interval_ms=self._shell.kernel.settings.heartbeat_interval_us // 1000,
            lsn=self._shell.lsn,
        )

    def DeregisterWorker(  # noqa: N802
        self, request: worker_pb2.DeregisterWorkerRequest
    ) -> worker_pb2.DeregisterWorkerResponse:
        """A worker takes its leave."""
        self._shell.execute(DeregisterWorker(session=request.session))
        return worker_pb2.DeregisterWorkerResponse(lsn=self._shell.lsn)

    def Heartbeat(  # noqa: N802
        self, request: worker_pb2.HeartbeatRequest
    ) -> worker_pb2.HeartbeatResponse:
        """A worker is alive. The answer carries nothing, so it waits for nothing."""
        self._shell.execute(translate.heartbeat_command(request))
        self._roster.note(request.session, request.statistics)
        return worker_pb2.HeartbeatResponse()

    def ReportTaskStatus(  # noqa: N802
        self, request: worker_pb2.ReportTaskStatusRequest
    ) -> worker_pb2.ReportTaskStatusResponse:
        """What became of tasks."""
        report_seq: int = self._shell.execute(translate.report_command(request))
        return worker_pb2.ReportTaskStatusResponse(
            report_seq=report_seq,
            lsn=self._shell.lsn,
            dispatch_seq=self._shell.kernel.sessions[request.session].dispatch_seq,
        )
