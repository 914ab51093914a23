"""The cluster that the tests of commands share; each waits for its own jobs to end."""

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A manager and two workers, one of them with two gpus."""
    with Cluster(tmp_path_factory.mktemp("shared") / "cluster") as cluster:
        cluster.start_manager()
        cluster.start_worker("w1", "--cpus", "6", "--resource", "gpu=2", "--label", "zone=a")
        cluster.start_worker("w2", "--cpus", "6")
        yield cluster
