"""What both clients open: where the manager is, and the token that calls to it carry."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from titan.client import retry
from titan.errors import AccessDenied
from titan.rpc import access
from titan.rpc.addresses import split_addresses
from titan.rpc.security import find_files
from titan.rpc.status import is_busy, is_still_reading, not_leader
from titan.tls.identity import Role

DEFAULT_MANAGER: Final = "127.0.0.1:50051"

# Two tries of a call are no further apart, with the handshakes that are made between them.
_IN_TURN_SECONDS: Final = 30.0

Notice = Callable[[str], None]


class Credentials(NamedTuple):
    """What was said of how to prove who calls; what was not is found (`rpc/security.py`)."""

    access_file: Path | None = None
    tls_dir: str | None = None
    """A directory, a bundle, or `none`."""
    token: str | None = None
    """A user's, in place of a certificate of his own; None: that of TITAN_TOKEN, if any."""
    is_insecure: bool = False
    """Whether other machines may be called without certificates."""


NOTHING_SAID: Final = Credentials()


def manager_address(manager: str | None) -> str:
    """The address given, else that of TITAN_MANAGER, else the default; of several managers with
    commas between. Raises ValueError."""
    return ",".join(manager_addresses(manager))


def manager_addresses(manager: str | None) -> tuple[str, ...]:
    """The same, each by itself."""
    return split_addresses(manager or os.environ.get("TITAN_MANAGER") or DEFAULT_MANAGER)


def os_user() -> str:
    """Who this process is; the environment has no say in it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class Access:
    """How calls to one manager prove who makes them: certificates, a user's token, or the access
    token, of which a manager may have drawn a new one since."""

    def __init__(self, address: str, given: Credentials) -> None:
        """Raises ValueError where there is nothing to prove it with, or the files are wrong."""
        self._address = address
        self._file = given.access_file
        self._user_token = given.token or os.environ.get("TITAN_TOKEN")
        self.files: Final = find_files(
            address,
            Role.USER,
            tls_dir=given.tls_dir,
            access_file=given.access_file,
            has_token=bool(self._user_token),
            is_insecure=given.is_insecure,
        )
        """The certificates; None: calls are not encrypted."""
        self._token: str | None = None
        self._was_read = False
        self._why = ""
        self._why_at = 0.0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries. Raises AccessDenied when a file that was named can't be read."""
        if self.files is not None:
            return access.user_token_metadata(self._user_token) if self._user_token else ()
        if not self._was_read:
            self.renew()
        return access.metadata(self._token)

    def renew(self) -> bool:
        """Reads the files again and tells whether they are others. Raises AccessDenied."""
        if self.files is not None:
            before = self.files.generation
            return self.files.look(at_once=True) != before
        self._was_read = True
        try:
            token = self._find()
        except (OSError, ValueError) as error:
            raise AccessDenied(f"the access token can't be read: {error}") from error
        changed, self._token = token != self._token, token
        return changed

    def denied(self, details: str) -> AccessDenied:
        """The sentence for a call that was refused, in the manager's words `details`."""
        if self.files is not None:
            return AccessDenied(f"the manager at {self._address} refused the call: {details}")
        tried = " and ".join(str(path) for path in self._candidates())
        return retry.access_denied(self._address, tried, has_token=self._token is not None)

    def explain(self, failure: retry.Failure) -> None:
        """Raises AccessDenied when both sides do not come to terms, and why, twice in turn.

        Once may be the moment in which somebody changes certificates. Takes up to some seconds.
        """
        if failure.status is not grpc.StatusCode.UNAVAILABLE or failure.is_answer:
            return
        # It loads OpenSSL.
        from titan.rpc.handshake import explain_failure  # noqa: PLC0415

        before, before_at = self._why, self._why_at
        self._why, self._why_at = explain_failure(self._address, self.files), time.monotonic()
        is_in_turn = self._why_at - before_at < _IN_TURN_SECONDS
        if self._why and self._why == before and is_in_turn:
            raise AccessDenied(f"the manager at {self._address} can't be spoken to: {self._why}")

    def _find(self) -> str | None:
        if self._file is not None:
            return access.find_token(self._address, self._file)
        for path in self._candidates():
            if path.exists() and (token := access.find_token(self._address, path)):
                return token
        return None

    def _candidates(self) -> list[Path]:
        return [self._file] if self._file else access.files_by_address(self._address)


class Outage:
    """Says once that the manager is away, for commands that wait for it without end, or that it
    takes its time."""

    def __init__(self, address: str, notice: Notice | None) -> None:
        """`address`: several with commas between."""
        self._address = address
        self._notice = notice
        self._was_told = False
        self._was_reading_told = False
        self._was_busy_told = False
        self.answers = 0
        """How many the manager gave."""

    def note(self, failure: retry.Failure, *, answers: int, is_endless: bool) -> None:
        """A call is repeated after a pause; `is_endless`: until it is answered.

        `answers`: as many there were when it failed. Another may have come since.
        """
        if self._notice is None:
            return
        if failure.is_still_reading:
            if not self._was_reading_told:
                self._was_reading_told = True
                self._notice(f"{failure.details} (Ctrl-C stops waiting)")
        elif failure.is_busy:
            if not self._was_busy_told:
                self._was_busy_told = True
                self._notice(f"{failure.details}: waiting for it (Ctrl-C stops waiting)")
        elif is_endless and not self._was_told and answers == self.answers:
            self._was_told = True
            self._notice(f"{self._lost(failure)} (Ctrl-C stops waiting)")

    def ended(self) -> None:
        """The manager answered."""
        self._was_told = False
        self.answers += 1

    def _lost(self, failure: retry.Failure) -> str:
        if "," in self._address:
            return (
                f"none of the managers answers as the one that leads ({failure.details}); trying "
                "again until one does"
            )
        return f"lost the manager at {self._address}; trying again until it answers"


def failure_of(error: grpc.RpcError) -> retry.Failure:
    """What gRPC raised, in our words."""
    status, details = error.code(), error.details() or ""
    if is_still_reading(error.trailing_metadata()):
        return retry.Failure(status, details, is_still_reading=True)
    if is_busy(error.trailing_metadata()):
        return retry.Failure(status, details, is_busy=True)
    leader = not_leader(error.trailing_metadata())
    if leader is not None:
        return retry.Failure(status, details, leader=leader)
    # The transport's text nests each layer's: the last part is the one for people.
    if status is grpc.StatusCode.UNAVAILABLE and "last error: " in details:
        details = details.rpartition("last error: ")[2].rpartition("remote host: ")[2]
    elif status is grpc.StatusCode.DEADLINE_EXCEEDED:
        details = "no answer in time"
    return retry.Failure(status, details)
