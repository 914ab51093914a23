"""A web server in a thread of this process, and browsers that look at it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from tests.client.fake_manager import DEADLINE_SECONDS
from titan.client.aio_session import AioSession
from titan.client.connection import NOTHING_SAID, Credentials
from titan.web.app import Terms
from titan.web.guard import allowed_hosts
from titan.web.live import Live
from titan.web.server import address_of, listen, serve

TOKEN = "a-token-of-some-length-for-tests-only"


class Running:
    """The server; tests may look at `live`, and at what it asks the manager."""

    def __init__(
        self,
        manager: str,
        *,
        given: Credentials = NOTHING_SAID,
        static: Path | None = None,
        **terms: Any,
    ) -> None:
        self._listener = listen("127.0.0.1:0")
        self.address = address_of(self._listener)
        self._manager = manager
        self._given = given
        terms.setdefault("hosts", allowed_hosts("127.0.0.1"))
        self.terms = Terms(TOKEN, "alice", **terms)
        if static is not None:
            self.terms = self.terms._replace(static=static)
        scheme = "http" if self.terms.peers is None else "https"
        self.url = f"{scheme}://{self.address}"
        self.live: Live
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with AioSession(self._manager, given=self._given, retry_for_seconds=1.0) as session:
            self.live = Live(session)
            self._ready.set()
            await serve(session, self.live, self.terms, self._listener, self._stop)

    def program(self, **settings: Any) -> httpx.Client:
        """A program that has the token."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return self.stranger(headers=headers, **settings)

    def stranger(self, **settings: Any) -> httpx.Client:
        """Somebody who has not proven anything."""
        # What CAs there are takes long to load, and is not asked here.
        settings.setdefault("verify", False)
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, **settings)

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A browser that opened the URL with the token."""
        with self.stranger(follow_redirects=True) as client:
            client.get(f"/?token={TOKEN}").raise_for_status()
            yield client

    @contextmanager
    def events(self, client: httpx.Client, path: str = "/events", **more: Any) -> Iterator[Events]:
        """A stream that is being read."""
        with client.stream("GET", f"/api/v1{path}", **more) as response:
            assert response.status_code == 200, response.read()
            yield Events(response)


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    id: str | None
    data: Any


class Events:
    """What a stream says, one event after another."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def next(self, *names: str) -> Event:
        """The next one, of these names only."""
        while True:
            found = self._read()
            if not names or found.name in names:
                return found

    def read_all(self) -> list[Event]:
        """All up to the end of the stream."""
        found = []
        while True:
            try:
                found.append(self._read())
            except StopIteration:
                return found

    def _read(self) -> Event:
        name, id_, data = "message", None, ""
        while True:
            line = next(self._lines)
            if not line and data:
                return Event(name, id_, json.loads(data))
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                id_ = value
            elif field == "data":
                data += value
