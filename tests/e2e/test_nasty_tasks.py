"""What the worst tasks look like to their users; all are in `tests/worker/test_nasty_tasks.py`."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.cluster import Cluster
from tests.crash.small_disk import skip_unless_ci
from tests.worker.test_nasty_tasks import BOMB, CONTROLLERS, FORK_LOOPS, HIDDEN, HOG

# Their processes are gone after each test: those of the shared workers are looked for, too.


def test_a_fork_bomb_is_told_with_its_limit_and_its_own_exit_code(shared: Cluster) -> None:
    if "pids" not in CONTROLLERS:
        skip_unless_ci("control groups for pids cannot be made here")
    result = shared.titan("run", "--pids-limit", "40", sys.executable, "-c", BOMB)
    assert result.returncode == 7
    view = shared.json("show", "last")
    assert (view["state"], view["reason"], view["exit_code"]) == ("FAILED", "EXIT", 7)
    assert "refused more than 40 processes (--pids-limit)" in view["detail"]


def test_a_daemon_that_allocates_ends_its_task_as_out_of_memory(shared: Cluster) -> None:
    line = f'(setsid {sys.executable} -c "{HOG}" &); sleep 300'
    result = shared.titan("run", "--memory", "100M", "--shell", line)
    assert result.returncode == 137
    view = shared.json("show", "last")
    assert (view["state"], view["reason"]) == ("FAILED", "OOM")
    assert view["detail"].startswith("out of its 100M of memory")


def test_a_daemon_that_hides_ends_with_a_task_that_completes(shared: Cluster) -> None:
    assert shared.titan("run", "--shell", HIDDEN).returncode == 0
    assert shared.json("show", "last")["state"] == "COMPLETED"


@pytest.mark.parametrize("name", FORK_LOOPS)
def test_what_forks_for_ever_is_cancelled(shared: Cluster, name: str) -> None:
    code = FORK_LOOPS[name].replace("END", "time.sleep(300)")
    job = shared.submit(sys.executable, "-c", code)
    with shared.popen("logs", "--follow", str(job)) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"up\n"
        shared.ok("cancel", str(job))
        assert shared.titan("wait", str(job)).returncode == 130
        following.communicate(timeout=60)
    view = shared.json("show", str(job))
    (attempt,) = view["attempts"]
    assert (view["state"], attempt["signal"]) == ("CANCELLED", signal.SIGTERM)
