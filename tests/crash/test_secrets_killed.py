"""A manager that is killed between the file of a secret and the record of its submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_until
from tests.crash import strace
from tests.crash.strace import Fault

VALUE = b"hunter2"


@pytest.mark.parametrize(
    ("call", "is_whole"),
    [
        # Of the file to its name, and of the folder, after which it would stay.
        ("rename", False),
        ("fsync", True),
    ],
)
def test_the_submit_is_repeated_and_what_was_left_of_the_first_try_is_removed(
    tmp_path: Path, call: str, is_whole: bool
) -> None:
    strace.require_strace()
    (tmp_path / "token").write_bytes(VALUE)
    with Cluster(tmp_path / "cluster") as cluster:
        manager = cluster.start_manager()
        folder = cluster.manager_directory / "secrets"
        options = strace.make_options(tmp_path / "out", [folder], Fault(call, 1, "KILL"))
        cluster.spawn_other("strace", *options, "-p", str(manager.pid)).wait_log("attached")
        command = cluster.popen(
            *("submit", "-q", "--secret-env", f"TOKEN=@{tmp_path}/token", "--retry-for", "60s"),
            *("--shell", 'printf %s "$TOKEN"'),
        )
        assert manager.process.wait(60) == -9
        (left,) = folder.iterdir()
        assert (left.suffix == ".new") is not is_whole
        assert VALUE in left.read_bytes()
        cluster.start_manager()
        out, err = command.communicate(timeout=60)
        assert out == b"1\n", err
        (file,) = folder.iterdir()
        assert file.name not in left.name
        cluster.start_worker("w1", "--cpus", "1")
        assert cluster.titan("wait", "1").returncode == 0
        assert cluster.ok("logs", "1") == VALUE
        wait_until(lambda: not list(folder.iterdir()), "the file goes")
        assert len(cluster.json("queue", "--all")) == 1
