"""The server that Prometheus asks: what it answers, to whom, and what it never does to its loop."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster import wait_until
from tests.security.people import DAY_SECONDS, People
from titan.metrics import server as metrics_server
from titan.metrics.family import Family, counters, gauge, gauges, histogram
from titan.metrics.histogram import Histogram
from titan.metrics.server import CONNECTIONS_MAX, MetricsServer, MetricsUnavailable
from titan.tls.identity import Role
from titan.tls.peers import Peers, open_peers

ANYWHERE = "0.0.0.0:0"
# So long a caller who is not let go goes on; one who is has been long before that.
DRIP_SECONDS = 60.0
DRIP_SECONDS_MAX = 40.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the loop, unless a test is about that: a machine may stand still for seconds."""
    monkeypatch.setattr(metrics_server, "LOOP_SECONDS", 30.0)


def nothing() -> Iterable[Family]:
    """No families."""
    return ()


@contextlib.asynccontextmanager
async def serving(
    read: Callable[[], Iterable[Family]] = nothing,
    look: Callable[[], Iterable[Family]] = nothing,
    *,
    peers: Peers | None = None,
) -> AsyncIterator[MetricsServer]:
    """A server on a free port."""
    server = MetricsServer("127.0.0.1:0", peers=peers, is_insecure=False)
    try:
        server.start(read, look)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def get(
    server: MetricsServer, path: str = "", context: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, str, str]:
    """Status, content type and body."""
    url = f"{server.url}{path}".replace("127.0.0.1", "localhost" if context else "127.0.0.1")
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def ask(*arguments: Any, **fields: Any) -> tuple[int, str, str]:
    """What a server with these families answers."""

    async def scenario() -> tuple[int, str, str]:
        async with serving(*arguments) as server:
            return await asyncio.to_thread(get, server, **fields)

    return asyncio.run(scenario())


def test_a_start_of_one_that_answers_changes_what_it_tells_and_one_stop_ends_it() -> None:
    async def scenario() -> None:
        server = MetricsServer("127.0.0.1:0", peers=None, is_insecure=False)
        server.start(lambda: (gauge("titan_first", "One.", 1),), leads=lambda: False)
        server.start(lambda: (gauge("titan_second", "Two.", 2),), leads=lambda: True)
        status, _, text = await asyncio.to_thread(get, server)
        assert (status, "titan_first" in text, "titan_second" in text) == (200, False, True)
        serving = [each for each in threading.enumerate() if each.name == "metrics"]
        assert len(serving) == 1
        await asyncio.wait_for(asyncio.to_thread(server.stop), 60)
        assert not serving[0].is_alive()

    asyncio.run(scenario())


def test_families_are_told_as_prometheus_reads_them() -> None:
    waits = Histogram((0.5, 2.0))
    for seconds in (0.25, 1.0, 8.0):
        waits.observe(seconds)

    def read() -> list[Family]:
        return [
            gauges("x_tasks", "Tasks.", "state", {"PENDING": 3, "RUNNING": 0}),
            counters("x_ends_total", "Ends.", ("state", "reason"), [(("FAILED", "OOM"), 2)]),
            histogram("x_wait_seconds", "Waits.", waits.read()),
        ]

    status, content_type, text = ask(read, lambda: [gauge("x_free_bytes", "Free.", 7)])
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    told = {each.name: each for each in text_string_to_metric_families(text)}
    assert [(each.name, each.labels, each.value) for each in told["x_tasks"].samples] == [
        ("x_tasks", {"state": "PENDING"}, 3.0),
        ("x_tasks", {"state": "RUNNING"}, 0.0),
    ]
    (end,) = told["x_ends"].samples
    assert (end.labels, end.value) == ({"state": "FAILED", "reason": "OOM"}, 2.0)
    assert [(each.name, each.labels, each.value) for each in told["x_wait_seconds"].samples] == [
        ("x_wait_seconds_bucket", {"le": "0.5"}, 1.0),
        ("x_wait_seconds_bucket", {"le": "2.0"}, 2.0),
        ("x_wait_seconds_bucket", {"le": "+Inf"}, 3.0),
        ("x_wait_seconds_count", {}, 3.0),
        ("x_wait_seconds_sum", {}, 9.25),
    ]
    assert told["x_free_bytes"].samples[0].value == 7.0
    # Of this process, by the library.
    assert told["process_resident_memory_bytes"].samples[0].value > 0
    assert told["process_cpu_seconds"].type == "counter"


def test_who_asks_for_openmetrics_gets_that() -> None:
    status, content_type, text = ask(Accept="application/openmetrics-text; version=1.0.0")
    assert (status, text.endswith("# EOF\n")) == (200, True)
    assert content_type.startswith("application/openmetrics-text")


def test_there_is_nothing_but_metrics() -> None:
    assert ask(path="/../secret")[0] == 404
    assert ask(path="?name=x")[0] == 200


def test_what_is_read_is_read_in_the_loop_in_one_turn_and_the_disk_in_a_thread() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen = []

        def read() -> list[Family]:
            seen.append(asyncio.get_running_loop() is loop)
            return []

        def look() -> list[Family]:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            seen.append(True)
            return []

        async with serving(read, look) as server:
            assert (await asyncio.to_thread(get, server))[0] == 200
        assert seen == [True, True]

    asyncio.run(scenario())


def test_a_loop_that_does_not_answer_in_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_server, "LOOP_SECONDS", 0.05)

    async def scenario() -> tuple[int, str, str]:
        async with serving() as server:
            with ThreadPoolExecutor(1) as threads:
                # Meanwhile the loop stands still.
                return threads.submit(get, server).result(60)

    status, _, text = asyncio.run(scenario())
    assert (status, text.partition(":")[0]) == (503, "busy")


@pytest.mark.parametrize("at", [0, 1])
def test_what_goes_wrong_is_said_and_logged(at: int, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[Family]:
        raise OSError("no such disk")

    tell = [nothing, nothing]
    tell[at] = broken
    status, _, text = ask(*tell)
    assert (status, "disk" in text) == (500, False)
    assert "no such disk" in caplog.text


def test_no_more_are_connected_than_there_are_places_and_who_is_silent_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with serving() as server:
            host, port = server.address.split(":")
            with contextlib.ExitStack() as stack:
                for _ in range(CONNECTIONS_MAX):
                    stack.enter_context(socket.create_connection((host, int(port)), 60))

                def is_full() -> bool:
                    with contextlib.closing(http.client.HTTPConnection(host, int(port))) as one:
                        try:
                            one.request("GET", "/metrics")
                            one.getresponse().read()
                        except (ConnectionError, http.client.HTTPException):
                            return True
                    return False

                await asyncio.to_thread(wait_until, is_full, "all places are taken")
            monkeypatch.setattr(metrics_server._Handler, "timeout", 0.01)
            await asyncio.to_thread(wait_until, lambda: not is_full(), "places are free again")

    asyncio.run(scenario())


def drip(stream: socket.socket) -> float:
    """How long one is listened to who sends a header byte by byte, each in good time."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        stream.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        while time.monotonic() - began < DRIP_SECONDS:
            stream.sendall(b"x")
            time.sleep(0.02)
    return time.monotonic() - began


def test_who_sends_a_byte_now_and_then_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.3)

    async def scenario() -> float:
        async with serving() as server:
            host, port = server.address.split(":")
            with socket.create_connection((host, int(port)), 60) as stream:
                return await asyncio.to_thread(drip, stream)

    assert asyncio.run(scenario()) < DRIP_SECONDS_MAX


def test_the_name_of_the_machine_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the DNS does not answer that keeps a start waiting for seconds."""

    def refuse(*_: object) -> str:
        raise AssertionError("the DNS was asked")

    monkeypatch.setattr(socket, "getfqdn", refuse)
    MetricsServer("127.0.0.1:0", peers=None, is_insecure=False).stop()


def test_other_machines_are_let_in_only_where_that_was_asked_for() -> None:
    with pytest.raises(ValueError, match="needs certificates"):
        MetricsServer(ANYWHERE, peers=None, is_insecure=False)
    MetricsServer(ANYWHERE, peers=None, is_insecure=True).stop()


def test_an_address_that_is_taken_is_refused_with_a_sentence() -> None:
    first = MetricsServer("127.0.0.1:0", peers=None, is_insecure=False)
    try:
        with pytest.raises(MetricsUnavailable, match="Address already in use"):
            MetricsServer(first.address, peers=None, is_insecure=False)
    finally:
        first.stop()


def test_without_the_extra_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "titan.metrics.exposition")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MetricsUnavailable, match=r"pip install 'titan-scheduler\[metrics\]'"):
        MetricsServer("127.0.0.1:0", peers=None, is_insecure=False)


def client_context(people: People, folder: Path | None) -> ssl.SSLContext:
    """How somebody connects who has the certificate in that folder, or none."""
    context = ssl.create_default_context(cafile=people.directory / "manager" / "ca.pem")
    if folder is not None:
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def ask_secured(people: People, *folders: Path | None) -> list[int | str]:
    """What each of these is answered: a status, or that the handshake fails."""
    peers = open_peers(people.directory / "manager", Role.MANAGER)

    def status(server: MetricsServer, folder: Path | None) -> int | str:
        try:
            return get(server, context=client_context(people, folder))[0]
        except (OSError, http.client.HTTPException):
            return "no connection"

    async def scenario() -> list[int | str]:
        async with serving(peers=peers) as server:
            assert server.url.startswith("https://")
            return [await asyncio.to_thread(status, server, folder) for folder in folders]

    return asyncio.run(scenario())


def test_with_certificates_those_are_answered_who_have_a_good_one(
    people: People, tmp_path: Path
) -> None:
    people.issue(Role.MANAGER, "manager")
    good = people.issue(Role.USER, "prometheus")
    expired = people.issue(Role.USER, "late", ago=2 * DAY_SECONDS)
    gone = people.issue(Role.USER, "gone")
    people.revoke("gone")
    stranger = People(tmp_path / "other").issue(Role.USER, "prometheus")
    assert ask_secured(people, good, None, expired, gone, stranger, good) == [
        200, "no connection", "no connection", 403, "no connection", 200,
    ]  # fmt: skip


def test_a_certificate_that_is_renewed_is_used_without_a_restart(people: People) -> None:
    people.issue(Role.MANAGER, "manager")
    good = people.issue(Role.USER, "prometheus")
    peers = open_peers(people.directory / "manager", Role.MANAGER)

    def serial(server: MetricsServer) -> str:
        host, port = server.address.split(":")
        with (
            socket.create_connection((host, int(port)), 60) as plain,
            client_context(people, good).wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return str((secured.getpeercert() or {})["serialNumber"])

    async def scenario() -> None:
        async with serving(peers=peers) as server:
            before = await asyncio.to_thread(serial, server)
            people.issue(Role.MANAGER, "manager")
            peers.files.look(at_once=True)
            assert await asyncio.to_thread(serial, server) != before

    asyncio.run(scenario())


def test_who_sends_a_byte_now_and_then_over_tls_is_let_go(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.3)
    people.issue(Role.MANAGER, "manager")
    good = people.issue(Role.USER, "prometheus")
    peers = open_peers(people.directory / "manager", Role.MANAGER)

    def connect_and_drip(server: MetricsServer) -> float:
        host, port = server.address.split(":")
        with (
            socket.create_connection((host, int(port)), 60) as plain,
            client_context(people, good).wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            return drip(secured)

    async def scenario() -> float:
        async with serving(peers=peers) as server:
            return await asyncio.to_thread(connect_and_drip, server)

    assert asyncio.run(scenario()) < DRIP_SECONDS_MAX


def test_who_is_slow_with_his_handshake_keeps_nobody_waiting(people: People) -> None:
    people.issue(Role.MANAGER, "manager")
    good = people.issue(Role.USER, "prometheus")
    peers = open_peers(people.directory / "manager", Role.MANAGER)

    async def scenario() -> int:
        async with serving(peers=peers) as server:
            host, port = server.address.split(":")
            with socket.create_connection((host, int(port)), 60):
                context = client_context(people, good)
                return (await asyncio.to_thread(get, server, context=context))[0]

    assert asyncio.run(scenario()) == 200


def test_whoever_supervises_it_is_told_whether_it_answers_and_whether_it_leads() -> None:
    leads: bool | None = False

    async def scenario() -> None:
        nonlocal leads
        server = MetricsServer("127.0.0.1:0", peers=None, is_insecure=False)
        server.start(nothing, nothing, lambda: bool(leads))
        try:
            assert (await status(server, "/healthz"), await status(server, "/leader")) == (200, 503)
            leads = True
            assert await status(server, "/healthz?verbose") == 200
            assert await status(server, "/leader") == 200
        finally:
            await asyncio.to_thread(server.stop)
        # A worker leads nothing.
        async with serving() as server:
            assert (await status(server, "/healthz"), await status(server, "/leader")) == (200, 404)

    asyncio.run(scenario())


async def status(server: MetricsServer, path: str) -> int:
    """Of what is answered there."""
    return await asyncio.to_thread(status_now, server, path)


def status_now(server: MetricsServer, path: str) -> int:
    """The same for a thread."""
    try:
        url = server.url.removesuffix(metrics_server.PATH) + path
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_loop_that_stands_still_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "LOOP_SECONDS", 0.2)

    async def scenario() -> None:
        async with serving() as server:
            with ThreadPoolExecutor(1) as pool:
                # The loop does nothing else meanwhile.
                assert pool.submit(status_now, server, "/healthz").result() == 503

    asyncio.run(scenario())


def test_what_is_told_may_become_something_else() -> None:
    def family(name: str) -> Callable[[], Iterable[Family]]:
        return lambda: [gauge(name, "It.", 1)]

    async def scenario() -> None:
        async with serving(family("titan_before")) as server:
            assert "titan_before 1" in (await asyncio.to_thread(get, server))[2]
            server.start(family("titan_after"))
            assert [each.name for each in threading.enumerate()].count("metrics") == 1
            text = (await asyncio.to_thread(get, server))[2]
            assert "titan_after 1" in text
            assert "titan_before" not in text

    asyncio.run(scenario())


def test_a_server_that_is_started_again_for_others_ends_all_the_same() -> None:
    async def tell_others() -> list[int]:
        async with serving() as server:
            for number in (1, 2, 3):
                server.start(nothing, leads=lambda number=number: number == 3)  # type: ignore[misc]
            threads = [each for each in threading.enumerate() if each.name == "metrics"]
            return [len(threads), await status(server, "/leader")]

    assert asyncio.run(tell_others()) == [1, 200]
