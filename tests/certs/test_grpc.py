"""gRPC, whose TLS is another library than Python's, takes these certificates as they are meant."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import titan.rpc  # noqa: F401 - sets gRPC up
from tests.certs.conftest import issue
from titan.certs.authority import Authority
from titan.certs.layout import Credentials
from titan.tls.identity import Role, worker_host

DEADLINE_SECONDS = 60


class _Mirror(grpc.GenericRpcHandler):
    """Answers every call with the caller's URI."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            found: Any = context.auth_context()  # its stub says less than it holds
            [uri] = found["peer_spiffe_id"]
            return bytes(uri)

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def serving(own: Credentials) -> Iterator[int]:
    """A server that asks for certificates; the port."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((_Mirror(),))
    credentials = grpc.ssl_server_credentials(
        [(own.key_pem, own.certificate_pem)], own.ca_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(DEADLINE_SECONDS)


def call(port: int, own: Credentials, name: str) -> str:
    """Whom the server takes the caller for, where the server is who has that name."""
    credentials = grpc.ssl_channel_credentials(own.ca_pem, own.key_pem, own.certificate_pem)
    options = [("grpc.ssl_target_name_override", name)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        ask: Any = channel.unary_unary("/x/y")
        answer: bytes = ask(b"", timeout=DEADLINE_SECONDS)
    return answer.decode()


@pytest.mark.parametrize("name", ["w1", "W_1.example", "a..b", "_x_", "w" * 128, "localhost"])
def test_a_worker_of_any_name_is_called_by_it_and_by_no_other(ca: Authority, name: str) -> None:
    manager = issue(ca, Role.MANAGER, "manager").credentials
    with serving(issue(ca, Role.WORKER, name).credentials) as port:
        assert call(port, manager, worker_host(name)) == "spiffe://lab/manager/manager"
        for other in ("localhost", f"{worker_host(name)}.worker", worker_host("w2")):
            with pytest.raises(grpc.RpcError) as caught:
                call(port, manager, other)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
@pytest.mark.parametrize("name", ["ada", "u" * 128])
def test_users_call_and_are_never_called(ca: Authority, role: Role, name: str) -> None:
    manager = issue(ca, Role.MANAGER, "manager").credentials
    user = issue(ca, role, name).credentials
    with serving(manager) as port:
        assert call(port, user, "localhost") == f"spiffe://lab/{role}/{name}"
    with serving(user) as port, pytest.raises(grpc.RpcError) as caught:
        call(port, manager, name)
    assert "unsupported certificate purpose" in str(caught.value.details())
