"""`titan web` as a command: what it prints, and what it says where it can't serve."""

from __future__ import annotations

import importlib.util
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster, free_port
from titan import paths
from titan.cli import main


def test_it_prints_a_url_that_logs_in_and_ends_while_people_look(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        # There is no manager: who opens a page is told so.
        address = f"127.0.0.1:{free_port()}"
        web = cluster.spawn("web", "--listen", address, name="web")
        log = web.wait_log("The cluster is shown at ")
        url = log.rpartition("The cluster is shown at ")[2].split()[0]
        (file,) = (cluster.state / "titan" / "web").glob("*.json")
        assert file.stat().st_mode & 0o777 == 0o600
        found = paths.read_json(file) or {}
        assert url == f"{found['url']}/?token={found['token']}"
        with httpx.Client(follow_redirects=True, verify=False, timeout=DEADLINE_SECONDS) as client:
            client.get(url).raise_for_status()
            with client.stream("GET", f"http://{address}/api/v1/events") as response:
                assert "event: manager" in next(response.iter_text())
                assert web.end(signal.SIGTERM) == 0
        assert "Traceback" not in web.log
        # The same token: nobody has to log in again.
        again = cluster.spawn("web", "--listen", address, name="again")
        assert url in again.wait_log("The cluster is shown at ")
        assert again.end(signal.SIGINT) == 0


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, *more: Any) -> Any:
        return None if name == "starlette" else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert main.main(["web"]) == 1
    assert capsys.readouterr().err == (
        "titan: `titan web` needs starlette and uvicorn: pip install 'titan-scheduler[web]'\n"
    )


def test_a_port_that_is_taken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("titan.logs.set_up", lambda *_: None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert main.main(["web", "--listen", address]) == 5
    assert capsys.readouterr().err == (
        f"titan: {address} is in use by another program; choose another port with --listen\n"
    )
