"""Who may look, who may change something, and what else no browser is to send or to show."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from tests.web.running import TOKEN, Running
from titan.web import guard
from titan.web import server as web_server
from titan.web.guard import BODY_BYTES_MAX
from titan.web.viewers import SESSION_SECONDS, Viewers, keep_or_draw_token, token_file

READS = ("/session", "/stats", "/workers", "/jobs", "/jobs/1", "/jobs/1/events", "/jobs/1/why",
         "/jobs/1/output", "/jobs/1/tasks", "/events", "/workflow/1", "/moments", "/timeline",
         "/history/usage", "/history/totals", "/history/attempts", "/history/failing")  # fmt: skip
CHANGES = ("/jobs", "/jobs/1/cancel", "/jobs/1/hold", "/jobs/1/release", "/workers/w1/drain",
           "/workers/w1/undrain")  # fmt: skip


def test_nobody_sees_anything_without_the_token(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    headers = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer " + "x" * 5000},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{server.terms.cookie_name}={TOKEN}"},
        {"cookie": f"{server.terms.cookie_name}=a.9999999999.b"},
    ]
    with server.stranger() as client:
        for each in headers:
            for path in READS:
                answer = client.get(f"/api/v1{path}", headers=each)
                assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
            for path in CHANGES:
                assert client.post(f"/api/v1{path}", headers=each).status_code == 401
        # A token in the URL is for the page alone.
        assert client.get(f"/api/v1/stats?token={TOKEN}").status_code == 401
    assert manager.calls == []


def test_the_token_in_a_url_becomes_a_cookie_at_once(server: Running) -> None:
    with server.stranger() as client:
        answer = client.get(f"/jobs/42?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/42")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert TOKEN not in cookie
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert client.get("/api/v1/session").json()["user"] == "alice"
        answer = client.get(f"{server.url}//elsewhere/x?token={TOKEN}")
        assert answer.headers["location"] == "/elsewhere/x"
        assert client.get("/?token=wrong").status_code == 401


def test_the_token_can_be_given_in_a_form(server: Running) -> None:
    with server.stranger() as client:
        assert client.post("/api/v1/session", json={"token": "wrong"}).status_code == 401
        assert client.post("/api/v1/session", json={"token": 3}).status_code == 400
        assert client.post("/api/v1/session", json={"tokens": ""}).status_code == 400
        assert client.post("/api/v1/session", json={"token": TOKEN}).status_code == 204
        assert client.get("/api/v1/stats").status_code == 200


def test_who_logs_out_is_out_also_where_the_cookie_is_kept(server: Running) -> None:
    with server.browser() as client:
        kept = client.cookies[server.terms.cookie_name]
        csrf = client.get("/api/v1/session").json()["csrf"]
        assert client.delete("/api/v1/session").status_code == 403
        assert client.delete("/api/v1/session", headers={"x-csrf-token": csrf}).status_code == 204
        client.cookies.set(server.terms.cookie_name, kept, domain="127.0.0.1")
        assert client.get("/api/v1/stats").status_code == 401


def test_changes_by_cookie_need_the_token_of_their_session(
    manager: FakeManager, server: Running
) -> None:
    manager.add_job()
    with server.browser() as first, server.browser() as second:
        csrf = first.get("/api/v1/session").json()["csrf"]
        others = second.get("/api/v1/session").json()["csrf"]
        assert csrf != others
        for given in (None, "", others, "\xe9"):
            headers = {} if given is None else {b"x-csrf-token": given.encode()}
            for path in CHANGES:
                answer = first.post(f"/api/v1{path}", headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
        assert not manager.called("CancelJob")
        own = {"x-csrf-token": csrf}
        assert first.post("/api/v1/jobs/1/cancel", headers=own).status_code == 200


def test_another_sites_page_changes_nothing_whatever_it_knows(
    manager: FakeManager, server: Running
) -> None:
    manager.add_job()
    with server.browser() as client:
        own = {"x-csrf-token": client.get("/api/v1/session").json()["csrf"]}
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": f"https://{server.address}"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = client.post("/api/v1/jobs/1/cancel", headers=own | headers)
            assert answer.status_code == 403
        same = own | {"origin": server.url, "sec-fetch-site": "same-origin"}
        assert client.post("/api/v1/jobs/1/cancel", headers=same).status_code == 200
    assert len(manager.called("CancelJob")) == 1


def test_a_name_that_somebody_else_lets_mean_this_machine_is_refused(server: Running) -> None:
    port = server.address.rpartition(":")[2]
    with server.program() as client:
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "",
            "[",
            "[",
        ):
            assert client.get("/api/v1/stats", headers={"host": host}).status_code in {400, 421}
        for host in (f"localhost:{port}", "127.0.0.1:9", f"[::1]:{port}", "LOCALHOST"):
            assert client.get("/api/v1/stats", headers={"host": host}).status_code == 200


def test_who_only_looks_changes_nothing(manager: FakeManager) -> None:
    manager.add_job()
    with Running(manager.address) as server, server.program() as client:
        assert client.get("/api/v1/session").json()["writable"] is False
        for path in CHANGES:
            answer = client.post(f"/api/v1{path}", json={})
            assert answer.status_code == 403
            assert "--allow-changes" in answer.json()["error"]
        assert client.get("/api/v1/jobs/1").status_code == 200
    assert {name for name, _ in manager.calls} == {"GetStats", "GetJobStatus", "GetHistory"}


@pytest.mark.parametrize("path", ["/", "/jobs/42", "/api/v1/stats", "/api/v1/nothing", "/assets/x"])
def test_every_answer_says_what_a_browser_may_do_with_it(server: Running, path: str) -> None:
    with server.program() as client:
        headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("no-cache" if path in {"/", "/jobs/42"} else "no-store")
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_a_body_has_an_end(server: Running) -> None:
    with server.program() as client:
        large = b'{"name": "' + b"x" * BODY_BYTES_MAX + b'"}'
        headers = {"content-type": "application/json"}
        answer = client.post("/api/v1/jobs", content=large, headers=headers)
        assert answer.status_code == 413
        # As large, and nobody says so before.
        parts = (large[start : start + 65536] for start in range(0, len(large), 65536))
        answer = client.post("/api/v1/jobs", content=parts, headers=headers)
        assert answer.status_code == 413


def connect(server: Running) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), DEADLINE_SECONDS)


def test_who_connects_and_asks_nothing_is_let_go(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "SILENT_SECONDS", 0.3)
    running = Running(manager.address)
    # What he asks is there before anybody looks at the time.
    with connect(running) as asks, asks.makefile("rb") as heard:
        asks.sendall(
            f"GET /api/v1/events HTTP/1.1\r\nHost: {running.address}\r\n"
            f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        with running as server:
            assert any(line == b"event: hello\n" for line in heard)
            for said in (b"", b"GET / HTTP/1.1\r\nHost: "):
                with connect(server) as silent, suppress(ConnectionError):
                    silent.sendall(said)
                    assert silent.recv(1) == b""
            # Who has asked goes on, though he came before them.
            manager.add_job()
            assert any(line == b"event: jobs\n" for line in heard)


def test_who_has_asked_once_is_let_go_within_his_next_question(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "SILENT_SECONDS", 0.3)
    running = Running(manager.address)
    with connect(running) as slow, slow.makefile("rb") as heard:
        # The first one is there before anybody looks at the time.
        head = f"Host: {running.address}\r\n\r\n".encode()
        slow.sendall(b"GET /api/v1/session HTTP/1.1\r\n" + head)
        with running:
            assert heard.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
            slow.sendall(b"GET / HT")
            # To the end, which comes before that of a connection that is kept for later.
            assert heard.read().endswith(b"}")


def test_a_body_that_does_not_come_is_not_waited_for(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    with Running(manager.address) as server:
        head = (
            f"POST /api/v1/session HTTP/1.1\r\nHost: {server.address}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        ).encode()
        with connect(server) as slow:
            slow.sendall(head)
            assert slow.recv(20) == b"HTTP/1.1 408 Request"
        monkeypatch.setattr(guard, "BODY_SECONDS", DEADLINE_SECONDS)
        with connect(server) as gone:
            gone.sendall(head)
        with server.program() as client:
            assert client.get("/api/v1/session").status_code == 200
    # Who hangs up is no mistake of the server's.
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_what_is_asked_in_another_way_than_it_can_be_is_told_so(server: Running) -> None:
    with server.program() as client:
        for method, path in (("POST", "/stats"), ("GET", "/jobs/1/cancel"), ("DELETE", "/jobs")):
            answer = client.request(method, f"/api/v1{path}")
            assert answer.status_code == 405
            assert answer.json()["error"] == f"{method} is not for this path"
        for path in ("/nothing", "/jobs/1/nothing"):
            assert client.get(f"/api/v1{path}").status_code == 404


def test_the_head_alone_of_what_is_told_live_has_an_end(
    manager: FakeManager, server: Running
) -> None:
    with server.program() as client:
        answer = client.head("/api/v1/events")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert client.get("/api/v1/session").status_code == 200
    assert not server.live.is_watching


def test_a_name_that_is_too_long_for_a_file_is_none(manager: FakeManager, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    with Running(manager.address, static=tmp_path) as server, server.stranger() as client:
        assert client.get(f"/assets/{'x' * 1000}.js").status_code == 404
        assert client.get(f"/{'x' * 1000}.js").status_code == 200


def test_a_cookie_counts_for_a_week() -> None:
    now = 1_000_000.0
    viewers = Viewers(TOKEN, "alice", now=lambda: now)
    cookie = viewers.begin_session()
    now += SESSION_SECONDS - 1
    viewer = viewers.by_cookie(cookie)
    assert viewer is not None
    assert (viewer.name, viewer.is_admin) == ("alice", True)
    now += 2
    assert viewers.by_cookie(cookie) is None


def test_a_cookie_that_was_changed_is_nobodys() -> None:
    viewers = Viewers(TOKEN, "alice")
    cookie = viewers.begin_session()
    for at in range(len(cookie)):
        changed = cookie[:at] + ("0" if cookie[at] != "0" else "1") + cookie[at + 1 :]
        assert viewers.by_cookie(changed) is None
    assert Viewers("another " + TOKEN, "alice").by_cookie(cookie) is None


def test_the_token_is_kept_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    token = keep_or_draw_token("127.0.0.1:8080", "http://127.0.0.1:8080")
    assert len(token) == 43
    file = token_file("127.0.0.1:8080")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert keep_or_draw_token("127.0.0.1:8080", "http://127.0.0.1:8080") == token
    assert keep_or_draw_token("127.0.0.1:8081", "http://127.0.0.1:8081") != token
    file.write_text('{"token": ""}')
    assert keep_or_draw_token("127.0.0.1:8080", "http://127.0.0.1:8080") != token
