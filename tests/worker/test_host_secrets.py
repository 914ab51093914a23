"""Secrets on the worker: in the task's environment, and nowhere else."""

from __future__ import annotations

import traceback
from pathlib import Path

import msgpack
import pytest

from tests.worker import builders
from tests.worker.builders import key, launch
from tests.worker.host_driver import HostDriver
from tests.worker.test_host_connection import Written, connection
from titan.model import Reason, State
from titan.worker import protocol
from titan.worker.host.environment import TaskEnvironments
from titan.worker.messages import Environment, Launch, StartBatch

VALUE = b"hunter2\xff\n and more"
SECRETS = Environment((), ((b"A", b"set"),), secrets=((b"TOKEN", VALUE),))
SHOW = 'printf %s "$TOKEN"; until [ -e "$0" ]; do sleep 0.02; done'


def with_environment(environment: Environment, *launches: Launch) -> StartBatch:
    return builders.batch(*launches)._replace(environments=(environment,))


def test_they_win_over_what_was_exported_and_lose_against_what_titan_sets() -> None:
    built = TaskEnvironments({b"PATH": b"/bin"}, "w1", "m")
    environment = Environment(
        ((b"TOKEN", b"exported"),),
        (),
        secrets=((b"TOKEN", VALUE), (b"TITAN_JOB_ID", b"mine"), (b"CUDA_VISIBLE_DEVICES", b"9")),
    )
    variables = built.build(key(7), launch(job_id=7), environment, (("gpu", ("0",)),))
    assert variables[b"TOKEN"] == VALUE
    assert variables[b"TITAN_JOB_ID"] == b"7"
    assert variables[b"CUDA_VISIBLE_DEVICES"] == b"9"


def test_none_is_kept_for_the_next_task() -> None:
    built = TaskEnvironments({b"PATH": b"/bin"}, "w1", "m")
    built.build(key(), launch(), SECRETS)
    assert VALUE not in repr(vars(built)).encode("unicode_escape")
    assert "hunter2" not in repr(vars(built))
    bare = SECRETS._replace(secrets=())
    assert b"TOKEN" not in built.build(key(), launch(), bare)


def test_a_task_has_them_and_no_file_of_the_worker_does(host: HostDriver, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    task = launch("/bin/sh", "-c", SHOW, str(go_on))
    host.send_batch(with_environment(SECRETS, task))
    host.wait_start(key())
    host.wait_output(key())
    while_it_ran = _holding(host.path)
    go_on.touch()
    assert host.wait_end(key()).state is State.COMPLETED
    assert host.output(key()) == VALUE
    (output,) = (path for path in _holding(host.path))
    assert output.suffix == ".out", "the task wrote it there itself"
    assert all(path.suffix == ".out" for path in while_it_ran)


def test_a_program_that_a_client_starts_has_them_too(host: HostDriver) -> None:
    host.send(protocol.StartDirect(1, (SECRETS,), (launch("/bin/sh", "-c", 'printf %s "$TOKEN"'),)))
    (output,) = host.wait_until(lambda: _holding(host.path) or None)
    assert output.suffix == ".out"


def test_without_the_values_nothing_is_run(host: HostDriver, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    environment = Environment((), (), secrets_fault="its secrets are gone")
    host.send_batch(with_environment(environment, launch("/bin/touch", str(trace))))
    report = host.wait_end(key())
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert report.detail == "its secrets are gone"
    assert not trace.exists()


@pytest.mark.parametrize("environment", [SECRETS, Environment((), (), secrets_fault="gone")])
def test_an_older_host_is_given_nothing_that_it_would_run_without(
    environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    plain, secret = launch(), launch(job_id=2)._replace(environment=1)
    todo = builders.batch(plain, secret)._replace(environments=(Environment((), ()), environment))
    assert connection(protocol.VERSION_MINOR).startable(todo) == todo
    older = connection(protocol.MINOR_SECRETS - 1)
    assert not caplog.records
    assert older.startable(todo).starts == todo.starts[:1]
    assert "starts nothing that has secrets" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_goes_to_the_host_comes_out_of_the_frame_as_it_went_in() -> None:
    written = Written()
    todo = with_environment(SECRETS._replace(secrets_fault="x"), launch())
    connection(protocol.VERSION_MINOR, written).send(protocol.StartTasks(todo))
    assert written.messages == [protocol.StartTasks(todo)]


@pytest.mark.parametrize("spoil", ["extra", "short", "fields"])
def test_what_cannot_be_read_of_a_frame_is_not_repeated(spoil: str) -> None:
    todo = with_environment(SECRETS, launch())
    payload = protocol.encode(protocol.StartTasks(todo))[4:]
    bad = {
        "extra": payload + b"\1",
        "short": payload[:-1],
        "fields": msgpack.packb([3, [[[[], [], b"", [[b"TOKEN", VALUE]]]], [[VALUE]], [], []]]),
    }[spoil]
    with pytest.raises(protocol.ProtocolError) as caught:
        protocol.decode(bad)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def _holding(folder: Path) -> list[Path]:
    """The files below it that have the value in them."""
    return [
        path for path in folder.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()
    ]
