"""Where other machines can look: HTTPS, and viewers who show certificates of their own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from tests.security.people import People
from tests.web.running import TOKEN, Running
from titan.client.connection import NOTHING_SAID
from titan.errors import InvalidJob
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.tls.identity import Role
from titan.tls.peers import open_peers
from titan.web.server import WebOptions, run_web


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    made = People(tmp_path_factory.mktemp("tls"))
    made.issue(Role.MANAGER, "manager")
    for name in ("alice", "bob"):
        made.issue(Role.USER, name)
    made.issue(Role.USER, "revoked")
    made.issue(Role.USER, "leaver")
    made.issue(Role.USER, "expired", ago=2 * 86_400)
    made.issue(Role.ADMIN, "root")
    made.issue(Role.WORKER, "w1")
    made.revoke("revoked")
    return made


@pytest.fixture
def server(manager: FakeManager, people: People) -> Iterator[Running]:
    peers = open_peers(people.directory, Role.MANAGER)
    with Running(
        manager.address, allows_changes=True, peers=peers, hosts=None, is_proven=True
    ) as running:
        yield running


def client_of(server: Running, people: People, name: str = "") -> httpx.Client:
    context = ssl.create_default_context(cafile=people.directory / "ca.pem")
    if name:
        folder = people.directory / name
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return httpx.Client(base_url=server.url, verify=context, timeout=DEADLINE_SECONDS)


def csrf_of(client: httpx.Client) -> dict[str, str]:
    return {"x-csrf-token": client.get("/api/v1/session").json()["csrf"]}


def test_a_certificate_says_who_looks(server: Running, people: People) -> None:
    for name, admin in (("alice", False), ("root", True)):
        with client_of(server, people, name) as client:
            session = client.get("/api/v1/session").json()
            assert (session["user"], session["admin"]) == (name, admin)


def test_who_has_none_brings_the_token(server: Running, people: People) -> None:
    with client_of(server, people) as client:
        assert client.get("/api/v1/stats").status_code == 401
        cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"]
        assert "Secure" in cookie.split("; ")
        assert client.get("/api/v1/session").json()["admin"] is True


@pytest.mark.parametrize("name", ["revoked", "w1", "manager"])
def test_some_certificates_are_nobodys_here(server: Running, people: People, name: str) -> None:
    with client_of(server, people, name) as client:
        answer = client.get("/api/v1/jobs")
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


def test_a_page_that_is_open_ends_when_its_certificate_is_revoked(
    manager: FakeManager, server: Running, people: People
) -> None:
    job = manager.add_job()
    with client_of(server, people, "leaver") as client, server.events(client) as events:
        events.next("hello")
        people.revoke("leaver")
        manager.run(job)
        with pytest.raises(StopIteration):
            events.next("jobs")


def test_an_expired_one_and_one_of_another_ca_are_kept_out(
    server: Running, people: People, tmp_path: Path
) -> None:
    others = People(tmp_path / "others")
    others.issue(Role.ADMIN, "mallory")
    context = ssl.create_default_context(cafile=people.directory / "ca.pem")
    folder = others.directory / "mallory"
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with (
        httpx.Client(base_url=server.url, verify=context) as client,
        pytest.raises(httpx.HTTPError),
    ):
        client.get("/api/v1/session")
    with client_of(server, people, "expired") as client, pytest.raises(httpx.HTTPError):
        client.get("/api/v1/session")


def test_without_encryption_nothing_is_answered(server: Running) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{server.address}/api/v1/session")


def test_users_change_and_read_only_what_is_theirs(
    manager: FakeManager, server: Running, people: People
) -> None:
    manager.workers = [manager_pb2.Worker(name="w1", state=types_pb2.HEALTHY)]
    own, others = manager.add_job(user="bob"), manager.add_job(user="alice")
    for job in (own, others):
        manager.run(job)
        manager.write(job, b"secret\n")
        manager.end(job)
    calls = ("cancel", "hold", "release")
    with client_of(server, people, "bob") as bob:
        csrf = csrf_of(bob)
        assert bob.get(f"/api/v1/jobs/{others.job_id}").status_code == 200
        for call in calls:
            path = f"/api/v1/jobs/{others.job_id}/{call}"
            answer = bob.post(path, headers=csrf)
            assert (answer.status_code, answer.json()["error"]) == (
                403, f"job {others.job_id} is alice's, and you are user bob",
            )  # fmt: skip
            assert bob.post(f"/api/v1/jobs/{own.job_id}/{call}").status_code == 403
            assert bob.post(f"/api/v1/jobs/{own.job_id}/{call}", headers=csrf).status_code == 200
        assert bob.get(f"/api/v1/jobs/{others.job_id}/output").status_code == 403
        assert "secret" in bob.get(f"/api/v1/jobs/{own.job_id}/output").text
        assert bob.post("/api/v1/workers/w1/drain", headers=csrf).status_code == 403
        # The manager would take him for this server.
        answer = bob.post("/api/v1/jobs", json={"shell": "true"}, headers=csrf)
        assert answer.status_code == 403
        assert "is submitted as alice" in answer.json()["error"]
    changed = [request for call in ("CancelJob", "HoldJob") for request in manager.called(call)]
    assert {each.job_id for request in changed for each in request.jobs} == {own.job_id}
    assert {request.user for request in changed} == {"bob"}
    with client_of(server, people, "root") as root:
        csrf = csrf_of(root)
        for call in calls:
            path = f"/api/v1/jobs/{others.job_id}/{call}"
            assert root.post(path, headers=csrf).status_code == 200
        assert root.post("/api/v1/workers/w1/drain", headers=csrf).status_code == 200
        assert "secret" in root.get(f"/api/v1/jobs/{others.job_id}/output").text


def test_a_port_that_others_can_reach_needs_certificates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TITAN_TLS_DIR", raising=False)
    # How this process logs is pytest's.
    monkeypatch.setattr("titan.logs.set_up", lambda *_: None)
    options = WebOptions(
        listen="0.0.0.0:0", manager="127.0.0.1:1", credentials=NOTHING_SAID,
        allows_changes=False, log_level="error",
    )  # fmt: skip
    with pytest.raises(InvalidJob, match=r"name a directory with a server's certificate"):
        run_web(options, print)
