"""A real cluster, a manager that is killed while people look, and viewers who come and go."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx

from tests.cluster import Cluster, free_port, wait_until
from tests.web.running import Events
from titan import paths


def test_nothing_is_missed_when_the_manager_is_killed(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "2")
        address = f"127.0.0.1:{free_port()}"
        web = cluster.spawn("web", "--listen", address, "--allow-changes", name="web")
        web.wait_log("is shown at")
        (file,) = (cluster.state / "titan" / "web").glob("*.json")
        token = (paths.read_json(file) or {})["token"]
        headers = {"authorization": f"Bearer {token}"}
        with (
            httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30) as client,
            client.stream("GET", "/api/v1/events") as response,
        ):
            events = Events(response)
            at = events.next("hello").id
            seen: list[tuple[int, str]] = []

            def read_until(job: int, state: str) -> None:
                while (job, state) not in seen:
                    event = events.next("jobs", "reset", "hello")
                    assert event.name == "jobs", "nothing is to be looked at anew"
                    seen.extend((each["job_id"], each["state"]) for each in event.data["jobs"])

            gate = tmp_path / "gate"
            line = f"until test -e {gate}; do sleep 0.05; done"
            first = client.post("/api/v1/jobs", json={"shell": line}).json()["job_id"]
            waiting = client.post("/api/v1/jobs", json={"shell": line, "cpus": 2}).json()["job_id"]
            read_until(first, "RUNNING")
            assert cluster.manager is not None
            cluster.manager.kill()
            gone = events.next("manager")
            assert gone.data["reachable"] is False
            gate.touch()
            # They end, or may start, while nobody is there who could tell of it.
            answer = client.get("/api/v1/jobs")
            assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
            cluster.start_manager()
            read_until(first, "COMPLETED")
            read_until(waiting, "COMPLETED")
            # Who was away all the time is told how it is now, of each job once.
            with client.stream("GET", "/api/v1/events", params={"after": at}) as again:
                missed: dict[int, str] = {}
                other = Events(again)
                while set(missed.values()) != {"COMPLETED"} or len(missed) < 2:
                    event = other.next("jobs", "reset", "hello")
                    assert event.name == "jobs"
                    missed.update((each["job_id"], each["state"]) for each in event.data["jobs"])
            check_past(client, first)
            assert web.end(signal.SIGTERM) == 0
        assert "Traceback" not in web.log
        wait_until(lambda: web.process.poll() == 0)


def check_past(client: httpx.Client, job: int) -> None:
    """The slider: each moment that the log holds is one that can be asked about."""

    def get(path: str, **query: Any) -> Any:
        answer = client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    reach = get("/moments")
    assert reach["first"]["lsn"] == 1
    assert reach["first"]["time"] < reach["last"]["time"]
    story = get(f"/jobs/{job}/events")["events"]
    submitted = next(each["lsn"] for each in story if each["event"] == "JobSubmitted")
    then = f"lsn:{submitted}"
    # It may be assigned by the record that it came with.
    assert get(f"/jobs/{job}", at=then)["job"]["state"] in {"PENDING", "SCHEDULED"}
    assert get(f"/jobs/{job}/tasks", at=then)["states"] in {"P", "S"}
    assert get(f"/jobs/{job}/tasks")["states"] == "C"
    assert [each["job_id"] for each in get("/jobs", at=then)["jobs"]] == [job]
    assert get("/workers", at=then)["workers"][0]["name"] == "w1"
    assert get("/stats", at=then)["at_time"] is not None
    assert [each["job_id"] for each in get(f"/workflow/{job}", at=then)["jobs"]] == [job]
    answer = client.get("/api/v1/stats", params={"at": f"lsn:{reach['last']['lsn'] + 1000}"})
    assert (answer.status_code, answer.json()["code"]) == (400, "OUT_OF_RANGE")
