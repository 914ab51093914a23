"""A server of this process that shows whatever certificate it has, and who came to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc


class Impostor:
    """It answers every call with nothing, and notes it."""

    def __init__(self) -> None:
        self.address = ""
        self.calls: list[str] = []

    def service(self, details: Any) -> Any:
        """As of gRPC's generic handlers."""
        self.calls.append(details.method)
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


@contextmanager
def impostor(folder: Path, *, asks_certificate: bool = True) -> Iterator[Impostor]:
    """One with the certificate in that folder."""
    made = Impostor()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((made,))  # type: ignore[arg-type]
        pair = ((folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes())
        credentials = grpc.ssl_server_credentials(
            [pair], (folder / "ca.pem").read_bytes(), asks_certificate
        )
        made.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()
        try:
            yield made
        finally:
            server.stop(0).wait()
