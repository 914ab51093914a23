"""The agent's end of the socket: finds the task host, or starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import titan
from titan.model import AttemptKey, Stop, StopMode
from titan.worker import directory, processes, protocol
from titan.worker.messages import Launch, OfferedDevices, StartBatch

_READ_BYTES: Final = 1 << 18
# A host starts in a tenth of a second, and later when it ends the tasks of a dead one first.
START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
# What a host is not given goes back after so long: at once it would be sent here again at once, and
# again, each time with two events in the manager's log.
WITHHELD_SECONDS: Final = 10.0
# While one host stops its tasks and another can't start yet.
_STOPPING_POLL_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)

# Hosts outlive the agent: nobody waits for them at its end.
_started: list[subprocess.Popen[bytes]] = []


class HostError(Exception):
    """There is no host to work with; the text is a sentence for people."""


class WrongVersion(HostError):
    """The host speaks another version; trying again does not help."""


class HostConnection:
    """A connection to a host that has said welcome."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        welcome: protocol.Welcome,
        decoder: protocol.Decoder,
    ) -> None:
        self.welcome = welcome
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        self._is_first = True
        # What the host was not given and was not asked for yet; whether it is going to be.
        self._withheld: dict[AttemptKey, None] = {}
        self._recalls = False

    def send(self, message: protocol.Message) -> None:
        """Queue a message for the host."""
        if not self._writer.is_closing():
            self._writer.write(protocol.encode(message))

    def understood(self, stops: Sequence[Stop]) -> tuple[Stop, ...]:
        """Those that this host can do; says so of others."""
        if self.welcome.minor >= protocol.MINOR_SUSPEND:
            return tuple(stops)
        known = tuple(each for each in stops if each.mode in (StopMode.CANCEL, StopMode.RECALL))
        if len(known) < len(stops):
            _log.warning(
                "the task host (pid %d) is of an older Titan: it can neither suspend its tasks nor "
                "change their time limits; a new one takes its place once they have ended and the "
                "worker is stopped for a while",
                self.welcome.pid,
            )
        return known

    def start(self, batch: StartBatch) -> None:
        """Have the host start what of it it can do; the rest goes back after a while."""
        known = self.startable(batch)
        self.send(protocol.StartTasks(known))
        if len(known.starts) == len(batch.starts):
            return
        for start in batch.starts:
            launch = batch.launches[start.launch]
            if not self._can_start(batch, launch):
                key = AttemptKey(launch.epoch, launch.job_id, start.task_index, start.attempt)
                self._withheld[key] = None
        if not self._recalls:
            self._recalls = True
            asyncio.get_running_loop().call_later(WITHHELD_SECONDS, self._recall_due)

    def recall_withheld(self) -> None:
        """Hand back what was not given to the host: it says so of what it knows nothing of."""
        if self._withheld:
            stops = tuple(Stop(key, StopMode.RECALL, 0) for key in self._withheld)
            self._withheld.clear()
            self.send(protocol.StopTasks(stops))

    def _recall_due(self) -> None:
        self._recalls = False
        self.recall_withheld()

    def startable(self, batch: StartBatch) -> StartBatch:
        """What of it this host can do; says so of the rest."""
        if self.welcome.minor >= protocol.MINOR_ISOLATION:
            return batch
        starts = tuple(
            each for each in batch.starts if self._can_start(batch, batch.launches[each.launch])
        )
        if len(starts) < len(batch.starts):
            _log.warning(
                "the task host (pid %d) is of an older Titan: it starts nothing that %s; drain "
                "this worker until its tasks have ended, and stop it for a while",
                self.welcome.pid,
                self._describe_unknown(),
            )
        return batch._replace(starts=starts)

    def _describe_unknown(self) -> str:
        """What this host is too old for."""
        unknown = ["is to run as another account or in a sandbox"]
        if self.welcome.minor < protocol.MINOR_SECRETS:
            unknown.insert(0, "has secrets")
        if self.welcome.minor < protocol.MINOR_LEASE:
            unknown.insert(0, "is to run at most once")
        return ", or ".join(unknown)

    def _can_start(self, batch: StartBatch, launch: Launch) -> bool:
        minor = self.welcome.minor
        if launch.is_isolated and minor < protocol.MINOR_ISOLATION:
            return False
        if launch.at_most_once and minor < protocol.MINOR_LEASE:
            return False
        return (
            minor >= protocol.MINOR_SECRETS
            or not batch.environments[launch.environment].has_secrets
        )

    async def receive(self) -> Iterator[protocol.Message] | None:
        """What the host says next, None when it is gone. The iterator raises ProtocolError."""
        if self._is_first:
            # What came together with the welcome.
            self._is_first = False
            return self._decoder.feed(b"")
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError:
            return None
        return self._decoder.feed(data) if data else None

    async def close(self) -> None:
        """Close it after what is queued."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)
        except (OSError, TimeoutError):
            self._writer.transport.abort()


class HostProcess:
    """The task host of a directory, whoever has started it."""

    def __init__(
        self, path: Path, hello: protocol.Hello, logging_as: tuple[str, str] = ("info", "text")
    ) -> None:
        """A host that is started here logs from that level on, in that format."""
        self._path = path
        self._hello = hello
        self._logging_as = logging_as
        self._process: subprocess.Popen[bytes] | None = None

    def offer(self, devices: OfferedDevices) -> None:
        """Hosts that are taken up from now on give these to tasks."""
        self._hello = self._hello._replace(devices=devices)

    async def connect(self) -> HostConnection:
        """Take up the host that runs, or start one.

        Raises HostError when it does not come up, WrongVersion.
        """
        deadline = time.monotonic() + START_SECONDS
        if self._process is not None and self._process.poll() is not None:
            # How the one before ended is no news any more.
            self._forget()
        while True:
            connection = await self._try_connect()
            if connection is not None:
                return connection
            if time.monotonic() > deadline:
                raise HostError(f"the task host does not answer; see {self._path / 'host.log'}")
            self._start_unless_running()
            await asyncio.sleep(_POLL_SECONDS)

    async def wait_gone(self, pid: int, limit_seconds: float) -> bool:
        """Whether the process ends within the limit."""
        deadline = time.monotonic() + limit_seconds
        while True:
            if self._process is not None:
                self._process.poll()
            if processes.find_start_ticks(pid) is None:
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)

    def _start_unless_running(self) -> None:
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._forget()
            # Another host, which is about to end, still holds the lock.
            if code not in (0, directory.EXIT_IN_USE):
                raise HostError(
                    f"the task host ended with code {code}; see {self._path / 'host.log'}"
                )
        # The package may be found by the working directory only.
        search = [str(Path(titan.__file__).parent.parent)]
        if "PYTHONPATH" in os.environ:
            search.append(os.environ["PYTHONPATH"])
        with open(self._path / "host.log", "ab") as log:
            # A session of its own: Ctrl-C in a terminal is for the agent.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "titan.worker.host", str(self._path), *self._logging_as],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
            )
        _started.append(self._process)

    def _forget(self) -> None:
        if self._process is not None:
            _started.remove(self._process)
            self._process = None

    async def _try_connect(self) -> HostConnection | None:
        """None: nobody listens, or the host is ending; try again. Raises WrongVersion."""
        try:
            connection = directory.connect(self._path)
        except OSError:
            return None
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        decoder = protocol.Decoder()
        try:
            writer.write(protocol.encode(self._hello))
            answer = await asyncio.wait_for(_first_message(reader, decoder), START_SECONDS)
        except (OSError, TimeoutError, protocol.ProtocolError) as error:
            _log.warning("the task host does not say welcome: %r", error)
            answer = None
        if isinstance(answer, protocol.Welcome):
            return HostConnection(reader, writer, answer, decoder)
        writer.close()
        if isinstance(answer, protocol.Refused):
            if not answer.is_passing:
                raise WrongVersion(answer.sentence)
            await asyncio.sleep(_STOPPING_POLL_SECONDS)
        return None


async def _first_message(
    reader: asyncio.StreamReader, decoder: protocol.Decoder
) -> protocol.Message | None:
    while data := await reader.read(_READ_BYTES):
        for message in decoder.feed(data):
            return message
    return None
