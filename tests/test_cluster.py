"""What the real clusters of the tests stand on."""

from __future__ import annotations

import pytest

from tests.cluster import free_port, own_ports


def test_no_port_is_given_to_two_of_the_processes_that_run_tests_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    shares = []
    for number in range(4):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        shares.append(set(own_ports()))
        assert free_port() in shares[-1]
    assert len(set.union(*shares)) == sum(map(len, shares)) == 15_000
    # The one that takes the place of the second when that has crashed.
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw5")
    assert set(own_ports()) == shares[1]


def test_no_port_is_given_twice() -> None:
    given = [free_port() for _ in range(200)]
    assert len(set(given)) == len(given)
