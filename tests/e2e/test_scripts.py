"""A script from the file in which it was written to the worker that runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

import titan
from tests.cluster import Cluster

SCRIPT = """#!/bin/bash
#TITAN --cpus 2 --array 0-2
#TITAN --env "GREETING=good morning"
#SBATCH --mem=4G
set -u
echo "$GREETING, $1 $TITAN_TASK_INDEX $TITAN_CPUS"
exit "$TITAN_TASK_INDEX"
"""


def test_a_script_runs_with_its_options_and_arguments_and_can_be_seen_again(
    shared: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "hello.sh"
    path.write_text(SCRIPT)
    result = shared.titan("run", "--script", str(path), "Ada")
    assert result.returncode == 1, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        b"%d.%d| good morning, Ada %d 2" % (job_of(shared), each, each) for each in range(3)
    ]
    assert b"ignored #SBATCH (lines: 4)" in result.stderr
    path.unlink()
    assert shared.ok("show", "last", "--script") == SCRIPT.encode()
    view = shared.json("show", "last")
    assert (view["name"], view["command"]) == ("hello.sh", ["hello.sh", "Ada"])


def job_of(shared: Cluster) -> int:
    number: int = shared.json("show", "last")["job_id"]
    return number


def test_a_script_that_nothing_could_run_is_refused_at_the_submit(
    shared: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "job.sh"
    for text, words in (("echo x\n", b"add one, such as #!/bin/sh"), ("#!/bin/sh\r\n", b"CR LF")):
        path.write_bytes(text.encode())
        result = shared.titan("submit", "--script", str(path))
        assert result.returncode == 2
        assert words in result.stderr


def test_a_script_from_python_and_one_of_the_worker(shared: Cluster, tmp_path: Path) -> None:
    with shared.client() as client:
        text = "import sys\nprint(sys.argv[1:])\n"
        job = client.submit(["a", "b"], script=text, interpreter="python3 -I")
        assert job.wait(timeout=60)["state"] == "COMPLETED"
        assert job.output() == b"['a', 'b']\n"
        elsewhere = client.submit(worker_script="x.sh").wait(timeout=60)
        assert (elsewhere["reason"], elsewhere["script"]) == ("LAUNCH_ERROR", "worker")
        assert "--scripts-dir" in elsewhere["detail"]
        with pytest.raises(titan.InvalidJob, match="#! line"):
            client.submit(script=b"echo x")
