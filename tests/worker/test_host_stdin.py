"""What tasks of a real host read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.worker import builders
from tests.worker.builders import key, launch
from tests.worker.host_driver import HostDriver, wait_for
from titan.model import Execution, Reason, State
from titan.worker.messages import Launch


def reading(stdin: bytes, *command: str, cwd: Path, job_id: int = 1) -> Launch:
    execution = Execution(stdin=stdin)
    words = command or ("cat",)
    return launch(*words, job_id=job_id, cwd=os.fsencode(cwd), execution=execution)


def test_a_task_reads_its_file_from_its_directory_and_nothing_more_is_open(
    host: HostDriver, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"a\xff\n")
    assert host.wait_end(host.run_launch(reading(b"in", cwd=tmp_path))).state is State.COMPLETED
    assert host.output(key()) == b"a\xff\n"
    # The listing itself is the fourth.
    listing = reading(b"in", "ls", "/proc/self/fd", cwd=tmp_path, job_id=2)
    host.wait_end(host.run_launch(listing))
    assert host.output(key(2)).split() == [b"0", b"1", b"2", b"3"]


def test_each_task_of_an_array_reads_its_own_file(host: HostDriver, tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"job-7-1.{index}").write_text(f"{index}\n")
    array = reading(b"%n-%j-%a.%i", cwd=tmp_path, job_id=7)._replace(job_name="job", array_count=3)
    host.send_batch(builders.batch(array, indexes=range(3)))
    for index in range(3):
        assert host.wait_end(key(7, index)).state is State.COMPLETED
        assert host.output(key(7, index)) == b"%d\n" % index


def test_a_task_that_was_given_no_file_still_reads_nothing(
    host: HostDriver, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("x")
    host.wait_end(host.run_launch(reading(b"in", cwd=tmp_path)))
    host.wait_end(host.run("cat", job_id=2))
    assert (host.output(key()), host.output(key(2))) == (b"x", b"")


def test_a_device_can_be_read(host: HostDriver, tmp_path: Path) -> None:
    zeros = reading(b"/dev/zero", "head", "-c", "3", cwd=tmp_path)
    assert host.wait_end(host.run_launch(zeros)).state is State.COMPLETED
    assert host.output(key()) == b"\0\0\0"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"none", "cannot read stdin from none on w1: No such file or directory"),
        (b"folder", "cannot read stdin from folder on w1: it is a directory"),
        (b"folder/x/y", "No such file or directory"),
        (b"fifo", "cannot read stdin from fifo on w1: it is a pipe, and no file"),
        (b"socket", "cannot read stdin from socket on w1: No such device or address"),
        (b"loop", "Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_read_is_a_launch_error_and_holds_nobody_up(
    host: HostDriver, tmp_path: Path, name: bytes, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(tmp_path / "socket"))
        report = host.wait_end(host.run_launch(reading(name, cwd=tmp_path)))
    assert (report.state, report.reason) == (State.FAILED, Reason.LAUNCH_ERROR)
    assert words in report.detail
    # The host goes on, with no more open than before.
    assert host.wait_end(host.run("true", job_id=2)).state is State.COMPLETED


def test_many_tasks_with_files_leave_none_open(host: HostDriver, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x")
    assert host.process is not None
    descriptors = Path(f"/proc/{host.process.pid}/fd")
    host.wait_end(host.run("true", job_id=1_000))
    before = len(list(descriptors.iterdir()))
    array = reading(b"in", "true", cwd=tmp_path)._replace(array_count=200)
    missing = reading(b"in", "/no/such", cwd=tmp_path, job_id=2)._replace(array_count=200)
    host.send_batch(builders.batch(array, missing, indexes=range(200)))
    for job_id in (1, 2):
        for index in range(200):
            host.wait_end(key(job_id, index))
    # What it does beside that may have a file open at the moment.
    wait_for(lambda: len(list(descriptors.iterdir())) == before, "as many to be open as before")
