"""What is done for who looks: the calls of the commands, and a sentence for what makes no sense."""

from __future__ import annotations

import json
from typing import Any

from tests.client.fake_manager import FakeManager
from tests.web.running import Running
from titan.rpc.v1 import manager_pb2, types_pb2
from titan.web.changing import SUBMIT_KEYS


def test_a_job_is_submitted_by_the_names_of_a_flow(manager: FakeManager, server: Running) -> None:
    first = manager.add_job()
    wanted = {
        "shell": "echo $X", "name": "ours", "cpus": 0.5, "memory": "2GiB", "array": "0-9:3",
        "priority": 4, "time_limit": "1h", "env": {"X": "a b"}, "cwd": "/tmp", "retries": 2,
        "after": [first.job_id], "request_id": "00" * 16,
    }  # fmt: skip
    with server.program() as client:
        answer = client.post("/api/v1/jobs", json=wanted)
        assert (answer.status_code, answer.json()) == (201, {"job_id": 2})
        # The same request again is the same job.
        assert client.post("/api/v1/jobs", json=wanted).json() == {"job_id": 2}
        shown = client.get("/api/v1/jobs/2").json()["job"]
    (request, _) = manager.called("SubmitJob")
    assert (request.user, request.request_id) == ("alice", bytes(16))
    variables = {each.name: each.value for each in request.environments[0].set}
    assert variables[b"X"] == b"a b"
    assert (shown["name"], shown["command"]) == ("ours", ["/bin/sh", "-c", "echo $X"])
    assert (shown["cpus"], shown["memory_bytes"], shown["array"]) == (0.5, 2 << 30, "0-9:3")
    assert (shown["priority"], shown["cwd"], shown["retries"]) == (4, "/tmp", 2)
    assert request.jobs[0].time_limit_ms == 3_600_000


def test_cancels_carry_signal_and_grace(manager: FakeManager, server: Running) -> None:
    job = manager.add_job()
    manager.run(job)
    with server.program() as client:
        answer = client.post(
            "/api/v1/jobs/1.0/cancel", json={"grace_seconds": 2.5, "signal": "INT"}
        )
        assert answer.json() == [{"job_id": 1, "state": "RUNNING", "exit_code": None}]
        assert client.post("/api/v1/jobs/9/cancel").status_code == 404
    request = manager.called("CancelJob")[0]
    assert (request.grace_ms, request.signal) == (2500, 2)
    assert [(each.start, each.stop) for each in request.jobs[0].indexes] == [(0, 1)]


def test_jobs_are_held_and_workers_drained(manager: FakeManager, server: Running) -> None:
    manager.add_job()
    manager.workers = [manager_pb2.Worker(name="w1", state=types_pb2.HEALTHY)]
    with server.program() as client:
        assert client.get("/api/v1/workers").json()["workers"][0]["draining"] is False
        assert client.post("/api/v1/jobs/1/hold").json()[0]["held"] is True
        assert client.post("/api/v1/jobs/1/release", json={}).json()[0]["held"] is False
        answer = client.post("/api/v1/workers/w1/drain", json={"reason": "new kernel"}).json()
        assert (answer["draining"], answer["reason"]) == (True, "new kernel")
        # Whoever looks now sees it, though he looked a moment ago.
        assert client.get("/api/v1/workers").json()["workers"][0]["draining"] is True
        assert client.post("/api/v1/workers/w1/undrain").json()["draining"] is False
        assert client.post("/api/v1/workers/w9/drain").status_code == 404


def test_what_is_read_on_this_machine_is_not_the_viewers_to_name(server: Running) -> None:
    with server.program() as client:
        for key, value in (
            ("script", "/etc/shadow"),
            ("secret_env", {"X": "/etc/shadow"}),
            ("export", "ALL"),
        ):
            answer = client.post("/api/v1/jobs", json={"shell": "true", key: value})
            assert answer.status_code == 400
            assert f"'{key}' is not known" in answer.json()["error"]


def test_no_body_makes_the_server_fail(server: Running) -> None:
    values: list[Any] = [
        True, float("nan"), 10**400, "\0", "\ud800", [None], {"": 1}, {"\ud800": "\0"},
    ]  # fmt: skip
    headers = {"content-type": "application/json"}
    paths = {
        "/jobs": SUBMIT_KEYS, "/jobs/1/cancel": ("grace_seconds", "signal"),
        "/workers/w1/drain": ("reason",), "/session": ("token",),
    }  # fmt: skip
    statuses = set()
    with server.program() as client:
        for path, keys in paths.items():
            for number, key in enumerate(keys):
                # Each has some of them; together all of them.
                for value in values[number % 3 :: 3] if path == "/jobs" else values:
                    body = {key: value}
                    if path == "/jobs" and key not in {"command", "shell", "worker_script"}:
                        body["command"] = ["true"]
                    text = json.dumps(body)
                    answer = client.post(f"/api/v1{path}", content=text, headers=headers)
                    assert answer.status_code < 500, (path, text, answer.text)
                    statuses.add(answer.status_code)
        for text in ("", "[]", "3", "{", "\xff", "[" * 100_000, '{"a":1}' * 2):
            answer = client.post("/api/v1/jobs", content=text.encode("latin-1"), headers=headers)
            assert answer.status_code == 400
        answer = client.post("/api/v1/jobs", content='{"shell":"true"}')
        assert "Content-Type" in answer.json()["error"]
    assert statuses >= {201, 400}
