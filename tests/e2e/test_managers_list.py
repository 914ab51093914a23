"""Commands, clients and workers that know two managers, of which one is there."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import Cluster, free_port, wait_until


def test_work_goes_on_when_the_manager_comes_back_at_the_other_address(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first, second = f"127.0.0.1:{free_port()}", cluster.address
        both = f"{first},{second}"
        cluster.environment["TITAN_MANAGER"] = both
        cluster.start_manager()
        worker = cluster.start_worker()
        told = cluster.ok("run", "--", "sh", "-c", "echo $TITAN_MANAGER")
        assert told.decode().strip() == both
        sleeper = cluster.submit("sh", "-c", "while [ ! -e go ]; do sleep 0.1; done")
        wait_until(lambda: cluster.json("show", str(sleeper))["state"] == "RUNNING", "it runs")
        waiting = cluster.popen("wait", str(sleeper))
        cluster.wait_connected(waiting)
        cluster.kill_manager()
        # The same log, as another manager would take it up.
        cluster.address = first
        cluster.start_manager()
        wait_until(lambda: worker.log.count("registered with the manager") > 1, "it registers")
        (tmp_path / "go").touch()
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, (out, err)
        assert cluster.submit("true") == sleeper + 1
        assert len(cluster.json("show", str(sleeper))["attempts"]) == 1
        cluster.kill_manager()
        refused = cluster.titan("stats")
        assert refused.returncode == 3
        said = refused.stderr.decode()
        assert all(f"{each}: connection refused" in said for each in (first, second))
