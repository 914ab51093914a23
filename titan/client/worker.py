"""Calls to a worker itself, by what its data directory says of it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from titan import paths
from titan.client.connection import failure_of
from titan.errors import AccessDenied, NotFound, Refused
from titan.rpc import access, channel
from titan.rpc.security import NO_TLS, tls_path
from titan.rpc.status import error_of
from titan.rpc.v1 import task_pb2, task_pb2_grpc
from titan.tls.identity import Role
from titan.tls.pem import PemFiles, TlsError

CALL_SECONDS: Final = 10.0
EXPLAIN_TRIES: Final = 3


def update_worker(
    directory: Path,
    request: task_pb2.UpdateWorkerRequest,
    *,
    tls_dir: str | os.PathLike[str] | None = None,
) -> task_pb2.UpdateWorkerResponse:
    """Tells the worker of that data directory what it has now. Raises TitanError.

    `tls_dir`: where the certificate of an admin is, or that of the worker itself.
    """
    try:
        content = paths.read_json(directory / "access.json")
    except (OSError, ValueError) as error:
        raise Refused(f"the worker's access token can't be read: {error}") from error
    if content is None:
        raise _not_to_be_called(directory)
    metadata = access.metadata(str(content.get("token")))
    host = str(content.get("host", ""))
    files = _own_files(tls_dir) if host else None
    with channel.open_channel(str(content.get("address")), files, host=host) as open_channel:
        stub = task_pb2_grpc.TaskServiceStub(open_channel)
        try:
            return stub.UpdateWorker(request, timeout=CALL_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            failure = failure_of(error)
            if failure.status is grpc.StatusCode.UNAVAILABLE and not _find_pid(directory):
                # A kill leaves the file behind.
                raise _not_to_be_called(directory) from error
            if failure.status is grpc.StatusCode.UNAVAILABLE and files is not None:
                # It loads OpenSSL.
                from titan.rpc.handshake import explain_failure  # noqa: PLC0415

                address = str(content.get("address"))
                # Nobody calls again here, and a machine that is busy may be late once.
                tries = (explain_failure(address, files, host=host) for _ in range(EXPLAIN_TRIES))
                why = next(filter(None, tries), "")
                if why:
                    raise AccessDenied(
                        f"the worker in {directory} can't be spoken to: {why}"
                    ) from error
            if failure.status is grpc.StatusCode.INVALID_ARGUMENT:
                raise Refused(failure.details) from error
            raise error_of(failure.status, failure.details) from error


def _own_files(tls_dir: str | os.PathLike[str] | None) -> PemFiles:
    """The worker's own certificate, else that of the user. Raises Refused."""
    path = tls_path(tls_dir) or paths.tls_directory()
    if str(path) == NO_TLS:
        raise Refused("the worker takes only who has a certificate: name yours with --tls-dir")
    try:
        return PemFiles(path, Role.WORKER)
    except TlsError:
        try:
            return PemFiles(path, Role.ADMIN)
        except TlsError as error:
            raise Refused(f"the worker takes only who has a certificate: {error}") from error


def _not_to_be_called(directory: Path) -> NotFound | Refused:
    pid = _find_pid(directory)
    if not pid:
        return NotFound(
            f"no worker runs in {directory}; --data-dir DIR names another directory, and "
            "`titan worker` starts one"
        )
    return Refused(
        f"the worker in {directory} (pid {pid}) cannot be called: it is starting, or listens "
        "nowhere; stop it and start it with other options"
    )


def _find_pid(directory: Path) -> str:
    """The pid of the worker that runs there, empty when none does."""
    with suppress(OSError), open(directory / "lock", "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(file.fileno(), 32, 0).decode(errors="replace").strip() or "?"
    return ""
