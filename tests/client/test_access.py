"""When a client gives up because both sides do not come to terms, and when it tries on."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from titan.client import connection
from titan.client.connection import Access, Credentials
from titan.client.retry import Failure
from titan.errors import AccessDenied

ADDRESS = "127.0.0.1:6000"
AWAY = Failure(grpc.StatusCode.UNAVAILABLE, "x")


class Scene:
    """What a handshake by hand is told, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.why = "its certificate has expired"
        self.now = 1000.0
        self.handshakes = 0
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setattr("titan.rpc.handshake.explain_failure", self._explain)
        monkeypatch.setattr(f"{connection.__name__}.time.monotonic", lambda: self.now)
        self.access = Access(ADDRESS, Credentials(tls_dir="none"))

    def _explain(self, address: str, files: object) -> str:
        assert (address, files) == (ADDRESS, None)
        self.handshakes += 1
        return self.why


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    monkeypatch.delenv("TITAN_TOKEN", raising=False)
    return Scene(monkeypatch, tmp_path)


def test_what_fails_for_the_same_reason_twice_in_turn_is_given_up(scene: Scene) -> None:
    scene.access.explain(AWAY)
    scene.now += 1
    with pytest.raises(AccessDenied, match=f"{ADDRESS} can't be spoken to: its certificate has"):
        scene.access.explain(AWAY)


def test_once_or_for_another_reason_or_long_after_it_is_tried_again(scene: Scene) -> None:
    """Somebody changes certificates, today and again in a month."""
    scene.access.explain(AWAY)
    scene.why = "another reason"
    scene.access.explain(AWAY)
    scene.now += 86_400
    scene.access.explain(AWAY)
    scene.why = ""
    scene.access.explain(AWAY)
    scene.access.explain(AWAY)
    scene.why = "another reason"
    scene.access.explain(AWAY)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time"),
        Failure(grpc.StatusCode.UNAVAILABLE, "it reads", is_still_reading=True),
        Failure(grpc.StatusCode.NOT_FOUND, "there is no job 7"),
    ],
)
def test_what_a_manager_said_needs_no_handshake(scene: Scene, failure: Failure) -> None:
    for _ in range(3):
        scene.access.explain(failure)
    assert scene.handshakes == 0
