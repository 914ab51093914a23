"""What a manager answers that stands by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.manager.every_rpc import METHODS, Here, Metadata, call, leader_named
from tests.manager.harness import TOKEN, Manager, running_manager, settle
from tests.manager.leaderships import Lease
from titan import events as ev
from titan.manager.callers import TokenCallers
from titan.manager.dispatch import Dispatcher
from titan.manager.past import PastDesk
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_files import SecretFiles
from titan.manager.server import Services, leader_handlers, open_services
from titan.manager.several import standby_service
from titan.manager.several.standby_service import standby_handlers
from titan.manager.several.standby_view import StandbyView
from titan.rpc import access
from titan.rpc.channel import new_aio_server, open_aio_channel
from titan.rpc.v1 import manager_pb2
from titan.state import ClusterState

Health: Final = health_pb2.HealthCheckResponse
HERE: Final = Here(b"s" * 16)
MINE: Final = access.metadata(TOKEN)
JOB: Final = manager_pb2.JobSelector(job_id=1)
STALE: Final[dict[str, Any]] = {
    "ManagerService.GetJobStatus": manager_pb2.GetJobStatusRequest(job=JOB, allow_stale=True),
    "ManagerService.ListJobs": manager_pb2.ListJobsRequest(allow_stale=True),
    "ManagerService.ListWorkers": manager_pb2.ListWorkersRequest(allow_stale=True),
    "ManagerService.GetStats": manager_pb2.GetStatsRequest(allow_stale=True),
    "ManagerService.ListTasks": manager_pb2.ListTasksRequest(job=JOB, allow_stale=True),
    "ManagerService.GetWorkflow": manager_pb2.GetWorkflowRequest(job=JOB, allow_stale=True),
}


@dataclass
class Standby:
    """One that follows the log of a manager that leads, as far as the test lets it."""

    leader: Manager
    view: StandbyView
    services: Services
    lease: Lease
    address: str

    async def call(
        self, method_name: str, request: Any = None, metadata: Metadata = MINE
    ) -> list[Any]:
        """The first answer. Raises AioRpcError."""
        return await call(self.address, HERE, method_name, metadata, request)

    async def refused(self, *arguments: Any, **fields: Any) -> grpc.aio.AioRpcError:
        """With what the call is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.call(*arguments, **fields)
        return raised.value

    def read_log(self) -> None:
        """Up to its end."""
        state = self.view.state
        for lsn, payload in enumerate(self.leader.disk.records[state.lsn :], state.lsn + 1):
            state.apply_record(lsn, *ev.decode_record(payload))
        self.view.advanced()
        self.view.note_end(len(self.leader.disk.records))

    async def health(self, service: str) -> int:
        """gRPC's status."""
        async with open_aio_channel(self.address) as channel:
            # Calls that come before fail where this process is slow to shake hands with itself.
            await channel.channel_ready()
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            status: int = answer.status
            return status


@asynccontextmanager
async def standing_by() -> AsyncIterator[Standby]:
    """With a job in the log, all of which it has read."""
    lease = Lease(is_held=False)
    server = new_aio_server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    async with running_manager() as leader:
        await leader.submit()
        view = StandbyView(ClusterState(), leader.shell.now_us)
        services = await open_services(server, TokenCallers(TOKEN))
        await services.stand_by(standby_handlers(services.entry, view, lease))
        await server.start()
        try:
            standby = Standby(leader, view, services, lease, address)
            standby.read_log()
            yield standby
        finally:
            await server.stop(0)


@pytest.mark.parametrize("method_name", METHODS)
def test_every_call_is_the_leaders_whom_it_names(method_name: str) -> None:
    async def scenario() -> None:
        async with standing_by() as standby:
            error = await standby.refused(method_name)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert leader_named(error) == standby.lease.leader
            standby.lease.leader = ""
            assert leader_named(await standby.refused(method_name)) == ""

    asyncio.run(scenario())


@pytest.mark.parametrize("method_name", METHODS)
def test_who_may_not_call_is_told_nothing_not_even_who_leads(method_name: str) -> None:
    async def scenario() -> None:
        async with standing_by() as standby:
            error = await standby.refused(method_name, STALE.get(method_name), metadata=())
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert leader_named(error) is None

    asyncio.run(scenario())


@pytest.mark.parametrize("method_name", STALE)
def test_a_read_that_may_be_old_is_answered_as_by_the_leader_up_to_that_record(
    method_name: str,
) -> None:
    async def scenario() -> None:
        async with standing_by() as standby:
            request, leader = STALE[method_name], standby.leader
            seen = standby.view.lsn
            (theirs,) = await call(leader.address, HERE, method_name, MINE, request)
            (ours,) = await standby.call(method_name, request)
            if method_name == "ManagerService.GetStats":
                assert ours.stands_by
                assert (ours.term, ours.leader) == (3, standby.lease.leader)
                assert ours.jobs == theirs.jobs
            else:
                assert ours == theirs
            await leader.submit()
            (old,) = await standby.call(method_name, request)
            assert old.lsn == seen < len(leader.disk.records)

    asyncio.run(scenario())


def test_a_read_waits_for_its_record_and_then_is_the_leaders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with standing_by() as standby:
            job_ids = (await standby.leader.submit()).job_ids
            wanted = manager_pb2.ListJobsRequest(
                allow_stale=True, at_least_lsn=len(standby.leader.disk.records)
            )
            monkeypatch.setattr(standby_service, "LSN_SECONDS", 60.0)
            reading = asyncio.ensure_future(standby.call("ManagerService.ListJobs", wanted))
            await settle()
            assert not reading.done()
            standby.read_log()
            (answer,) = await reading
            assert job_ids[0] in [each.job_id for each in answer.jobs]
            monkeypatch.setattr(standby_service, "LSN_SECONDS", 0.05)
            wanted.at_least_lsn += 1
            error = await standby.refused("ManagerService.ListJobs", wanted)
            assert leader_named(error) == standby.lease.leader
            assert f"before {wanted.at_least_lsn}" in str(error.details())

    asyncio.run(scenario())


def test_the_past_and_forgotten_jobs_are_read_in_its_own_copy_of_the_log_or_not_at_all() -> None:
    class Past(PastDesk):
        async def ask(self, method: str, *_: object, **__: object) -> bytes:
            assert method == "ListJobs"
            return manager_pb2.ListJobsResponse(lsn=1, at_us=7).SerializeToString()

    async def scenario() -> None:
        async with standing_by() as standby:
            then = manager_pb2.ListJobsRequest(allow_stale=True, at=manager_pb2.Moment(lsn=1))
            error = await standby.refused("ManagerService.ListJobs", then)
            assert leader_named(error) == standby.lease.leader
            entry, view = standby.services.entry, standby.view
            handlers = standby_handlers(entry, view, standby.lease, Past(Path("/nowhere")))
            await standby.services.stand_by(handlers)
            (answer,) = await standby.call("ManagerService.ListJobs", then)
            assert (answer.lsn, answer.at_us) == (1, 7)

    asyncio.run(scenario())


def test_a_standby_that_takes_over_answers_on_the_same_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with standing_by() as standby:
            lease, view = standby.lease, standby.view
            leading = ("leader", "titan.v1.ManagerService", "titan.v1.WorkerService")
            up, down = Health.SERVING, Health.NOT_SERVING
            assert [await standby.health(each) for each in ("", *leading)] == [up, down, down, down]
            # What waits for a record when the state becomes another's is not answered from it.
            wanted = manager_pb2.ListJobsRequest(allow_stale=True, at_least_lsn=1_000)
            reading = asyncio.ensure_future(standby.refused("ManagerService.ListJobs", wanted))
            await settle()
            view.close()
            assert leader_named(await reading) is not None

            shell = standby.leader.shell
            lease.is_held = True
            shell.leadership = lease  # type: ignore[misc]
            dispatcher = Dispatcher()
            secrets = SecretDesk(shell, SecretFiles(tmp_path / "secrets"))
            dispatcher.bind(shell, secrets)
            past = PastDesk(Path("/nowhere"))
            handlers = leader_handlers(standby.services.entry, shell, dispatcher, past, secrets)
            await standby.services.lead(handlers, lease)
            (answer,) = await standby.call("ManagerService.ListJobs")
            assert [each.job_id for each in answer.jobs] == [1]
            assert [await standby.health(each) for each in ("", *leading)] == [up] * 4
            # From the moment that the lease ends, whoever asks.
            lease.is_held = False
            assert [await standby.health(each) for each in ("", *leading)] == [up, down, down, down]
            await secrets.close()

    asyncio.run(scenario())


def test_how_far_behind_a_view_is() -> None:
    async def scenario() -> None:
        now = 100.0
        view = StandbyView(ClusterState(), lambda: 5, lambda: now)
        assert (view.lag_records, view.lag_seconds) == (0, 0.0)
        now = 103.0
        view.note_end(7)
        assert (view.lag_records, view.lag_seconds) == (7, 3.0)
        view.state.lsn = 7
        view.advanced()
        view.note_end(7)
        assert (view.lag_records, view.lag_seconds) == (0, 0.0)
        # Nobody has looked: the log may have gone on.
        now = 110.0
        assert view.lag_seconds == 7.0

    asyncio.run(scenario())
