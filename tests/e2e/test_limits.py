"""Limits of real tasks as their users see them: asked for, shown, and told when they are broken."""

from __future__ import annotations

import sys

from tests.cluster import Cluster
from titan.worker.host.cgroup_mounts import find_hierarchies

# Uses more and more memory, which a machine would not stand for long.
HOG = "import sys\nkept = []\nwhile True: kept.append(bytearray(8 << 20))"


def test_who_uses_more_memory_than_he_asked_for_is_told_so_and_run_exits_with_137(
    shared: Cluster,
) -> None:
    result = shared.titan("run", "--memory", "64M", sys.executable, "-c", HOG)
    assert result.returncode == 137
    assert "FAILED: OOM, out of its 64M of memory" in result.stderr.decode()
    view = shared.json("show", "last")
    assert (view["state"], view["reason"], view["signal"]) == ("FAILED", "OOM", 9)
    assert shared.titan("wait", "last").returncode == 137
    listed = shared.ok("queue", "--all", "--limit", "1", "--me").decode()
    assert "OOM, out of its 64M of memory" in listed


def test_limits_are_what_the_task_sees_and_show_tells(shared: Cluster) -> None:
    options = ("--ulimit", "nofile=64:128", "--ulimit", "core=0", "--pin", "--umask", "027")
    line = "ulimit -Sn; ulimit -Hn; ulimit -c; umask; nproc"
    result = shared.titan("run", *options, "--shell", line)
    assert result.stdout.split() == [b"64", b"128", b"0", b"0027", b"1"]
    view = shared.json("show", "last")
    assert view["ulimits"] == {"core": [0, 0], "nofile": [64, 128]}
    assert (view["pin"], view["umask"], view["pids_limit"]) == (True, "0027", None)
    told = "runs with    umask 0027, core=0, nofile=64:128, cpus of its own\n"
    assert told in shared.ok("show", "last").decode()


def test_a_limit_on_processes_is_kept_or_refused_but_never_forgotten(shared: Cluster) -> None:
    line = "for each in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait; exit 0"
    result = shared.titan("run", "--pids-limit", "4", "--shell", line)
    view = shared.json("show", "last")
    if any("pids" in each.controllers for each in find_hierarchies()[0]):
        assert result.returncode == 2
        assert "it was refused more than 4 processes (--pids-limit)" in view["detail"]
    else:
        assert result.returncode == 127
        assert "--pids-limit cannot be kept here" in view["detail"]


def test_how_a_worker_keeps_limits_is_in_the_list_of_workers(shared: Cluster) -> None:
    (limits,) = {worker["limits"] for worker in shared.json("workers")}
    names = [part.split(": ")[0] for part in limits.split(", ")]
    assert names == ["memory", "pids", "cpu"]
    memory = limits.split(", ")[0].split(": ")[1]
    assert memory in {"cgroup v2", "cgroup v1", "watched"}
    assert memory in shared.ok("workers").decode()


def test_limits_that_make_no_sense_are_refused_with_what_does(shared: Cluster) -> None:
    for options, why in (
        (("--memory", "8M"), "8M of memory are less than a program's start takes"),
        (("--pin", "--cpus", "0.5"), "0.5 cpus cannot be pinned: ask for whole ones"),
        (("--ulimit", "files=3"), "'files' is no resource limit; there are: as, core"),
        (("--ulimit", "nofile"), "write it as NAME=SOFT[:HARD]"),
        (("--pids-limit", "0"), "0 is not in the range x>=1"),
    ):
        result = shared.titan("submit", *options, "true")
        assert result.returncode == 2
        assert why in result.stderr.decode()
