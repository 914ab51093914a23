"""The errors on their way from a server to a client: code, trailers, and back."""

from __future__ import annotations

import grpc
import pytest

from titan import errors
from titan.rpc import status


@pytest.mark.parametrize("leader", ["", "b.example:50051", "[::1]:50051"])
def test_who_does_not_lead_says_so_and_who_does(leader: str) -> None:
    error = errors.NotLeader("this manager is a standby", leader=leader)
    assert status.status_of(error) is grpc.StatusCode.UNAVAILABLE
    assert status.not_leader(status.trailers_of(error)) == leader


@pytest.mark.parametrize(
    "error", [errors.StillReading("it reads"), errors.ManagerUnreachable("away")]
)
def test_another_that_is_unavailable_is_not_taken_for_one_that_does_not_lead(
    error: errors.TitanError,
) -> None:
    assert status.status_of(error) is grpc.StatusCode.UNAVAILABLE
    assert status.not_leader(status.trailers_of(error)) is None
    assert status.not_leader(None) is None


def test_unavailable_without_trailers_is_a_manager_out_of_reach() -> None:
    error = status.error_of(grpc.StatusCode.UNAVAILABLE, "connection refused")
    assert type(error) is errors.ManagerUnreachable
