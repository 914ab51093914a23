"""Where a manager may listen, and what comes through to who has no certificate: nothing."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.cluster import DEADLINE_SECONDS, Cluster, wait_until
from tests.security.conftest import SecureCluster
from tests.security.people import People
from titan.manager import door
from titan.manager.options import ManagerOptions
from titan.manager.recovery import StartRefused
from titan.rpc.channel import split_address
from titan.tls.identity import Role

# RFC 9113, 3.4: how a client begins, and an empty SETTINGS frame.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# The other addresses of a machine. None of them is listened on: it is refused before that.
OTHERS = ("0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "manager.example:50051")


@pytest.mark.parametrize("address", OTHERS)
def test_without_certificates_a_manager_listens_on_loopback_only(
    tmp_path: Path, address: str
) -> None:
    options = ManagerOptions(data_directory=tmp_path / "data", listen=address)
    with pytest.raises(StartRefused, match="can be reached from other machines, which needs"):
        door.open_door(options)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--listen", "0.0.0.0:0"), "0.0.0.0:0 can be reached from other machines, which needs"),
        (("--token-listen", "127.0.0.1:0"), "--token-listen needs certificates: tokens go over"),
        (("--tls-dir", "/gone/away"), "/gone/away can't be read: No such file"),
    ],
)
def test_a_manager_that_would_be_open_does_not_start(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        result = cluster.titan("manager", "--data-dir", str(tmp_path / "data"), *words)
        assert result.returncode == 1
        assert sentence in result.stderr.decode()
        assert b"Traceback" not in result.stderr


def test_a_worker_that_would_be_open_does_not_start(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        result = cluster.titan(
            "worker", "--data-dir", str(tmp_path / "data"), "--listen", "0.0.0.0:0"
        )
        assert result.returncode == 1
        assert b"0.0.0.0:0 can be reached from other machines" in result.stderr


def test_who_listens_so_all_the_same_is_warned_every_hour(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("titan.manager.door.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(door._warn_of_insecurity("0.0.0.0:6000"))
    assert slept == [3600.0] * 3
    assert len(caplog.messages) == 3
    assert {each.levelname for each in caplog.records} == {"WARNING"}
    assert "nothing is encrypted" in caplog.text
    assert "address=0.0.0.0:6000" in caplog.text


def test_a_manager_that_takes_its_address_for_another_machines_warns(tmp_path: Path) -> None:
    """It listens on loopback here, and does not know it."""
    program = f"""
import pathlib
from titan.manager import door, main
from titan.manager.options import ManagerOptions
door.is_loopback = lambda address: False
door.INSECURITY_SECONDS = 0.01
main.run_manager(ManagerOptions(
    data_directory=pathlib.Path({str(tmp_path / "data")!r}), listen="127.0.0.1:0",
    is_insecure=True,
))
"""
    with Cluster(tmp_path / "cluster") as cluster:
        manager = cluster.spawn_other(sys.executable, "-c", program)
        wait_until(lambda: manager.log.count("nothing is encrypted") >= 3, "warnings")
        assert manager.end() == 0


def test_on_loopback_nobody_is_warned(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        manager = cluster.start_manager("--insecure-i-know")
        cluster.ok("stats")
        assert "nothing is encrypted" not in manager.log


def test_once_there_are_certificates_the_access_token_is_gone_and_clients_use_them(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager().wait_log("ready")
        job_id = cluster.submit("--hold", "true")
        tokens = [cluster.manager_directory / "access.json"]
        tokens += (cluster.state / "titan" / "access").iterdir()
        assert len(tokens) == 2
        assert cluster.manager is not None
        assert cluster.manager.end() == 0

        # Where everybody looks for his own.
        people = People(cluster.state / "titan" / "tls")
        people.issue(Role.MANAGER, "manager")
        people.issue(Role.ADMIN, "root", "user")
        people.issue(Role.WORKER, "w1", "worker")
        cluster.start_manager()
        assert not any(each.exists() for each in tokens)
        assert cluster.json("show", str(job_id))["state"] == "PENDING"
        cluster.ok("release", str(job_id))
        cluster.start_worker("w1")
        assert cluster.titan("wait", str(job_id)).returncode == 0


def exchange(address: str, people: People, folder: Path | None = None, name: str = "") -> bytes:
    """What a server sends to who begins HTTP/2 with that certificate, or none, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(people.directory / "ca.pem")
    if folder:
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    host, port = split_address(address)
    with socket.create_connection((host, port), DEADLINE_SECONDS) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=name or host) as encrypted:
                encrypted.sendall(PREFACE)
                return encrypted.recv(4096)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_who_has_no_certificate_gets_not_one_byte(cluster: SecureCluster) -> None:
    people, address = cluster.people, cluster.address
    assert exchange(address, people) == b""
    # And who has one does: SETTINGS come.
    alice = people.issue(Role.USER, "alice")
    assert exchange(address, people, alice)[3] == 4


def test_who_has_no_certificate_gets_not_one_byte_of_a_worker(cluster: SecureCluster) -> None:
    people = cluster.people
    alice = people.issue(Role.USER, "alice")
    address = cluster.json("workers", "--tls-dir", str(alice))[0]["address"]
    assert exchange(address, people, name="w1.worker") == b""
    assert reflect(address, people, "w1.worker") is grpc.StatusCode.UNAVAILABLE
    # It was the right address: who has one is greeted.
    assert exchange(address, people, alice, "w1.worker")[3] == 4


@pytest.mark.parametrize("port", ["certificates", "tokens", "worker"])
def test_who_does_not_encrypt_gets_nothing_of_http(cluster: SecureCluster, port: str) -> None:
    alice = str(cluster.people.issue(Role.USER, "alice"))
    address = {
        "certificates": cluster.address,
        "tokens": cluster.token_address,
        "worker": cluster.json("workers", "--tls-dir", alice)[0]["address"],
    }[port]
    host, number = split_address(address)
    with socket.create_connection((host, number), DEADLINE_SECONDS) as plain:
        plain.sendall(PREFACE)
        received = b""
        while part := plain.recv(4096):
            received += part
    # An alert of TLS at most (RFC 8446, 5.1), or nothing.
    assert received == b"" or received[0] == 21


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_s_client_without_a_certificate_prints_nothing(cluster: SecureCluster) -> None:
    people = cluster.people
    command = [
        "openssl", "s_client", "-connect", cluster.address, "-alpn", "h2", "-quiet",
        "-verify_quiet", "-CAfile", str(people.directory / "ca.pem"),
    ]  # fmt: skip
    without = subprocess.run(
        command, input=PREFACE, capture_output=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert without.stdout == b""
    # With one it prints what comes.
    alice = people.issue(Role.USER, "alice")
    command += ["-cert", str(alice / "cert.pem"), "-key", str(alice / "key.pem")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(PREFACE)
        process.stdin.flush()
        assert process.stdout.read(4)[3] == 4
        process.kill()


def reflect(address: str, people: People, name: str = "localhost") -> grpc.StatusCode:
    """As grpcurl lists services; what it is told in place of them."""
    credentials = grpc.ssl_channel_credentials((people.directory / "ca.pem").read_bytes())
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    options = [("grpc.ssl_target_name_override", name)]
    with grpc.secure_channel(address, credentials, options) as channel:
        # Its stubs are not typed.
        stub = cast(Any, reflection_pb2_grpc).ServerReflectionStub(channel)
        answers = stub.ServerReflectionInfo(iter([request]), timeout=DEADLINE_SECONDS)
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
    code: grpc.StatusCode = raised.value.code()
    return code


def test_reflection_lists_nothing_for_who_is_nobody(cluster: SecureCluster) -> None:
    assert reflect(cluster.address, cluster.people) is grpc.StatusCode.UNAVAILABLE
    assert reflect(cluster.token_address, cluster.people) is grpc.StatusCode.UNAUTHENTICATED
