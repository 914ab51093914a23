"""titan.Client over the real wire, against a manager whose jobs do as they are told."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import titan
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager, array_of
from titan.client import retry
from titan.rpc.v1 import types_pb2


@pytest.fixture
def client(manager: FakeManager) -> Iterator[titan.Client]:
    with titan.Client() as client:
        yield client


def test_a_submit_sends_everything_and_answers_with_a_job(
    manager: FakeManager, client: titan.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/here/bin")
    job = client.submit(
        ["python", "t.py"],
        name="train",
        cpus=2,
        memory="4GiB",
        resources={"gpu": 1},
        priority=5,
        array="0-9",
        env={"A": "1"},
        cwd="/data",
    )
    assert (job.id, repr(job)) == (1, "Job(1)")
    (request,) = manager.called("SubmitJob")
    assert len(request.request_id) == 16
    assert request.user
    (spec,) = request.jobs
    assert (spec.name, list(spec.command), spec.cwd) == ("train", [b"python", b"t.py"], b"/data")
    assert (spec.resources.cpus_milli, spec.resources.memory_bytes) == (2000, 4 * 1024**3)
    exported = {v.name: v.value for v in request.environments[0].exported}
    assert exported[b"PATH"] == b"/here/bin"
    assert [(v.name, v.value) for v in request.environments[0].set] == [(b"A", b"1")]


def test_a_submit_that_gets_no_answer_is_repeated_with_its_id_and_makes_one_job(
    manager: FakeManager, client: titan.Client
) -> None:
    manager.fail("SubmitJob", grpc.StatusCode.UNAVAILABLE, "cut off", count=3)
    assert client.submit(["true"]).id == 1
    assert len({request.request_id for request in manager.called("SubmitJob")}) == 1
    assert len(manager.called("SubmitJob")) == 4
    assert len(manager.jobs) == 1


def test_a_submit_that_never_gets_an_answer_says_that_it_may_have_arrived(
    manager: FakeManager,
) -> None:
    manager.fail("SubmitJob", grpc.StatusCode.UNAVAILABLE, "cut off", count=100)
    with (
        titan.Client(retry_for_seconds=0.3) as client,
        pytest.raises(titan.ManagerUnreachable, match="may have been accepted") as caught,
    ):
        client.submit(["true"], request_id="00" * 16)
    assert caught.value.maybe_accepted
    assert f"--request-id {'00' * 16}" in str(caught.value)


def test_many_jobs_are_submitted_in_order(manager: FakeManager, client: titan.Client) -> None:
    jobs = client.submit_many([titan.JobSpec(command=["echo", str(n)]) for n in range(5)])
    assert [job.id for job in jobs] == [1, 2, 3, 4, 5]
    assert [list(manager.jobs[job.id].command)[1] for job in jobs] == [b"0", b"1", b"2", b"3", b"4"]
    assert client.submit_many([]) == []


def test_a_wrong_job_is_refused_before_anything_is_sent(
    manager: FakeManager, client: titan.Client
) -> None:
    with pytest.raises(titan.InvalidJob, match="add a unit"):
        client.submit(["true"], memory="5")
    assert manager.calls == []


def test_waiting_returns_when_the_job_has_ended(manager: FakeManager, client: titan.Client) -> None:
    job = client.job(manager.add_job().job_id)

    def end() -> None:
        manager.wait(lambda: manager.called("WatchJobs"), "a watch")
        manager.run(manager.jobs[job.id])
        manager.end(manager.jobs[job.id], exit_code=3)

    thread = threading.Thread(target=end)
    thread.start()
    view = job.wait(timeout=DEADLINE_SECONDS)
    thread.join()
    assert (view["state"], view["exit_code"], view["reason"]) == ("FAILED", 3, "EXIT")
    assert view["attempts"][0]["worker"] == "w1"


def test_waiting_for_what_has_ended_returns_at_once(
    manager: FakeManager, client: titan.Client
) -> None:
    jobs = [manager.add_job() for _ in range(2)]
    for job in jobs:
        manager.run(job)
        manager.end(job)
    assert client.wait(2, 1, 2) == [
        {"job_id": 2, "state": "COMPLETED", "exit_code": 0},
        {"job_id": 1, "state": "COMPLETED", "exit_code": 0},
        {"job_id": 2, "state": "COMPLETED", "exit_code": 0},
    ]
    assert client.wait() == []


def test_waiting_ends_with_its_timeout(manager: FakeManager, client: titan.Client) -> None:
    manager.add_job()
    with pytest.raises(TimeoutError, match="1 of 1 jobs"):
        client.job(1).wait(timeout=0.05)


def test_waiting_for_no_such_job_does_not_wait(client: titan.Client) -> None:
    with pytest.raises(titan.NotFound):
        client.wait(99)


def test_waiting_goes_on_after_a_restart_of_the_manager_with_another_token(
    manager: FakeManager, client: titan.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The token may be written late.
    monkeypatch.setattr(retry, "ACCESS_TRIES_MAX", 1_000)
    job = manager.add_job()

    def restart() -> None:
        manager.wait(lambda: manager.called("WatchJobs"), "a watch")
        manager.stop()
        asked = len(manager.called("WatchJobs"))
        # It serves before its token is where clients find it.
        manager.start(writes_token=False)
        manager.wait(lambda: len(manager.called("WatchJobs")) > asked, "a watch with the old one")
        manager.write_token()
        manager.run(job)
        manager.end(job)

    thread = threading.Thread(target=restart)
    thread.start()
    assert client.wait(1, timeout=DEADLINE_SECONDS)[0]["state"] == "COMPLETED"
    thread.join()


def test_output_comes_whole_by_stream_and_index(manager: FakeManager, client: titan.Client) -> None:
    job = manager.add_job(array=array_of((0, 10)))
    manager.run(job, 3)
    manager.write(job, b"out\xff\n", 3)
    manager.write(job, b"err\n", 3, err=True)
    assert client.job(1).output(index=3) == b"out\xff\n"
    assert client.job(1).output(3, stream="stderr") == b"err\n"
    assert client.job(1).output(4) == b""


def test_a_stream_of_output_follows_the_task_over_a_broken_connection(
    manager: FakeManager, client: titan.Client
) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.write(job, b"one ")
    stream = client.job(1).stream_output()
    chunk = next(stream)
    assert (chunk.stream, chunk.attempt, chunk.offset, chunk.data) == ("stdout", 1, 0, b"one ")
    manager.stop()
    manager.start()
    manager.write(job, b"two")
    manager.end(job)
    assert [(c.offset, c.data) for c in stream] == [(4, b"two")]


def test_output_follows_a_task_over_its_attempts(
    manager: FakeManager, client: titan.Client
) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.write(job, b"first")
    manager.attempts[1][0].state = types_pb2.LOST
    manager.run(job)
    manager.write(job, b"second")
    manager.end(job)
    chunks = list(client.stream_output(1))
    assert [(c.attempt, c.offset, c.data) for c in chunks] == [(1, 0, b"first"), (2, 0, b"second")]


def test_output_of_a_worker_that_is_away_is_an_error_with_the_managers_sentence(
    manager: FakeManager, client: titan.Client
) -> None:
    manager.add_job()
    manager.fail("StreamOutput", grpc.StatusCode.FAILED_PRECONDITION, "w1 is DISCONNECTED")
    with pytest.raises(titan.TitanError, match="w1 is DISCONNECTED"):
        client.job(1).output()
    manager.fail("StreamOutput", grpc.StatusCode.UNAVAILABLE, "w1 does not answer", count=2)
    with pytest.raises(titan.TitanError, match="w1 does not answer"):
        client.job(1).output()


def test_output_cut_off_once_is_read_again(manager: FakeManager, client: titan.Client) -> None:
    job = manager.add_job()
    manager.run(job)
    manager.write(job, b"all of it")
    manager.fail("StreamOutput", grpc.StatusCode.UNAVAILABLE, "a hiccup")
    assert client.job(1).output() == b"all of it"


def test_the_queue_is_listed_over_its_pages(
    manager: FakeManager, client: titan.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titan.client.requests.PAGE_JOBS_MAX", 2)
    for number in range(5):
        manager.add_job(name=f"j{number}")
    assert [job["name"] for job in client.queue()] == ["j0", "j1", "j2", "j3", "j4"]
    assert [job["name"] for job in client.queue(limit=3)] == ["j0", "j1", "j2"]
    assert [job["name"] for job in client.queue(all=True, limit=3)] == ["j4", "j3", "j2"]
    assert client.queue(name="j1")[0]["job_id"] == 2


def test_a_cancel_tells_what_became_of_each(manager: FakeManager, client: titan.Client) -> None:
    waiting, running = manager.add_job(), manager.add_job()
    manager.run(running)
    assert client.cancel(1, "2", grace="5s") == [
        {"job_id": 1, "state": "CANCELLED", "exit_code": None},
        {"job_id": 2, "state": "RUNNING", "exit_code": None},
    ]
    assert manager.called("CancelJob")[0].grace_ms == 5000
    assert waiting.state == types_pb2.CANCELLED
    assert client.job(1).cancel()["state"] == "CANCELLED"
    client.cancel(state=["RUNNING"])
    assert manager.called("CancelJob")[-1].filter.states == [types_pb2.RUNNING]


def test_a_watch_tells_of_changes_and_goes_on_after_an_lsn(
    manager: FakeManager, client: titan.Client
) -> None:
    manager.add_job(name="a")
    watch = client.watch(1)
    first = next(watch)
    assert [job["name"] for job in first.jobs] == ["a"]
    watch.close()  # type: ignore[attr-defined]
    manager.run(manager.jobs[1])
    again = client.watch(1, after_lsn=first.lsn)
    assert next(again).jobs[0]["state"] == "RUNNING"


def test_a_watch_that_the_manager_has_no_room_for_is_not_asked_for_without_a_pause(
    manager: FakeManager,
) -> None:
    manager.add_job(name="a")
    manager.be_busy("WatchJobs", "1000000 jobs are watched by number")
    with (
        titan.Client(manager.address, retry_for_seconds=0.0) as client,
        pytest.raises(titan.Busy, match="1000000 jobs are watched"),
    ):
        next(client.watch(1))
    assert len(manager.called("WatchJobs")) == 1


def test_workers_and_stats_are_dicts(manager: FakeManager, client: titan.Client) -> None:
    assert client.workers() == []
    stats = client.stats()
    assert stats["cluster_id"] == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert (stats["cpus"], stats["cpus_free"]) == (4, 1.5)


def test_a_refused_connection_is_told_at_once_with_the_address(manager: FakeManager) -> None:
    address = manager.address
    manager.stop()
    with (
        titan.Client(address) as client,
        pytest.raises(titan.ManagerUnreachable, match=f"at {address}: connection refused"),
    ):
        client.stats()


def test_without_a_token_the_error_names_the_file_and_the_option(
    manager: FakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with (
        titan.Client() as client,
        pytest.raises(titan.AccessDenied, match=r"no access token.*elsewhere.*--access FILE"),
    ):
        client.stats()
    with titan.Client(access_file=manager.data_directory / "access.json") as client:
        assert client.stats()["version"] == "1.2.3"


def test_a_token_that_is_not_right_is_told_from_none(manager: FakeManager, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"token": "nonsense"}')
    with (
        titan.Client(access_file=wrong) as client,
        pytest.raises(titan.Refused, match=r"is not right.*wrong\.json"),
    ):
        client.stats()


@pytest.mark.parametrize("content", ["{}", "[]", "nonsense", None])
def test_an_access_file_that_holds_no_token_is_an_error(
    manager: FakeManager, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "access.json"
    if content is not None:
        file.write_text(content)
    with (
        titan.Client(access_file=file) as client,
        pytest.raises(titan.AccessDenied, match="can't be read"),
    ):
        client.stats()


def test_localhost_finds_the_token_of_the_loopback_address(manager: FakeManager) -> None:
    with titan.Client(manager.address.replace("127.0.0.1", "localhost")) as client:
        assert client.stats()["version"] == "1.2.3"


@pytest.mark.parametrize("address", ["nonsense", "10.1.2.3:50051", ":17", "127.0.0.1:99999"])
def test_what_is_no_loopback_address_is_a_value_error(address: str) -> None:
    with pytest.raises(ValueError, match=address):
        titan.Client(address)
