"""Without the access token nothing is answered, on loopback too: every RPC there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from tests.cluster import DEADLINE_SECONDS, Cluster, wait_until
from titan.rpc import access
from titan.rpc.channel import open_channel
from titan.rpc.v1 import manager_pb2, manager_pb2_grpc, task_pb2, worker_pb2

SERVICES = {
    file.services_by_name[name].full_name: file.services_by_name[name]
    for file, name in (
        (manager_pb2.DESCRIPTOR, "ManagerService"),
        (worker_pb2.DESCRIPTOR, "WorkerService"),
        (task_pb2.DESCRIPTOR, "TaskService"),
    )
}
METHODS = [
    (service.full_name, method.name) for service in SERVICES.values() for method in service.methods
]
# Another one, none at all, one that is nearly nothing.
WRONG: list[tuple[tuple[str, str], ...]] = [
    (),
    access.metadata("x" * 43),
    ((access.METADATA_KEY, ""),),
    (("authorization", "Bearer x"),),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A manager and a worker."""
    with Cluster(tmp_path_factory.mktemp("access") / "cluster") as made:
        made.start_manager()
        made.start_worker("w1")
        yield made


@pytest.fixture(scope="module")
def channels(cluster: Cluster) -> Iterator[dict[str, grpc.Channel]]:
    """Who serves what."""
    with cluster.client() as client:
        (worker,) = client.workers()
    manager, tasks = open_channel(cluster.address), open_channel(worker["address"])
    # Else who is slow to answer the first call of all is not there for it, nor for those after it.
    for channel in (manager, tasks):
        grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
    yield {name: tasks if "Task" in name else manager for name in SERVICES}
    manager.close()
    tasks.close()


def call(channel: grpc.Channel, service: str, method: str, metadata: Any) -> list[Any]:
    """Every answer to an empty request."""
    descriptor = SERVICES[service].methods_by_name[method]
    request = message_factory.GetMessageClass(descriptor.input_type)()
    answer = message_factory.GetMessageClass(descriptor.output_type)
    path = f"/{service}/{method}"
    serializers = (type(request).SerializeToString, answer.FromString)
    if descriptor.server_streaming:
        return list(
            channel.unary_stream(path, *serializers)(
                request, timeout=DEADLINE_SECONDS, metadata=metadata
            )
        )
    return [
        channel.unary_unary(path, *serializers)(
            request, timeout=DEADLINE_SECONDS, metadata=metadata
        )
    ]


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_a_call_without_the_token_is_unauthenticated(
    channels: dict[str, grpc.Channel], service: str, method: str
) -> None:
    for metadata in WRONG:
        with pytest.raises(grpc.RpcError) as raised:
            call(channels[service], service, method, metadata)
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, metadata


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_what_is_no_message_is_refused_and_leaves_no_traceback(
    cluster: Cluster, channels: dict[str, grpc.Channel], service: str, method: str
) -> None:
    directory = cluster.workers["w1"].directory if "Task" in service else cluster.manager_directory
    metadata = access.metadata(json.loads((directory / "access.json").read_text())["token"])
    kinds = SERVICES[service].methods_by_name[method]
    channel: Any = channels[service]
    make = channel.unary_stream if kinds.server_streaming else channel.unary_unary

    def ask() -> None:
        answer = make(f"/{service}/{method}")(
            b"\xff\xff\xff", timeout=DEADLINE_SECONDS, metadata=metadata
        )
        list(answer if kinds.server_streaming else [answer])

    with pytest.raises(grpc.RpcError) as raised:
        ask()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "is no message of its kind" in (raised.value.details() or "")
    assert cluster.manager is not None
    for server in (cluster.manager, cluster.workers["w1"]):
        assert "Traceback" not in server.log
        assert " ERROR " not in server.log


@pytest.mark.parametrize(
    ("service", "method"),
    [("titan.v1.ManagerService", "ListJobs"), ("titan.v1.TaskService", "StopTask")],
)
def test_who_denied_it_says_so_in_its_log(
    cluster: Cluster, channels: dict[str, grpc.Channel], service: str, method: str
) -> None:
    server = cluster.workers["w1"] if "Task" in service else cluster.manager
    assert server is not None
    line = f'WARNING denied who="nobody known" what={method} from=ipv4:127.0.0.1:'

    def is_told() -> bool:
        # Of the lines of a second only so many are written.
        with pytest.raises(grpc.RpcError):
            call(channels[service], service, method, ())
        return line in server.log

    wait_until(is_told, line)


def test_nothing_was_decided_for_those_without_the_token(cluster: Cluster) -> None:
    with cluster.client() as client:
        assert client.queue(all=True) == []
        assert [worker["state"] for worker in client.workers()] == ["HEALTHY"]


def test_a_worker_does_not_take_the_managers_token_for_its_own(
    cluster: Cluster, channels: dict[str, grpc.Channel]
) -> None:
    token = access.find_token(cluster.address, cluster.manager_directory / "access.json")
    with pytest.raises(grpc.RpcError) as raised:
        call(channels["titan.v1.TaskService"], "titan.v1.TaskService", "StartTask",
             access.metadata(token))  # fmt: skip
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_token_lies_where_only_its_user_reads_it_and_is_the_same_after_a_restart(
    cluster: Cluster,
) -> None:
    path = cluster.manager_directory / "access.json"
    before = access.find_token(cluster.address, path)
    files = [path, *(cluster.state / "titan" / "access").glob("*.json")]
    # The manager's own, and by address it and its worker.
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    with cluster.client() as client:
        client.stats()
        cluster.kill_manager()
        cluster.start_manager()
        assert access.find_token(cluster.address, path) == before
        client.stats()


def test_the_cli_says_where_the_token_is_looked_for(cluster: Cluster) -> None:
    elsewhere = {**cluster.environment, "XDG_STATE_HOME": str(cluster.root / "other")}
    refused = cluster.titan("queue", env=elsewhere)
    assert refused.returncode == 5
    assert b"--access FILE" in refused.stderr
    named = str(cluster.manager_directory / "access.json")
    assert cluster.titan("--access", named, "queue", env=elsewhere).returncode == 0
    assert cluster.titan("queue", "--access", named, env=elsewhere).returncode == 0


def test_health_and_reflection_answer_without_a_token(cluster: Cluster) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with open_channel(cluster.address) as channel:
        grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
        # Its stubs are not typed.
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "titan.v1.ManagerService", "titan.v1.WorkerService"):
            answer = health.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_SECONDS
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = manager_pb2_grpc.ManagerServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.GetStats(manager_pb2.GetStatsRequest(), timeout=DEADLINE_SECONDS)
