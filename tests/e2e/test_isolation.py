"""Isolation as users and administrators meet it: sandboxes, accounts, and who is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import titan
from tests.cluster import Cluster, wait_until
from tests.worker.isolation import require_bubblewrap, require_root


def labels_of(cluster: Cluster, name: str = "w1") -> dict[str, str]:
    labels: dict[str, str] = next(
        each["labels"] for each in cluster.json("workers") if each["name"] == name
    )
    return labels


def test_a_job_in_a_sandbox_writes_to_its_directory_alone(shared: Cluster, tmp_path: Path) -> None:
    require_bubblewrap()
    assert labels_of(shared)["titan.sandbox"] == "bubblewrap"
    line = "touch here; touch /etc/theirs 2>/dev/null || echo read-only; grep -c : /proc/net/dev"
    printed = shared.ok(
        "run", "--sandbox", "bubblewrap", "--no-network", "--cwd", str(tmp_path), "--shell", line
    )
    assert printed == b"read-only\n1\n"
    assert (tmp_path / "here").exists()
    view = shared.json("show", "last")
    assert (view["sandbox"], view["no_network"], view["run_as"]) == ("bubblewrap", True, None)
    assert b"in bubblewrap, without network\n" in shared.ok("show", "last")
    # What keeps it there is not what its user asked of labels.
    assert view["constraints"] == []
    assert shared.titan("run", "--sandbox", "bubblewrap", "--shell", "exit 7").returncode == 7
    killed = shared.titan("run", "--sandbox", "bubblewrap", "--shell", "kill -9 $$")
    assert killed.returncode == 128 + 9
    with shared.client() as client:
        job = client.submit(["cat", "/proc/1/comm"], sandbox="bubblewrap")
        assert job.wait(timeout=60)["state"] == "COMPLETED"
        assert job.output() != Path("/proc/1/comm").read_bytes()


def test_a_flow_may_ask_for_sandboxes(shared: Cluster, tmp_path: Path) -> None:
    require_bubblewrap()
    flow = tmp_path / "flow.toml"
    flow.write_text('[job.a]\ncommand = ["true"]\nsandbox = "bubblewrap"\nno_network = true\n')
    job = int(shared.ok("submit", "--file", str(flow), "--wait", "-q").split()[0])
    view = shared.json("show", str(job))
    assert (view["state"], view["sandbox"]) == ("COMPLETED", "bubblewrap")


def test_without_network_alone_makes_no_sense(shared: Cluster) -> None:
    result = shared.titan("submit", "--no-network", "true")
    assert result.returncode == 2
    assert b"add --sandbox bubblewrap" in result.stderr


@pytest.mark.parametrize("verb", ["submit", "run", "plan"])
def test_who_is_not_proven_runs_nothing_as_another(shared: Cluster, verb: str) -> None:
    result = shared.titan(verb, "--user", "nobody", "true")
    # `run` exits as its job does, and with this where there is none.
    assert result.returncode == (125 if verb == "run" else 5)
    assert b"--user nobody: who submits it has to be proven" in result.stderr
    with shared.client() as client, pytest.raises(titan.PermissionDenied, match="proven"):
        client.submit(["true"], user="nobody")


def test_a_worker_tells_its_policy_and_what_becomes_of_it(tmp_path: Path) -> None:
    require_root()
    policy = tmp_path / "policy.toml"
    policy.write_text('"*" = ["self"]\n')
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--run-as-policy", str(policy))
        assert labels_of(cluster)["titan.run-as"] == "*:self"
        policy.write_text('ada = ["nobody", "root"]\n')
        wait_until(
            lambda: labels_of(cluster).get("titan.run-as") == "ada:nobody,ada:root",
            "the new policy to be told",
        )
        policy.write_text("ada = ")
        wait_until(
            lambda: "titan.run-as" not in labels_of(cluster), "nothing to be allowed any more"
        )


def test_a_policy_that_others_could_have_written_is_not_taken(
    tmp_path: Path, shared: Cluster
) -> None:
    require_root()
    policy = tmp_path / "policy.toml"
    policy.write_text('"*" = ["self"]\n')
    policy.chmod(0o666)
    options = ("worker", "--data-dir", str(tmp_path / "worker"), "--run-as-policy", str(policy))
    result = shared.titan(*options)
    assert result.returncode == 1
    assert b"has to be owned by root, and writable by nobody else" in result.stderr
    policy.chmod(0o644)
    policy.write_text('ada = "batch"\n')
    result = shared.titan(*options)
    assert result.returncode == 1
    assert b"ada needs a list of accounts" in result.stderr
    os.unlink(policy)
    assert b"No such file or directory" in shared.titan(*options).stderr


def test_labels_of_titans_own_are_nobodys_to_give(tmp_path: Path, shared: Cluster) -> None:
    result = shared.titan(
        "worker", "--data-dir", str(tmp_path / "worker"), "--label", "titan.run-as=*:self"
    )
    assert result.returncode == 1
    assert b"--label titan.run-as: it is one of Titan's own" in result.stderr
