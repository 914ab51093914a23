"""`titan dev` shows its cluster in a browser, and takes the pages with it."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster, free_port, wait_until
from titan.cli import dev_web
from titan.cli.dev_web import find_web
from titan.errors import Refused, TitanError
from titan.rpc.channel import split_address


def can_connect(address: str) -> bool:
    try:
        socket.create_connection(split_address(address), DEADLINE_SECONDS).close()
    except OSError:
        return False
    return True


def test_dev_shows_its_cluster_until_ctrl_c(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        address = f"127.0.0.1:{free_port()}"
        dev = cluster.spawn("dev", "--listen", cluster.address, "--web", address, name="dev")
        log = dev.wait_log("Ctrl-C stops it all.")
        found = re.search(rf"pages    (http://{address}/\?token=\S+)", log)
        assert found, log
        # Where they take long to come up it tells of them before they answer.
        wait_until(lambda: can_connect(address), "the pages are served")
        with httpx.Client(follow_redirects=True, verify=False, timeout=DEADLINE_SECONDS) as client:
            client.get(found[1]).raise_for_status()
            workers = client.get(f"http://{address}/api/v1/workers").json()["workers"]
            assert [each["name"] for each in workers] == ["w1"]
            session = client.get(f"http://{address}/api/v1/session").json()
            assert session["writable"] is True
        # The token stands in it.
        (written,) = tmp_path.rglob("web.log")
        assert "token=" in written.read_text()
        assert written.stat().st_mode & 0o077 == 0
        assert dev.end(signal.SIGINT) == 130
        assert [each.cmdline() for each in cluster.find_processes()] == []


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port that another program has."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


def test_a_port_that_is_taken_is_another_unless_it_was_asked_for(
    busy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_web(busy, tmp_path / "web.log", is_wanted=False)
    assert found is not None
    assert busy not in found.url
    assert re.match(rf"titan: {busy} can't be listened on: the pages are", capsys.readouterr().err)
    with pytest.raises(Refused, match=f"{busy} is in use"):
        find_web(busy, tmp_path / "web.log", is_wanted=True)


def test_without_the_extra_there_are_no_pages_unless_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev_web, "can_serve", lambda: False)
    monkeypatch.setattr("titan.cli.web.can_serve", lambda: False)
    assert find_web("127.0.0.1:0", tmp_path / "web.log", is_wanted=False) is None
    with pytest.raises(TitanError, match=r"pip install 'titan-scheduler\[web\]'"):
        find_web("127.0.0.1:0", tmp_path / "web.log", is_wanted=True)
