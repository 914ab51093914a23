"""Output into files that users name, by a real task host."""

from __future__ import annotations

import os
from pathlib import Path

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import AttemptKey, Execution, Reason, State
from titan.worker.messages import Launch
from titan.worker.output import files as output_files
from titan.worker.output.reading import OutputFile

BOTH = "echo out; echo err >&2"


def sh(line: str, cwd: Path, stdout: str = "", stderr: str = "", umask: int = -1) -> Launch:
    """A line of shell whose output goes to these files."""
    execution = Execution(stdout=stdout.encode(), stderr=stderr.encode(), umask=umask)
    return launch("sh", "-c", line, cwd=os.fsencode(cwd))._replace(execution=execution)


def read(host: HostDriver, attempt: AttemptKey, suffix: bytes = b"out") -> bytes:
    """All that a reader gets of a stream."""
    file = OutputFile(os.fsencode(host.path / "output"), attempt, suffix, 0)
    data = b""
    while file.has_more():
        data += file.read().data
    file.close()
    return data


def test_each_stream_goes_to_its_file_in_the_tasks_directory(
    host: HostDriver, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    (folder / "logs").mkdir(parents=True)
    absolute = tmp_path / "absolute.err"
    attempt = host.run_launch(sh(BOTH, folder, "logs/%n-%j.%i.%a%%", str(absolute)))
    assert host.wait_end(attempt).state is State.COMPLETED
    assert (folder / "logs" / "job-1-1.0.1%").read_text() == "out\n"
    assert absolute.read_text() == "err\n"
    assert (read(host, attempt), read(host, attempt, b"err")) == (b"out\n", b"err\n")


def test_one_named_stream_leaves_the_other_where_it_was(host: HostDriver, tmp_path: Path) -> None:
    attempt = host.run_launch(sh(BOTH, tmp_path, stderr="named"))
    host.wait_end(attempt)
    assert (tmp_path / "named").read_text() == "err\n"
    assert host.output(attempt) == b"out\n"
    assert not Path(os.fsdecode(host.output_path(attempt))).is_symlink()


def test_what_is_there_stays_and_is_not_the_tasks_output(host: HostDriver, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    attempt = host.run_launch(sh(BOTH, tmp_path, "log", "log"))
    host.wait_end(attempt)
    assert sorted((tmp_path / "log").read_text().split()) == ["before", "err", "out"]
    assert read(host, attempt) == b"out\nerr\n"
    file = OutputFile(os.fsencode(host.path / "output"), attempt, b"out", 0)
    file.seek_tail(1)
    assert file.read().data == b"err\n"
    file.seek_tail(9)
    assert file.offset == 0
    file.close()


def test_tasks_of_an_array_may_share_a_file_and_lose_no_line(
    host: HostDriver, tmp_path: Path
) -> None:
    line = 'n=0; while [ $n -lt 50 ]; do echo "$TITAN_TASK_INDEX $n"; n=$((n+1)); done'
    host.send_batch(batch(sh(line, tmp_path, "all"), indexes=range(8)))
    for index in range(8):
        host.wait_end(key(index=index))
    lines = (tmp_path / "all").read_text().splitlines()
    assert sorted(lines) == sorted(f"{index} {n}" for index in range(8) for n in range(50))


def test_a_file_is_made_with_the_umask_of_the_task(host: HostDriver, tmp_path: Path) -> None:
    host.wait_end(host.run_launch(sh(BOTH, tmp_path, "private", umask=0o077)))
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_a_launch_error_that_says_why(
    host: HostDriver, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cases = {
        "absent/log": "there is no directory absent",
        "folder": "Is a directory",
        "pipe": "it is no file",
    }
    for job_id, (name, why) in enumerate(cases.items(), 1):
        task = sh(BOTH, tmp_path, name)._replace(job_id=job_id)
        report = host.wait_end(host.run_launch(task))
        sentence = f"cannot write stdout to {name} on w1: {why}"
        assert (report.reason, report.detail) == (Reason.LAUNCH_ERROR, sentence)


def test_an_older_link_of_the_same_name_is_not_followed(host: HostDriver, tmp_path: Path) -> None:
    """A directory that is given to a new cluster has output of jobs with the same numbers."""
    precious = tmp_path / "precious"
    precious.write_text("data")
    for umask in (-1, 0o022):
        attempt = key(job_id=5 + umask)
        own = Path(os.fsdecode(host.output_path(attempt)))
        own.parent.mkdir(parents=True)
        own.symlink_to(precious)
        task = sh(BOTH, tmp_path, umask=umask)._replace(job_id=attempt.job_id)
        host.run_launch(task)
        assert host.wait_end(attempt).state is State.COMPLETED
        assert host.output(attempt) == b"out\n"
    assert precious.read_text() == "data"


def test_a_named_file_is_neither_cut_nor_removed(driver: HostDriver, tmp_path: Path) -> None:
    driver.start()
    driver.connect(output_max_bytes=1 << 16)
    attempt = driver.run_launch(sh("head -c 1M /dev/zero", tmp_path, "big"))
    assert driver.wait_end(attempt).state is State.COMPLETED
    big = tmp_path / "big"
    assert big.stat().st_blocks * 512 >= 1 << 20
    output = os.fsencode(driver.path / "output")
    entries = output_files.measure(output, {attempt[1:]: int(big.stat().st_mtime) + 10})
    assert len(entries) == 1
    assert output_files.remove(output, entries) == entries
    assert os.listdir(output) == []
    assert big.stat().st_size == 1 << 20


def test_what_left_its_group_is_found_by_its_named_files_after_a_crash_of_the_host(
    host: HostDriver, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    line = "setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 300' & wait"
    host.run_launch(sh(line, tmp_path, "link/log", "link/log"))
    wait_for((tmp_path / "pid").exists, "the child")
    child = int((tmp_path / "pid").read_text())
    host.kill()
    host.start()
    host.connect()
    wait_for(lambda: not is_running(child), "the child to be ended")
