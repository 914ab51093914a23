"""Files that tasks read, from the command line to the worker and to those who ask."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import Cluster


def test_each_task_of_an_array_reads_its_own_file(shared: Cluster, tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"{index}.txt").write_text(f"text {index}\n")
    where = ["--cwd", str(tmp_path), "--stdin", "%i.txt"]
    result = shared.titan("run", *where, "--array", "0-2", "cat")
    assert result.returncode == 127
    view = shared.json("show", "last")
    job = view["job_id"]
    assert sorted(result.stdout.splitlines()) == [b"%d.%d| text %d" % (job, n, n) for n in (0, 1)]
    assert view["stdin"] == "%i.txt"
    (failed,) = (each for each in view["attempts"] if each["state"] == "FAILED")
    assert (failed["index"], failed["reason"]) == (2, "LAUNCH_ERROR")
    assert failed["detail"].startswith("cannot read stdin from 2.txt on w")
    assert b"runs with    stdin from %i.txt\n" in shared.ok("show", str(job))


def test_a_stdin_with_an_unknown_sign_is_a_usage_error(shared: Cluster) -> None:
    result = shared.titan("submit", "--stdin", "%x", "cat")
    assert result.returncode == 2
    assert b"stands for nothing" in result.stderr
