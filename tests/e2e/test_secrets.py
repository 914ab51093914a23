"""Secrets of real jobs: the task has them, and nothing else that anybody could read does."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.cluster import Cluster, wait_until

VALUE = "hunter2-kWq7"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def secret_file(cluster: Cluster) -> str:
    path = cluster.root / "elsewhere"
    path.mkdir()
    (path / "token").write_text(f"{VALUE}\n")
    return f"TOKEN=@{path}/token"


def holding(cluster: Cluster) -> list[Path]:
    """Files of the cluster that hold the value, but for the one that it was given in."""
    found = []
    # Unlike rglob it goes on when a directory is removed meanwhile.
    for directory, _, names in os.walk(cluster.root):
        for path in (Path(directory, name) for name in names):
            # A file may be, too.
            with suppress(FileNotFoundError):
                is_other = path.is_file() and path.parent.name != "elsewhere"
                if is_other and VALUE.encode() in path.read_bytes():
                    found.append(path)
    return found


def command_lines() -> str:
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(lines)


def secrets_folder(cluster: Cluster) -> Path:
    return cluster.manager_directory / "secrets"


def submit_waiting(cluster: Cluster, go_on: Path, *options: str) -> int:
    """A job that says that it has the value, and ends once that file is there."""
    expected = cluster.root / "elsewhere" / "token"
    says = f'[ "$TOKEN" = "$(cat {expected})" ] && echo right'
    waits = f"until [ -e {go_on} ]; do sleep 0.05; done"
    return cluster.submit("--shell", *options, f"{says}; {waits}")


def wait_output(cluster: Cluster, job_id: int) -> None:
    wait_until(lambda: b"right" in cluster.titan("logs", str(job_id)).stdout, "the task has it")


def test_the_value_is_nowhere_but_in_its_file_and_its_task_and_goes_with_the_job(
    cluster: Cluster, tmp_path: Path
) -> None:
    manager = cluster.start_manager("--log-level", "debug", "--log-format", "json")
    worker = cluster.start_worker("w1", "--cpus", "2", "--log-level", "debug")
    secret = secret_file(cluster)
    go_on = tmp_path / "go-on"
    job_id = submit_waiting(cluster, go_on, "--secret-env", secret, "--env", "PLAIN=seen")
    wait_output(cluster, job_id)
    (file,) = secrets_folder(cluster).iterdir()
    assert holding(cluster) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert VALUE not in command_lines()
    shown = [
        cluster.ok(*words)
        for words in (
            ("show", str(job_id)),
            ("show", "--json", str(job_id)),
            ("show", "--events", str(job_id)),
            ("--json", "show", "--events", str(job_id)),
            ("queue", "--json"),
            ("why", str(job_id)),
            ("wal", "dump", str(cluster.manager_directory)),
        )
    ]
    assert not any(VALUE.encode() in each for each in shown)
    # What else is in the environment is seen there, so it was looked for in the right place.
    assert b"seen" in shown[-1]
    assert json.loads(shown[1])["secret_env"] == ["TOKEN"]
    assert b"secrets      TOKEN\n" in shown[0]
    go_on.touch()
    assert cluster.titan("wait", str(job_id)).returncode == 0
    wait_until(lambda: not list(secrets_folder(cluster).iterdir()), "the file goes")
    assert holding(cluster) == []
    assert cluster.titan("requeue", str(job_id)).returncode == 5
    # Logs tell of the job, and of no value and no token.
    host_log = (worker.directory / "host.log").read_text()
    assert '"message":"task ended"' in manager.log
    assert f"task ended job={job_id} task=0 attempt=1 worker=w1 exit_code=0" in host_log
    files = cluster.manager_directory / "access.json", worker.directory / "access.json"
    tokens = [json.loads(file.read_text())["token"] for file in files]
    told = manager.log + worker.log + host_log
    assert not [word for word in (VALUE, "seen", *tokens) if word in told]


def test_after_kill_9_of_the_manager_a_waiting_job_still_gets_it_and_orphans_go(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start_manager()
    secret = secret_file(cluster)
    go_on = tmp_path / "go-on"
    job_id = submit_waiting(cluster, go_on, "--secret-env", secret, "--array", "0-1")
    (file,) = secrets_folder(cluster).iterdir()
    cluster.kill_manager()
    # What a manager leaves that is killed between the file and the record, and while it writes.
    (file.parent / ("0" * 32)).write_bytes(file.read_bytes())
    (file.parent / f".{'1' * 32}.new").write_bytes(b"half")
    cluster.start_manager()
    assert list(file.parent.iterdir()) == [file]
    worker = cluster.start_worker("w1", "--cpus", "1")
    wait_output(cluster, job_id)
    # Nothing that runs needs the manager's file again, and what waits does.
    cluster.kill_manager()
    worker.kill()
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "1")
    go_on.touch()
    assert cluster.titan("wait", str(job_id)).returncode == 0
    assert cluster.ok("logs", str(job_id)).count(b"right") == 2
    wait_until(lambda: not list(file.parent.iterdir()), "the file goes")


def test_a_job_whose_secrets_a_restored_copy_lacks_fails_and_says_so(cluster: Cluster) -> None:
    cluster.start_manager()
    job_id = cluster.submit("--secret-env", secret_file(cluster), "true")
    cluster.kill_manager()
    for file in secrets_folder(cluster).iterdir():
        file.unlink()
    manager = cluster.start_manager()
    assert "secrets are gone, as in a restored backup: tasks will fail jobs=1" in manager.log
    cluster.start_worker("w1", "--cpus", "1")
    assert cluster.titan("wait", str(job_id)).returncode == 127
    view = cluster.json("show", str(job_id))
    assert (view["state"], view["reason"]) == ("FAILED", "LAUNCH_ERROR")
    assert view["detail"] == "its secrets are gone from the manager's disk: submit it anew"


def test_a_task_that_is_put_back_and_one_that_is_retried_have_it_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.start_manager()
    cluster.start_worker("w1", "--cpus", "2")
    with cluster.client() as client:
        go_on = tmp_path / "go-on"
        line = f'echo "$TOKEN"; until [ -e {go_on} ]; do sleep 0.05; done'
        job = client.submit(line, shell=True, secret_env={"TOKEN": VALUE})
        wait_until(lambda: client.show(job.id)["state"] == "RUNNING", "it runs")
        cluster.ok("requeue", str(job.id))
        wait_until(lambda: client.show(job.id)["attempts_total"] == 2, "it runs again")
        go_on.touch()
        assert job.wait(timeout=60)["state"] == "COMPLETED"
        assert job.output() == f"{VALUE}\n".encode()
        failing = client.submit(
            'echo "$TOKEN"; exit $((TITAN_ATTEMPT < 2))',
            shell=True,
            secret_env={"TOKEN": VALUE},
            retries=1,
        )
        assert failing.wait(timeout=60)["state"] == "COMPLETED"
        assert failing.output() == f"{VALUE}\n".encode()


def test_a_job_that_is_cancelled_while_it_waits_takes_its_secrets_along(cluster: Cluster) -> None:
    cluster.start_manager()
    job_id = cluster.submit("--secret-env", secret_file(cluster), "true")
    assert len(list(secrets_folder(cluster).iterdir())) == 1
    cluster.ok("cancel", str(job_id))
    wait_until(lambda: not list(secrets_folder(cluster).iterdir()), "the file goes")
    manager = cluster.manager
    assert manager is not None
    os.kill(manager.pid, signal.SIGTERM)
    assert manager.process.wait(60) == 0


def test_dev_runs_a_job_with_a_secret_and_tells_nobody(cluster: Cluster) -> None:
    dev = cluster.spawn("dev", "--listen", cluster.address, name="dev")
    dev.wait_log("Ctrl-C stops it all.")
    line = f'[ "$TOKEN" = "$(cat {cluster.root}/elsewhere/token)" ] && echo right'
    result = cluster.titan("run", "--secret-env", secret_file(cluster), "--shell", line)
    assert (result.returncode, result.stdout) == (0, b"right\n"), result.stderr
    folder = cluster.state / "titan" / "dev" / "manager" / "secrets"
    wait_until(lambda: not list(folder.iterdir()), "the file goes")
    assert holding(cluster) == []
    assert VALUE.encode() not in result.stderr
    assert dev.end(signal.SIGINT) == 130
    assert holding(cluster) == []
