"""The cluster that the tests of commands share; each waits for its own jobs to end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.strays import nothing_left


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A manager and two workers, one of them with two gpus."""
    with Cluster(tmp_path_factory.mktemp("shared") / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "6", "--resource", "gpu=2", "--label", "zone=a")
        cluster.start_worker("w2", "--cpus", "6")
        yield cluster


@pytest.fixture(autouse=True)
def nothing_is_left_by_the_test(tmp_path: Path) -> Iterator[None]:
    """Fails a test that leaves a process or a control group."""
    with nothing_left(tmp_path):
        yield
